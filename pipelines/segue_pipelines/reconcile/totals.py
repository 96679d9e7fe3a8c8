"""The totals of a reconcile run, read from its metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from segue.maintenance.discrepancy import DiscrepancyKind

NAMESPACE = "segue.reconcile"
SAMPLES = 5  # URIs to report per kind


@dataclass(slots=True, kw_only=True)
class ReconcileTotals:
    """How much was compared, and the discrepancies; without a dry run they are repaired."""

    listed: int = 0  # media of the catalogue
    recorded: int = 0  # in the ledger, without tombstones
    left_out: int = 0  # files whose names no URI can represent
    files: Counter[DiscrepancyKind] = field(default_factory=Counter)
    # Some of the URIs. There may be fewer than SAMPLES, since local workers overwrite each other's
    # sets of strings; there are none from a runner that has no such metrics.
    samples: dict[DiscrepancyKind, list[str]] = field(default_factory=dict)


def read_reconcile_totals(result: Any) -> ReconcileTotals:
    """Read the totals of a run from its metrics, on any runner."""
    from apache_beam.metrics.metric import MetricsFilter

    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    total = ReconcileTotals()
    for metric in metrics["counters"]:
        n = metric.committed if metric.committed is not None else metric.attempted
        match metric.key.metric.name.split("."):
            case ["files", kind]:
                total.files[DiscrepancyKind(kind)] += n
            case ["listed"]:
                total.listed += n
            case ["recorded"]:
                total.recorded += n
            case ["left_out"]:
                total.left_out += n
    for metric in metrics.get("string_sets", ()):
        _, _, kind = metric.key.metric.name.partition(".")
        names = metric.committed if metric.committed is not None else metric.attempted
        some = {*total.samples.get(DiscrepancyKind(kind), ()), *(names or ())}
        total.samples[DiscrepancyKind(kind)] = sorted(some)[:SAMPLES]
    return total
