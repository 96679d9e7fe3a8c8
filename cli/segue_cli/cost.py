"""What an installation costs: each figure is a product of inputs, and the table is made from them.

``python -m segue_cli.cost > docs/cost.md`` writes the page. Change an input, and everything that
depends on it changes with it; a test holds the page to this module.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

TIMES = " \N{MULTIPLICATION SIGN} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One number that somebody may know better."""

    value: float
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One part of the bill: the product of some inputs."""

    part: str
    what: str
    inputs: tuple[str, ...]
    is_monthly: bool  # False: once, for the backfill of the whole catalogue


INPUTS: Mapping[str, Input] = {
    # How much there is.
    "files": Input(value=60e6, unit="files", meaning="in the catalogue"),
    "arrivals": Input(value=40_000 * 365 / 12, unit="files/month", meaning="40,000 a day"),
    "jobs": Input(value=5, unit="jobs", meaning="of the graph that ships"),
    # What a file takes.
    "work": Input(
        value=3.0, unit="vCPU-s/file", meaning="of all jobs; 'segue plan' measures yours"
    ),
    "artifacts": Input(value=4.4e-3, unit="GB/file", meaning="of which a 22 kHz FLAC is 4 MB"),
    "record": Input(value=6e-6, unit="GiB/file", meaning="a document and its index entries"),
    "writes": Input(value=2, unit="writes", meaning="of the ledger: claim and settle"),
    "sends": Input(value=2, unit="messages/job", meaning="sent and received"),
    "size": Input(value=1 / 2**30, unit="TiB/message", meaning="1 KiB, the least that is billed"),
    "line": Input(value=0.7 / 2**20, unit="GiB/job", meaning="of the log, of a result"),
    "call": Input(value=0.15, unit="s/file", meaning="of a function, for one arrival"),
    # How it is deployed: infra/envs/prod.tfvars.
    "hours": Input(value=730, unit="h/month", meaning="of what is always there"),
    "pipelines": Input(value=5, unit="pipelines", meaning="one a job"),
    "workers": Input(value=2, unit="workers/pipeline", meaning="at least"),
    "vcpus": Input(value=2, unit="vCPU/worker", meaning="n2-standard-2"),
    "memory": Input(value=8, unit="GiB/worker", meaning="n2-standard-2"),
    "backups": Input(value=28, unit="copies", meaning="of the ledger, one a day"),
    "images": Input(value=20, unit="GiB", meaning="ten images of 2 GiB"),
    # List prices in US dollars; look up those of your region.
    "$vcpu": Input(value=0.056 / 3600, unit="$/vCPU-s", meaning="Dataflow, batch: $0.056 an hour"),
    "$stream_vcpu": Input(value=0.069, unit="$/vCPU-h", meaning="Dataflow, streaming"),
    "$stream_memory": Input(value=0.0036, unit="$/GiB-h", meaning="Dataflow, streaming"),
    "$read": Input(value=0.03 / 1e5, unit="$/read", meaning="Firestore in one region"),
    "$write": Input(value=0.09 / 1e5, unit="$/write", meaning="Firestore in one region"),
    "$document": Input(value=0.15, unit="$/GiB-month", meaning="Firestore in one region"),
    "$recovery": Input(value=0.15, unit="$/GiB-month", meaning="Firestore, to go back 7 days"),
    "$backup": Input(value=0.03, unit="$/GiB-month", meaning="Firestore, of each copy"),
    "$object": Input(value=0.020, unit="$/GB-month", meaning="Cloud Storage, standard, one region"),
    "$put": Input(value=0.05 / 1e4, unit="$/put", meaning="Cloud Storage, class A"),
    "$get": Input(value=0.004 / 1e4, unit="$/get", meaning="Cloud Storage, class B"),
    "$message": Input(value=40, unit="$/TiB", meaning="Pub/Sub"),
    "$call": Input(value=2.65e-5, unit="$/s", meaning="Cloud Run, one vCPU and half a GiB"),
    "$idle": Input(value=0.0136, unit="$/h", meaning="Cloud Run, an instance that waits"),
    "$log": Input(value=0.50, unit="$/GiB", meaning="Cloud Logging"),
    "$image": Input(value=0.10, unit="$/GiB-month", meaning="Artifact Registry"),
}


def _once(part: str, what: str, *inputs: str) -> Line:
    return Line(part=part, what=what, inputs=inputs, is_monthly=False)


def _monthly(part: str, what: str, *inputs: str) -> Line:
    return Line(part=part, what=what, inputs=inputs, is_monthly=True)


LINES = (
    _once("Dataflow", "backfill", "files", "work", "$vcpu"),
    _once("Cloud Storage", "sources read", "files", "$get"),
    _once("Cloud Storage", "artifacts written", "files", "jobs", "$put"),
    _once("Firestore", "records read, one time a file", "files", "$read"),
    _once("Firestore", "records written", "files", "writes", "$write"),
    _monthly(
        *("Dataflow", "workers that are always there"),
        *("pipelines", "workers", "vcpus", "hours", "$stream_vcpu"),
    ),
    _monthly(
        *("Dataflow", "their memory"),
        *("pipelines", "workers", "memory", "hours", "$stream_memory"),
    ),
    _monthly("Cloud Storage", "artifacts kept", "files", "artifacts", "$object"),
    _monthly("Cloud Storage", "inputs read, one a job", "arrivals", "jobs", "$get"),
    _monthly("Cloud Storage", "artifacts written", "arrivals", "jobs", "$put"),
    _monthly("Firestore", "records kept", "files", "record", "$document"),
    _monthly("Firestore", "point-in-time recovery", "files", "record", "$recovery"),
    _monthly("Firestore", "backups", "files", "record", "backups", "$backup"),
    _monthly("Firestore", "records read, one time a job", "arrivals", "jobs", "$read"),
    _monthly("Firestore", "arrivals recorded", "arrivals", "$write"),
    _monthly("Firestore", "records written by jobs", "arrivals", "jobs", "writes", "$write"),
    _monthly("Pub/Sub", "messages", "arrivals", "jobs", "sends", "size", "$message"),
    _monthly("Functions", "arrivals", "arrivals", "call", "$call"),
    _monthly("Functions", "an instance that waits", "hours", "$idle"),
    _monthly("Logging", "results", "arrivals", "jobs", "line", "$log"),
    _monthly("Artifact Registry", "images", "images", "$image"),
)


def amount(line: Line, inputs: Mapping[str, Input] = INPUTS) -> float:
    """What one line comes to, in dollars."""
    return math.prod(inputs[name].value for name in line.inputs)


def total(*, monthly: bool, inputs: Mapping[str, Input] = INPUTS) -> float:
    """What is paid each month, or once, in dollars."""
    return sum(amount(line, inputs) for line in LINES if line.is_monthly is monthly)


def with_input(name: str, value: float) -> dict[str, Input]:
    """The inputs with one of them changed."""
    return {**INPUTS, name: replace(INPUTS[name], value=value)}


PAGE = """\
# What it costs

<!-- Written by `python -m segue_cli.cost`; change the inputs there. -->

A catalogue of 60 million songs that is computed once and kept, and 40,000 new songs a day, on the
graph that ships, with what `infra/envs/prod.tfvars` asks for. Each figure is the product of the
inputs that are named beside it; prices are inputs like any other, rounded from Google's lists. Free
tiers, taxes, discounts, the catalogue itself and traffic out of the region are not counted.

{lines}

What this says:

- {kept:.0%} of a month is for what is kept, mostly the intermediate FLAC. A job that is cheap, and
  whose result only other jobs read, is the first to look at.
- A pipeline costs its workers, whether files come or not. All jobs in one pipeline, as in
  `infra/envs/dev.tfvars`, come to {grouped} a month instead of {month}.
- Reads and writes of the ledger in a backfill do not depend on the number of jobs.

## Inputs

`segue plan` measures `work` on your own files, and says what a backfill takes at your price.

{inputs}
"""


def page() -> str:
    """The page of the documentation."""
    month, once = total(monthly=True), total(monthly=False)
    kept = sum(amount(line) for line in LINES if line.is_monthly and line.inputs[0] == "files")
    rows = [
        (
            line.part,
            line.what,
            TIMES.join(f"`{name}`" for name in line.inputs),
            *(("", _dollars(amount(line))) if line.is_monthly else (_dollars(amount(line)), "")),
        )
        for line in LINES
    ]
    rows.append(("all", "", "", _dollars(once), _dollars(month)))
    inputs = [(f"`{k}`", _number(i.value), i.unit, i.meaning) for k, i in INPUTS.items()]
    return PAGE.format(
        lines=_table(("part", "what", "formula", ">once", ">a month"), rows),
        inputs=_table(("input", ">value", "unit", "what it is"), inputs),
        kept=kept / month,
        grouped=_dollars(total(monthly=True, inputs=with_input("pipelines", 1))),
        month=_dollars(month),
    )


def _dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:,.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    ruler = "|".join("-:" if name.startswith(">") else "-" for name in head)
    names = " | ".join(name.removeprefix(">") for name in head)
    return "\n".join([f"| {names} |", f"|{ruler}|", *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    sys.stdout.write(page())
