"""The summary of a backfill or plan, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.model.outcome import RunTotals, Status
from segue_cli.views.table import build_table
from segue_cli.views.text import format_count, format_duration

if TYPE_CHECKING:
    from segue_cli.views.output import Output

# In the order of a reader's questions: what was done, what was current, what failed, what is left.
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


def compute_failed_share(tally: RunTotals) -> float:
    """Return the share of the files with a failure in this run."""
    return tally.failed_files / tally.files if tally.files else 0.0


def to_json(tally: RunTotals, *, dry_run: bool) -> dict[str, object]:
    """Return all totals of a run as JSON values."""
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


def print_summary(output: Output, tally: RunTotals) -> None:
    """Print a table of jobs by status, failures by kind, and what to do next."""
    if tally.files == 0:
        output.print("No files found.")
        return
    used = [s for s in COLUMNS if any(statuses.get(s) for statuses in tally.jobs.values())]
    timed = any(tally.cpu_seconds.values())
    rows = build_table("job", *(f">{COLUMNS[s]}" for s in used), *([">CPU"] if timed else []))
    for job, statuses in tally.jobs.items():
        cells = [f"{statuses[s]:,}" if statuses.get(s) else "·" for s in used]
        cpu_seconds = tally.cpu_seconds.get(job)
        cpu = [format_duration(cpu_seconds) if cpu_seconds else "·"] if timed else []
        rows.add_row(job, *cells, *cpu)
    output.print(rows)
    lines = [format_count(tally.files, "file") + " examined"]
    kinds = [
        f"{job} {kind} {n:,}"
        for job, failures in tally.failures.items()
        for kind, n in failures.items()
    ]
    if kinds:
        lines.append(f"failed: {', '.join(kinds)}; for details: segue failures")
    if tally.unfinished:
        lines.append("some jobs are held, deferred or superseded; run the same command again")
    lines += [f"skipped: {n:,} {what}" for what, n in tally.left_out.items()]
    output.print("")
    for line in lines:
        output.print(line)
