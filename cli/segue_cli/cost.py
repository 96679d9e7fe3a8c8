"""Estimates the cost of an installation: each figure is a product of inputs.

``python -m segue_cli.cost > docs/cost.md`` writes the page. Change an input, and every figure
that depends on it changes; a test compares the page with this module.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Input(NamedTuple):
    """One number, to replace if you know a better one."""

    value: float
    unit: str
    meaning: str


class CostLine(NamedTuple):
    """One line of the bill: the product of some inputs."""

    part: str
    what: str
    formula: str  # the names of the inputs


INPUTS = {
    # The amount of data.
    "files": Input(60e6, "files", "in the catalogue"),
    "arrivals": Input(40_000 * 365 / 12, "files/month", "40,000 per day"),
    "jobs": Input(9, "jobs", "of the graph that ships with Segue"),
    # The resources per file.
    "work": Input(1.4, "vCPU-s/file", "of all jobs; 'segue plan' measures yours"),
    "artifacts": Input(4.5e-3, "GB/file", "of which a 22 kHz FLAC is 4 MB"),
    "events": Input(
        3, "messages/file", "published: the arrival, and by each job that another pipeline reads"
    ),
    "edges": Input(
        10, "messages/file", "received: edges between pipelines; 1 if there is one pipeline"
    ),
    "record": Input(4e-6, "GiB/file", "a document and its index entries"),
    "writes": Input(2, "writes", "of the ledger: claim and settle"),
    "row": Input(4e3 / 2**40, "TiB/file", "a row of a table, such as of beats and their times"),
    "key": Input(150 / 2**40, "TiB/file", "which result a row is of: URI, version, fingerprint"),
    "size": Input(1 / 2**30, "TiB/message", "1 KiB, the billed minimum"),
    "line": Input(0.7 / 2**20, "GiB/job", "of the log, per result"),
    "call": Input(0.15, "s/file", "of a function, per arrival"),
    # The deployment: infra/envs/prod.tfvars.
    "hours": Input(730, "h/month", "for resources that always run"),
    "pipelines": Input(9, "pipelines", "one per job"),
    "workers": Input(2, "workers/pipeline", "on average; at least 1"),
    "vcpus": Input(2, "vCPU/worker", "n2-standard-2"),
    "memory": Input(8, "GiB/worker", "n2-standard-2"),
    "backups": Input(28, "copies", "of the ledger, one per day"),
    "images": Input(20, "GiB", "ten images of 2 GiB"),
    # List prices in US dollars; look up those of your region.
    "$vcpu": Input(0.056 / 3600, "$/vCPU-s", "Dataflow, batch: $0.056 per hour"),
    "$stream_vcpu": Input(0.069, "$/vCPU-h", "Dataflow, streaming"),
    "$stream_memory": Input(0.0036, "$/GiB-h", "Dataflow, streaming"),
    "$read": Input(0.03 / 1e5, "$/read", "Firestore in one region"),
    "$write": Input(0.09 / 1e5, "$/write", "Firestore in one region"),
    "$document": Input(0.15, "$/GiB-month", "Firestore in one region"),
    "$recovery": Input(0.15, "$/GiB-month", "Firestore, 7 days of recovery"),
    "$backup": Input(0.03, "$/GiB-month", "Firestore, of each copy"),
    "$object": Input(0.020, "$/GB-month", "Cloud Storage, standard, one region"),
    "$put": Input(0.05 / 1e4, "$/put", "Cloud Storage, class A"),
    "$get": Input(0.004 / 1e4, "$/get", "Cloud Storage, class B"),
    "$scan": Input(6.25, "$/TiB", "BigQuery, on demand"),
    "$message": Input(40, "$/TiB", "Pub/Sub"),
    "$call": Input(2.65e-5, "$/s", "Cloud Run, one vCPU and half a GiB"),
    "$idle": Input(0.0136, "$/h", "Cloud Run, an idle instance"),
    "$log": Input(0.50, "$/GiB", "Cloud Logging"),
    "$image": Input(0.10, "$/GiB-month", "Artifact Registry"),
}
ONCE = (
    CostLine("Dataflow", "backfill", "files work $vcpu"),
    CostLine("Cloud Storage", "sources read", "files $get"),
    CostLine("Cloud Storage", "artifacts written", "files jobs $put"),
    CostLine("Firestore", "records read, once per file", "files $read"),
    CostLine("Firestore", "records written", "files writes $write"),
)
MONTHLY = (
    CostLine("Dataflow", "workers that always run", "pipelines workers vcpus hours $stream_vcpu"),
    CostLine("Dataflow", "their memory", "pipelines workers memory hours $stream_memory"),
    CostLine("Cloud Storage", "artifacts kept", "files artifacts $object"),
    CostLine("Cloud Storage", "inputs read, one per job", "arrivals jobs $get"),
    CostLine("Cloud Storage", "artifacts written", "arrivals jobs $put"),
    CostLine("Firestore", "records kept", "files record $document"),
    CostLine("Firestore", "point-in-time recovery", "files record $recovery"),
    CostLine("Firestore", "backups", "files record backups $backup"),
    CostLine("Firestore", "records read, once per message", "arrivals edges $read"),
    CostLine("Firestore", "arrivals recorded", "arrivals $write"),
    CostLine("Firestore", "records written by pipelines", "arrivals pipelines writes $write"),
    CostLine("Pub/Sub", "messages published", "arrivals events size $message"),
    CostLine("Pub/Sub", "messages received", "arrivals edges size $message"),
    CostLine("Functions", "arrivals", "arrivals call $call"),
    CostLine("Functions", "an idle instance", "hours $idle"),
    CostLine("Logging", "results", "arrivals jobs line $log"),
    CostLine("Artifact Registry", "images", "images $image"),
)
# What a namespace adds that is below this one, with its jobs in one pipeline.
NAMESPACE_ONCE = (
    CostLine("Firestore", "its records read, once per file", "files $read"),
    CostLine("Firestore", "its parent's records read", "files $read"),
    CostLine("Firestore", "records written", "files writes $write"),
)
NAMESPACE_MONTHLY = (
    CostLine("Dataflow", "workers that always run", "workers vcpus hours $stream_vcpu"),
    CostLine("Dataflow", "their memory", "workers memory hours $stream_memory"),
    CostLine("Firestore", "records kept", "files record $document"),
    CostLine("Firestore", "point-in-time recovery", "files record $recovery"),
    CostLine("Firestore", "backups", "files record backups $backup"),
    CostLine("Firestore", "records written by its pipeline", "arrivals writes $write"),
    CostLine("Pub/Sub", "its parent's events received", "arrivals size $message"),
)

# What an export of one job to BigQuery costs that finds nothing new.
EXPORT = (
    CostLine("Firestore", "records read, once per file", "files $read"),
    CostLine("BigQuery", "the table, read to merge", "files row $scan"),
    CostLine("BigQuery", "keys, read to merge", "files key $scan"),
)


def compute_amount(line: CostLine, inputs: Mapping[str, Input] = INPUTS) -> float:
    """Return the amount of one line, in dollars."""
    return math.prod(inputs[name].value for name in line.formula.split())


def compute_total(lines: Iterable[CostLine], **changed: float) -> float:
    """Return the total in dollars, with some inputs changed."""
    inputs = INPUTS | {name: INPUTS[name]._replace(value=v) for name, v in changed.items()}
    return sum(compute_amount(line, inputs) for line in lines)


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
- A pipeline costs its workers, whether files arrive or not. All jobs in one pipeline
  ([`pipelines`](formats.md#pipelines)) cost {grouped} per month instead of {month}.
- Reads and writes of the ledger do not depend on the number of jobs, but on that of pipelines; a
  backfill is one.

## Another namespace

What a [namespace](formats.md#namespaces) adds that is below this one and has its jobs in one
pipeline, besides the work and the artifacts of its jobs:

{namespace_lines}

- Ledger and messages cost {per_arrival} per million arrivals, however many jobs it has: the event
  tells it what its parent has finished, so it reads nothing. If it joins results of two parents,
  each event costs one read of what the other one has finished.
- Arrivals cost its parent nothing more. An event is published once, whoever reads it, and the
  subscription is in the project of its reader, who pays for it. Reads of the parent's ledger and
  artifacts are billed to the parent's project.
- {waiting} is for workers that wait. `segue work` runs the pipeline in containers of any kind,
  which may be scaled to none while nothing arrives.

## An export to BigQuery

What `segue export beats --to bigquery://...` costs each time, besides reading the artifacts of new
results (`$get` each) and the workers of a pipeline:

{export_lines}

- The ledger has no index of when a result was finished, so each export reads all of it. Without a
  prefix that costs {export_reads}, whether anything is new or not: export once a day or less often,
  or only a prefix.
- If results that are older than the newest one of the table have become current, as after a
  rollback, the export reads the ledger twice.
- A job of another namespace costs one read more per file. Loading is free, and storage of the table
  is not included.

## Inputs

`segue plan` measures `work` on your own files, and estimates the cost of a backfill at your price.

{inputs}
"""


def format_page() -> str:
    """Return the page of the documentation."""
    month = compute_total(MONTHLY)
    per_arrival = [line for line in NAMESPACE_MONTHLY if line.formula.startswith("arrivals")]
    kept = compute_total(line for line in MONTHLY if line.formula.startswith("files"))
    inputs = ["| input | value | unit | meaning |", "|-|-:|-|-|"]
    for name, (value, unit, meaning) in INPUTS.items():
        number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        inputs.append(f"| `{name}` | {number} | {unit} | {meaning} |")
    return PAGE.format(
        lines=_format_lines(ONCE, MONTHLY),
        namespace_lines=_format_lines(NAMESPACE_ONCE, NAMESPACE_MONTHLY),
        waiting=_format_dollars(compute_total(NAMESPACE_MONTHLY[:2])),
        per_arrival=_format_dollars(compute_total(per_arrival, arrivals=1e6)),
        export_lines=_format_lines(EXPORT, ()),
        export_reads=_format_dollars(compute_amount(EXPORT[0])),
        inputs="\n".join(inputs),
        kept=kept / month,
        grouped=_format_dollars(compute_total(MONTHLY, pipelines=1, events=1, edges=1)),
        month=_format_dollars(month),
    )


def _format_lines(once: Sequence[CostLine], monthly: Sequence[CostLine]) -> str:
    """Return a table of lines, and their sums."""
    rows = ["| part | what | formula | once | per month |", "|-|-|-|-:|-:|"]
    for line in (*once, *monthly):
        formula = " \N{MULTIPLICATION SIGN} ".join(f"`{name}`" for name in line.formula.split())
        amount = _format_dollars(compute_amount(line))
        columns = f" | {amount}" if line in monthly else f"{amount} | "
        rows.append(f"| {line.part} | {line.what} | {formula} | {columns} |")
    sums = [_format_dollars(compute_total(lines)) for lines in (once, monthly)]
    rows.append(f"| all |  |  | {sums[0]} | {sums[1]} |")
    return "\n".join(rows)


def _format_dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:,.2f}"


if __name__ == "__main__":
    sys.stdout.write(format_page())
