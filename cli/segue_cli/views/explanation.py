"""How an explanation looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from segue.model.planner import Verdict
from segue.model.record import Record
from segue.reports.explanation import Explanation, JobAccount
from segue.reports.lineage import Found
from segue_cli.hints import remedy
from segue_cli.views import text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STYLES = {
    "done": "green",
    "stale": "yellow",
    "failed": "red",
    "blocked": "magenta",
    "running": "cyan",
    "queued": "cyan",
    "missing": "dim",
}
NEXT = {
    Verdict.HELD: "held by others",
    Verdict.WAITING: "waiting for what others hold",
    Verdict.FAILED: "failed before; 'segue retry' lets them be tried again",
    Verdict.BLOCKED: "blocked by what failed",
    Verdict.IDLE: "of no use to what is wanted",
}


def draw(told: Explanation) -> RenderableType:
    """Draw the file, its jobs, where its artifacts come from, and what would be done next."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(text.printable(told.uri), style="bold")]
    parts += [Text(line) for line in _file(told)]
    if told.jobs:
        parts += [Text(), _jobs(told)]
    if told.artifacts:
        parts += [Text(), Text("Made from", style="bold"), *_lineage(told)]
    parts += [Text(), *_next(told)]
    return Group(*parts)


def _file(told: Explanation) -> Iterator[str]:
    record, media = told.record, told.sight.media
    shown = media if media is not None else record.media if record is not None else None
    if shown is not None:
        kind = f" · {shown.content_type}" if shown.content_type else ""
        yield f"generation {shown.generation} · {text.size(shown.size_bytes)}{kind}"
    yield _known(record)
    if told.sight.unknown:
        yield f"the file itself could not be looked at: {told.sight.unknown}"
    elif told.sight.gone:
        yield "the file is gone"
    elif record is not None and media is not None and record.generation != media.generation:
        yield f"the ledger has generation {record.generation}: the file has been overwritten since"


def _known(record: Record | None) -> str:
    if record is None:
        return "not in the ledger yet"
    if record.deleted_at is not None:
        return f"deleted {text.moment(record.deleted_at)}; the ledger keeps a tombstone"
    return f"arrived {text.moment(record.arrived_at)}"


def _jobs(told: Explanation) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for account in told.jobs:
        first, *more = _account(told, account) or [""]
        state = Text(account.state, style=STYLES.get(account.state, ""))
        rows.add_row(Text(account.job, style="bold"), state, first)
        for line in more:
            rows.add_row("", "", Text(line, style="dim"))
    return rows


def _account(told: Explanation, account: JobAccount) -> list[str]:
    entry = account.entry
    lines = [account.reason] if account.reason else []
    if entry is None:
        return lines
    if entry.seconds:
        cpu = f", {text.duration(entry.cpu_seconds)} of CPU" if entry.cpu_seconds else ""
        tries = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
        lines.append(f"took {text.duration(entry.seconds)}{cpu}{tries}")
    if entry.error is not None and entry.error.kind != "blocked":
        lines.append(f"{entry.error.kind}: {text.printable(entry.error.message)}")
        if advice := remedy(entry.error.kind):
            lines.append(f"→ {advice}")
    if entry.artifact is not None:
        there = told.artifacts[entry.artifact]
        lost = "" if there.exists else "  (this object is gone: compute it again with --force)"
        lines.append(f"{text.printable(entry.artifact)}{lost}")
    return lines


def _lineage(told: Explanation) -> Iterator[Text]:
    """Trees from the artifacts that nothing was made from up to the source; each is shown once."""
    assert told.record is not None
    parents = {
        uri
        for found in told.artifacts.values()
        if found.lineage is not None
        for uri in found.lineage.parents.values()
    }
    present = {job: e.artifact for job, e in told.record.jobs.items() if e.artifact is not None}
    shown: set[str] = set()
    for job, uri in present.items():
        if uri not in parents:
            yield from _branch(job, uri, told.artifacts, present, shown, "  ", "  ")


def _branch(
    job: str,
    uri: str,
    artifacts: Mapping[str, Found],
    present: Mapping[str, str],
    shown: set[str],
    guide: str,
    below: str,
) -> Iterator[Text]:
    from rich.text import Text

    found = artifacts[uri]
    line = Text.assemble((guide, "dim"), (job, "bold"))
    if uri in shown:
        yield line.append("  ↑ above", style="dim")
        return
    shown.add(uri)
    if found.lineage is not None:
        line.append(f"  {found.lineage.fingerprint}", style="cyan")
    for note, holds in (
        ("gone", not found.exists),
        ("says nothing of its making", found.exists and found.lineage is None),
        ("not the present one", present.get(job) not in (uri, None)),
    ):
        if holds:
            line.append(f"  {note}", style="yellow")
    yield line
    if found.lineage is None:
        return
    for parent, above in found.lineage.parents.items():
        last = parent == list(found.lineage.parents)[-1]
        tip, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _branch(parent, above, artifacts, present, shown, below + tip, below + rest)
    if not found.lineage.parents:
        source = f"source, generation {found.lineage.generation}"
        yield Text.assemble((below + "└─ ", "dim"), source)


def _next(told: Explanation) -> Iterator[Text]:
    from rich.text import Text

    if told.gone:
        yield Text("A backfill would do nothing: the file is gone.")
        return
    if told.run:
        yield Text.assemble("A backfill would compute ", (", ".join(told.run), "bold"), ".")
    elif all(a.current for a in told.jobs if a.job in told.targets):
        yield Text("A backfill would do nothing: all is current.", style="green")
    else:
        yield Text("A backfill would compute nothing.")
    for verdict, words in NEXT.items():
        jobs = [a.job for a in told.jobs if a.verdict is verdict and not a.current]
        if jobs:
            yield Text(f"It would leave {', '.join(jobs)}: {words}.")
