"""Plans a backfill, as a program of its own: it lists a catalogue, which may take minutes.

Usage: ``python -m segue_console.plan_process JSON``, of which the object has the parameters of
``segue.plan``. It prints the plan as JSON, or exits with 1 and the reason on standard error.
"""

from __future__ import annotations

import json
import sys

import msgspec

from segue.errors import SegueError


def main() -> int:
    """Plan, and print the plan."""
    from segue.api import plan

    given = json.loads(sys.argv[1])
    try:
        found = plan(given.pop("jobs"), **given)
    except SegueError as error:
        print(error, file=sys.stderr)
        return 1
    estimate = found.estimate
    document = {
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
    sys.stdout.buffer.write(msgspec.json.encode(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
