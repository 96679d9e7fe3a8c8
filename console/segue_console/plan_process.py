"""Plans a backfill, as a program of its own: it lists a catalogue, which may take minutes.

Usage: ``python -m segue_console.plan_process PARENT JSON``, of which the object has the parameters
of ``segue.plan``. It prints an object with the plan, or with the error that Segue found; it ends
with the process PARENT.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from segue.errors import SegueError
from segue.worker.process import exit_with_parent


def main() -> None:
    """Plan, and print the plan."""
    exit_with_parent(int(sys.argv[1]))
    given = json.loads(sys.argv[2])
    try:
        answer: dict[str, Any] = {"plan": make_plan(given.pop("jobs"), given)}
    except SegueError as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def make_plan(jobs: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Return a plan as a page shows it."""
    from segue.api import plan

    found = plan(jobs, **given)
    estimate = found.estimate
    return {
        "files": found.totals.files,
        "left_out": found.totals.left_out,
        "not_included": msgspec.to_builtins(found.totals.passed_over),
        "jobs": found.totals.jobs,
        "vcpu_hours": estimate.vcpu_hours,
        "cost": estimate.cost,
        "price": estimate.price,
        "eta_s": estimate.eta_s,
        "vcpus": estimate.vcpus,
        "is_complete": estimate.complete,
        "cpu_seconds": {j.job: j.cpu_seconds for j in estimate.jobs if j.todo},
    }


if __name__ == "__main__":
    main()
