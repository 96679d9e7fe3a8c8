"""What came of a run, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.model.outcome import Status, Tally
from segue_cli.views.table import table
from segue_cli.views.text import count, duration

if TYPE_CHECKING:
    from segue_cli.views.output import Output

# In the order in which a reader asks: what was done, what was there, what went wrong, what is left.
COLUMNS = {
    Status.TODO: "to do",
    Status.DONE: "done",
    Status.CURRENT: "current",
    Status.FAILED: "failed",
    Status.FAILED_BEFORE: "failed before",
    Status.BLOCKED: "blocked",
    Status.IDLE: "not needed yet",
    Status.HELD: "held by others",
    Status.WAITING: "waiting",
    Status.DEFERRED: "deferred",
    Status.LOST: "lost",
    Status.SUPERSEDED: "superseded",
    Status.DELETED: "deleted",
}


def failed_share(tally: Tally) -> float:
    """The share of the files on which something failed in this run."""
    return tally.failed_files / tally.files if tally.files else 0.0


def to_json(tally: Tally, *, dry_run: bool) -> dict[str, object]:
    """Everything that is known of a run, in plain values."""
    return {
        "dry_run": dry_run,
        "files": tally.files,
        "failed_files": tally.failed_files,
        "left_out": dict(tally.left_out),
        "jobs": {
            job: {
                "statuses": {str(s): n for s, n in sorted(statuses.items())},
                "failures": dict(sorted(tally.failures.get(job, {}).items())),
                "cpu_seconds": round(tally.cpu_seconds.get(job, 0.0), 6),
            }
            for job, statuses in tally.jobs.items()
        },
    }


def show(output: Output, tally: Tally) -> None:
    """Show a table of jobs by status, then failures by kind, then what to do next."""
    if tally.files == 0:
        output.print("No files were found.")
        return
    used = [s for s in COLUMNS if any(statuses.get(s) for statuses in tally.jobs.values())]
    timed = any(tally.cpu_seconds.values())
    rows = table("job", *(f">{COLUMNS[s]}" for s in used), *([">CPU"] if timed else []))
    for job, statuses in tally.jobs.items():
        cells = [f"{statuses[s]:,}" if statuses.get(s) else "·" for s in used]
        cpu_seconds = tally.cpu_seconds.get(job)
        spent = [duration(cpu_seconds) if cpu_seconds else "·"] if timed else []
        rows.add_row(job, *cells, *spent)
    output.print(rows)
    lines = [count(tally.files, "file") + " looked at"]
    kinds = [
        f"{job} {kind} {n:,}"
        for job, failures in tally.failures.items()
        for kind, n in failures.items()
    ]
    if kinds:
        lines.append(f"failed: {', '.join(kinds)}; 'segue failures' tells more")
    if tally.unfinished:
        lines.append("some are held, deferred or superseded; run the same command again")
    lines += [f"left out: {n:,} {what}" for what, n in tally.left_out.items()]
    output.print("")
    for line in lines:
        output.print(line)
