"""``segue explain``: all about one file, and what would be done next."""

import contextlib
import difflib
from datetime import UTC, datetime
from typing import Any

import msgspec

from segue.errors import ConfigurationError
from segue.ingest.media_stat import Sight, sight
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Query
from segue.model.location import file_uris
from segue.model.record import Record
from segue.reports.explanation import Explanation, JobAccount, explanation, holder
from segue.reports.lineage import LineageReader
from segue.stack import Stack
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.hints import remedy
from segue_cli.parameters import File, Jobs, known_jobs
from segue_cli.views.explanation import draw

NEIGHBOURS = 1000


@command(
    settings=("graph", "catalogue", "ledger"),
    examples=(
        "segue explain music/song.flac",
        "segue explain gs://acme-audio/masters/song.flac --job energy --json",
    ),
)
def explain(context: Context, file: File, jobs: Jobs = None) -> None:
    """Tell all about one file, and what would be done next.

    For each job: how far it is; if its result is not current, why not; where the artifact is and
    whether it is still there; how long it took; what failed and what to do about it. Then what the
    artifacts say they were made from, and what a backfill (of the jobs that are named, or of all)
    would do.
    """
    targets = known_jobs(context.graph, jobs)
    with context.open() as stack, contextlib.closing(LineageReader()) as reader:
        found, record = _find(stack, file)
        told = explanation(
            stack.graph, record, found, targets, reader, now=datetime.now(UTC), lost=is_lost
        )
    if context.output.as_json:
        context.output.json(_document(context.graph, told))
    else:
        context.output.print(draw(told))


def _find(stack: Stack, file: str) -> tuple[Sight, Record | None]:
    """Decide which URI is meant: the first that the ledger knows, else the first that exists."""
    uris = file_uris(file, stack.graph.catalogue)
    records = [s.record for s in stack.ledger.read(uris)]
    for uri, record in zip(uris, records, strict=True):
        if record is not None:
            return sight(uri), record
    for uri in uris:
        if not (found := sight(uri)).gone:
            return found, None
    raise ConfigurationError(
        f"{file!r} is neither in the ledger nor a file that exists; {_near(stack, uris[0])}"
    )


def _near(stack: Stack, uri: str) -> str:
    """Name files of the ledger that may have been meant."""
    folder, _, name = uri.rpartition("/")
    for start in (f"{folder}/{name[:3]}", f"{folder}/"):
        uris = [r.uri for r in stack.ledger.find(Query(prefix=start), limit=NEIGHBOURS)]
        if close := difflib.get_close_matches(uri, uris, n=3):
            return f"did you mean {' or '.join(map(repr, close))}?"
    return "write a path, a URI as 'segue failures' shows them, or a name below the catalogue"


def _document(graph: Graph, told: Explanation) -> dict[str, Any]:
    record = told.record
    return {
        "uri": told.uri,
        "in_ledger": record is not None,
        "exists": None if told.sight.unknown else not told.sight.gone,
        "generation": told.sight.media.generation if told.sight.media else None,
        "record": msgspec.to_builtins(record) if record is not None else None,
        "jobs": [_job(graph, told, account) for account in told.jobs],
        "artifacts": {
            uri: {"exists": found.exists, "lineage": msgspec.to_builtins(found.lineage)}
            for uri, found in told.artifacts.items()
        },
        "backfill": {"targets": told.targets, "run": told.run},
    }


def _job(graph: Graph, told: Explanation, account: JobAccount) -> dict[str, Any]:
    entry = account.entry
    artifact = entry.artifact if entry is not None else None
    return {
        "job": account.job,
        "state": account.state,
        "current": account.current,
        "reason": account.reason or None,
        "next": account.verdict,
        "fingerprint": graph.fingerprints[account.job],
        "entry": msgspec.to_builtins(entry),
        "artifact_exists": told.artifacts[artifact].exists if artifact else None,
        "holder": holder(entry.lease) if entry is not None and entry.lease else None,
        "remedy": remedy(entry.error.kind) or None if entry is not None and entry.error else None,
    }
