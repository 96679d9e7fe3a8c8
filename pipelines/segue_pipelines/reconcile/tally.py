"""What came of reconciling, read from a run's metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from segue.maintenance.discrepancy import Kind

NAMESPACE = "segue.reconcile"
SAMPLES = 5  # of each kind, that are told by name


@dataclass(slots=True, kw_only=True)
class Reconciled:
    """What was compared, and what is wrong; a run that is not dry has mended all of it."""

    listed: int = 0  # media of the catalogue
    recorded: int = 0  # in the ledger, without tombstones
    left_out: int = 0  # files whose names no URI can say
    files: Counter[Kind] = field(default_factory=Counter)
    # Some of the URIs; perhaps fewer than there could be, since local workers overwrite each
    # other's sets of strings, and none from a runner that has no such metrics.
    samples: dict[Kind, list[str]] = field(default_factory=dict)


def reconciled(result: Any) -> Reconciled:
    """Read what came of a run from its metrics, on any runner."""
    from apache_beam.metrics.metric import MetricsFilter

    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    total = Reconciled()
    for metric in metrics["counters"]:
        n = metric.committed if metric.committed is not None else metric.attempted
        match metric.key.metric.name.split("."):
            case ["files", kind]:
                total.files[Kind(kind)] += n
            case ["listed"]:
                total.listed += n
            case ["recorded"]:
                total.recorded += n
            case ["left_out"]:
                total.left_out += n
    for metric in metrics.get("string_sets", ()):
        _, _, kind = metric.key.metric.name.partition(".")
        names = metric.committed if metric.committed is not None else metric.attempted
        some = {*total.samples.get(Kind(kind), ()), *(names or ())}
        total.samples[Kind(kind)] = sorted(some)[:SAMPLES]
    return total
