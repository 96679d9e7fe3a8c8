"""``segue explain``: show everything about one file, and what would be computed next."""

from typing import Any

import msgspec

from segue.model.graph import Graph
from segue.reports import explanation as reports
from segue.reports.explanation import Explanation, JobExplanation, format_holder
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.hints import find_hint
from segue_cli.parameters import File, Jobs
from segue_cli.views.explanation import render


@command(
    settings=("graph", "catalogue", "ledger"),
    examples=(
        "segue explain music/song.flac",
        "segue explain gs://acme-audio/masters/song.flac --job energy --json",
    ),
)
def explain(context: Context, file: File, jobs: Jobs = None) -> None:
    """Show everything about one file, and what would be computed next.

    For each job: its state, why its result is not current, where the artifact is and whether it
    still exists, how long it took, what failed and what to do about it. Then the lineage of the
    artifacts, and what a backfill of the named jobs (default: all) would compute.
    """
    targets = context.graph.select(jobs)
    with context.open() as stack:
        found = reports.explain(stack, file, targets)
    if context.output.as_json:
        context.output.write_json(_to_json(context.graph, found))
    else:
        context.output.print(render(found))


def _to_json(graph: Graph, explanation: Explanation) -> dict[str, Any]:
    record = explanation.record
    return {
        "uri": explanation.uri,
        "in_ledger": record is not None,
        "exists": None if explanation.media_stat.unknown else not explanation.media_stat.gone,
        "generation": explanation.media_stat.media.generation
        if explanation.media_stat.media
        else None,
        "record": msgspec.to_builtins(record) if record is not None else None,
        "jobs": [_job_to_json(graph, explanation, account) for account in explanation.jobs],
        "artifacts": {
            uri: {"exists": found.exists, "lineage": msgspec.to_builtins(found.lineage)}
            for uri, found in explanation.artifacts.items()
        },
        "backfill": {"targets": explanation.targets, "run": explanation.run},
    }


def _job_to_json(graph: Graph, explanation: Explanation, account: JobExplanation) -> dict[str, Any]:
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
        "artifact_exists": explanation.artifacts[artifact].exists if artifact else None,
        "holder": format_holder(entry.lease) if entry is not None and entry.lease else None,
        "remedy": find_hint(entry.error.kind) or None
        if entry is not None and entry.error
        else None,
    }
