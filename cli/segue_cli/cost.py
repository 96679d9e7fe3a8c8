"""Estimates the cost of an installation: each figure is a product of inputs.

``python -m segue_cli.cost > docs/cost.md`` writes the page. Change an input, and every figure
that depends on it changes; a test compares the page with this module.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

TIMES = " \N{MULTIPLICATION SIGN} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One number, to replace if you know a better one."""

    value: float
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One line of the bill: the product of some inputs."""

    part: str
    what: str
    inputs: tuple[str, ...]
    is_monthly: bool  # False: once, for the backfill of the whole catalogue


INPUTS: Mapping[str, Input] = {
    # The amount of data.
    "files": Input(value=60e6, unit="files", meaning="in the catalogue"),
    "arrivals": Input(value=40_000 * 365 / 12, unit="files/month", meaning="40,000 per day"),
    "jobs": Input(value=5, unit="jobs", meaning="of the graph that ships with Segue"),
    # The resources per file.
    "work": Input(
        value=3.0, unit="vCPU-s/file", meaning="of all jobs; 'segue plan' measures yours"
    ),
    "artifacts": Input(value=4.4e-3, unit="GB/file", meaning="of which a 22 kHz FLAC is 4 MB"),
    "record": Input(value=6e-6, unit="GiB/file", meaning="a document and its index entries"),
    "writes": Input(value=2, unit="writes", meaning="of the ledger: claim and settle"),
    "sends": Input(value=2, unit="messages/job", meaning="sent and received"),
    "size": Input(value=1 / 2**30, unit="TiB/message", meaning="1 KiB, the billed minimum"),
    "line": Input(value=0.7 / 2**20, unit="GiB/job", meaning="of the log, per result"),
    "call": Input(value=0.15, unit="s/file", meaning="of a function, per arrival"),
    # The deployment: infra/envs/prod.tfvars.
    "hours": Input(value=730, unit="h/month", meaning="for resources that always run"),
    "pipelines": Input(value=5, unit="pipelines", meaning="one per job"),
    "workers": Input(value=2, unit="workers/pipeline", meaning="at least"),
    "vcpus": Input(value=2, unit="vCPU/worker", meaning="n2-standard-2"),
    "memory": Input(value=8, unit="GiB/worker", meaning="n2-standard-2"),
    "backups": Input(value=28, unit="copies", meaning="of the ledger, one per day"),
    "images": Input(value=20, unit="GiB", meaning="ten images of 2 GiB"),
    # List prices in US dollars; look up those of your region.
    "$vcpu": Input(value=0.056 / 3600, unit="$/vCPU-s", meaning="Dataflow, batch: $0.056 per hour"),
    "$stream_vcpu": Input(value=0.069, unit="$/vCPU-h", meaning="Dataflow, streaming"),
    "$stream_memory": Input(value=0.0036, unit="$/GiB-h", meaning="Dataflow, streaming"),
    "$read": Input(value=0.03 / 1e5, unit="$/read", meaning="Firestore in one region"),
    "$write": Input(value=0.09 / 1e5, unit="$/write", meaning="Firestore in one region"),
    "$document": Input(value=0.15, unit="$/GiB-month", meaning="Firestore in one region"),
    "$recovery": Input(value=0.15, unit="$/GiB-month", meaning="Firestore, 7 days of recovery"),
    "$backup": Input(value=0.03, unit="$/GiB-month", meaning="Firestore, of each copy"),
    "$object": Input(value=0.020, unit="$/GB-month", meaning="Cloud Storage, standard, one region"),
    "$put": Input(value=0.05 / 1e4, unit="$/put", meaning="Cloud Storage, class A"),
    "$get": Input(value=0.004 / 1e4, unit="$/get", meaning="Cloud Storage, class B"),
    "$message": Input(value=40, unit="$/TiB", meaning="Pub/Sub"),
    "$call": Input(value=2.65e-5, unit="$/s", meaning="Cloud Run, one vCPU and half a GiB"),
    "$idle": Input(value=0.0136, unit="$/h", meaning="Cloud Run, an idle instance"),
    "$log": Input(value=0.50, unit="$/GiB", meaning="Cloud Logging"),
    "$image": Input(value=0.10, unit="$/GiB-month", meaning="Artifact Registry"),
}


def _bill_once(part: str, what: str, *inputs: str) -> CostLine:
    return CostLine(part=part, what=what, inputs=inputs, is_monthly=False)


def _bill_monthly(part: str, what: str, *inputs: str) -> CostLine:
    return CostLine(part=part, what=what, inputs=inputs, is_monthly=True)


LINES = (
    _bill_once("Dataflow", "backfill", "files", "work", "$vcpu"),
    _bill_once("Cloud Storage", "sources read", "files", "$get"),
    _bill_once("Cloud Storage", "artifacts written", "files", "jobs", "$put"),
    _bill_once("Firestore", "records read, once per file", "files", "$read"),
    _bill_once("Firestore", "records written", "files", "writes", "$write"),
    _bill_monthly(
        *("Dataflow", "workers that always run"),
        *("pipelines", "workers", "vcpus", "hours", "$stream_vcpu"),
    ),
    _bill_monthly(
        *("Dataflow", "their memory"),
        *("pipelines", "workers", "memory", "hours", "$stream_memory"),
    ),
    _bill_monthly("Cloud Storage", "artifacts kept", "files", "artifacts", "$object"),
    _bill_monthly("Cloud Storage", "inputs read, one per job", "arrivals", "jobs", "$get"),
    _bill_monthly("Cloud Storage", "artifacts written", "arrivals", "jobs", "$put"),
    _bill_monthly("Firestore", "records kept", "files", "record", "$document"),
    _bill_monthly("Firestore", "point-in-time recovery", "files", "record", "$recovery"),
    _bill_monthly("Firestore", "backups", "files", "record", "backups", "$backup"),
    _bill_monthly("Firestore", "records read, once per job", "arrivals", "jobs", "$read"),
    _bill_monthly("Firestore", "arrivals recorded", "arrivals", "$write"),
    _bill_monthly("Firestore", "records written by jobs", "arrivals", "jobs", "writes", "$write"),
    _bill_monthly("Pub/Sub", "messages", "arrivals", "jobs", "sends", "size", "$message"),
    _bill_monthly("Functions", "arrivals", "arrivals", "call", "$call"),
    _bill_monthly("Functions", "an idle instance", "hours", "$idle"),
    _bill_monthly("Logging", "results", "arrivals", "jobs", "line", "$log"),
    _bill_monthly("Artifact Registry", "images", "images", "$image"),
)


def compute_amount(line: CostLine, inputs: Mapping[str, Input] = INPUTS) -> float:
    """Return the amount of one line, in dollars."""
    return math.prod(inputs[name].value for name in line.inputs)


def compute_total(*, monthly: bool, inputs: Mapping[str, Input] = INPUTS) -> float:
    """Return the monthly or the one-time total, in dollars."""
    return sum(compute_amount(line, inputs) for line in LINES if line.is_monthly is monthly)


def change_input(name: str, value: float) -> dict[str, Input]:
    """Return the inputs with one of them changed."""
    return {**INPUTS, name: replace(INPUTS[name], value=value)}


PAGE = """\
# What it costs

<!-- Written by `python -m segue_cli.cost`; change the inputs there. -->

The cost of a catalogue of 60 million songs that is computed once and kept, and of 40,000 new songs
per day, with the graph that ships with Segue and the resources of `infra/envs/prod.tfvars`. Each
figure is the product of the inputs named beside it; prices are inputs too, rounded from Google's
lists. Free tiers, taxes, discounts, the catalogue itself and traffic out of the region are not
included.

{lines}

What follows from this:

- {kept:.0%} of the monthly cost is for stored data, mostly the intermediate FLAC. To save, look
  first at jobs that are cheap and whose results are read only by other jobs.
- A pipeline costs its workers, whether files arrive or not. All jobs in one pipeline, as in
  `infra/envs/dev.tfvars`, cost {grouped} per month instead of {month}.
- Reads and writes of the ledger in a backfill do not depend on the number of jobs.

## Inputs

`segue plan` measures `work` on your own files, and estimates the cost of a backfill at your price.

{inputs}
"""


def format_page() -> str:
    """Return the page of the documentation."""
    month, once = compute_total(monthly=True), compute_total(monthly=False)
    kept = sum(
        compute_amount(line) for line in LINES if line.is_monthly and line.inputs[0] == "files"
    )
    rows = [
        (
            line.part,
            line.what,
            TIMES.join(f"`{name}`" for name in line.inputs),
            *(
                ("", _format_dollars(compute_amount(line)))
                if line.is_monthly
                else (_format_dollars(compute_amount(line)), "")
            ),
        )
        for line in LINES
    ]
    rows.append(("all", "", "", _format_dollars(once), _format_dollars(month)))
    inputs = [(f"`{k}`", _format_number(i.value), i.unit, i.meaning) for k, i in INPUTS.items()]
    return PAGE.format(
        lines=_format_table(("part", "what", "formula", ">once", ">per month"), rows),
        inputs=_format_table(("input", ">value", "unit", "meaning"), inputs),
        kept=kept / month,
        grouped=_format_dollars(compute_total(monthly=True, inputs=change_input("pipelines", 1))),
        month=_format_dollars(month),
    )


def _format_dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:,.2f}"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _format_table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    ruler = "|".join("-:" if name.startswith(">") else "-" for name in head)
    names = " | ".join(name.removeprefix(">") for name in head)
    return "\n".join([f"| {names} |", f"|{ruler}|", *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    sys.stdout.write(format_page())
