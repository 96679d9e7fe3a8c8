"""Runs in the Flex Template's launcher: turns its parameters into a call of ``segue``.

A parameter of a template has one value and a name in snake case. One template serves both
pipelines: ``mode`` selects streaming or a backfill. Other parameters are Beam's, and passed on
unchanged; an empty value counts as none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

MODE = "mode"
JOBS = "jobs"
STREAM, BACKFILL = "stream", "backfill"
# Parameter → the option of both commands.
SHARED = {
    "graph": "--graph",
    "catalogue": "--catalogue",
    "artifacts": "--artifacts",
    "ledger": "--ledger",
    "queue": "--queue",
}
# Parameters of one command only.
OWN: Mapping[str, Mapping[str, str]] = {
    STREAM: {},
    BACKFILL: {
        "prefix": "--prefix",
        "uris": "--uris",
        "from_ledger": "--from-ledger",
        "limit": "--limit",
        "sample": "--sample",
        "tolerate": "--tolerate",
    },
}
# Parameters that are true or false → the flag of the command.
FLAGS: Mapping[str, Mapping[str, str]] = {
    STREAM: {},
    BACKFILL: {
        "force": "--force",
        "retry_failed": "--retry-failed",
        "request_parents": "--request-parents",
        "dry_run": "--dry-run",
    },
}


def build_command(arguments: Sequence[str]) -> list[str]:
    """Turn ``--name=value`` arguments into the arguments of ``segue``."""
    ours, beams = _split(arguments)
    mode = ours.pop(MODE, STREAM)
    if mode not in OWN:
        raise SystemExit(f"--mode is {mode!r}; write {STREAM} or {BACKFILL}")
    jobs = [job.strip() for job in ours.pop(JOBS, "").split(",") if job.strip()]
    words = [mode, *(f"--job={job}" for job in jobs)] if jobs else [mode, "--all"]
    options, flags = {**SHARED, **OWN[mode]}, FLAGS[mode]
    for name, value in ours.items():
        if name in options:
            words.append(f"{options[name]}={value}")
        elif name not in flags:
            raise SystemExit(f"--{name} is not a parameter of mode {mode}; leave it out")
        elif value not in {"true", "false"}:
            raise SystemExit(f"--{name} is {value!r}; write true or false")
        elif value == "true":
            words.append(flags[name])
    return words + beams


def list_parameters() -> set[str]:
    """Return the names of all parameters of the template."""
    both = (OWN[STREAM], OWN[BACKFILL], FLAGS[STREAM], FLAGS[BACKFILL], SHARED)
    return {MODE, JOBS}.union(*both)


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Separate the template's parameters, by name, from Beam's options."""
    known = list_parameters()
    ours: dict[str, str] = {}
    beams = []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in known:
            beams.append(argument)
        elif not equals:
            raise SystemExit(f"{argument} has no value; write --{name}=VALUE")
        elif value:
            ours[name] = value
    return ours, beams


if __name__ == "__main__":
    from segue_cli.main import main

    sys.argv[1:] = build_command(sys.argv[1:])
    sys.exit(main())
