"""Reports the files that a pipeline leaves out: each by name in the log, and all in its metrics."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from segue.log import Action, log_event
from segue.model.media_file import format_name

NAMESPACE = "segue.left_out"
SAMPLES = 100  # names per reason in the metrics of a worker; the log has all


class LeftOutReporter:
    """Logs and counts the files that one worker leaves out."""

    def __init__(self) -> None:
        self._sampled: dict[str, int] = {}

    def report(self, uri: str, reason: str, explanation: str) -> None:
        """Report a file, or a folder with all that is in it."""
        name = format_name(uri)
        log_event(Action.LEFT_OUT, severity="WARNING", file=name, kind=reason, reason=explanation)
        Metrics.counter(NAMESPACE, reason).inc()
        self._sampled[reason] = self._sampled.get(reason, 0) + 1
        if self._sampled[reason] <= SAMPLES:
            Metrics.string_set(NAMESPACE, reason).add(name)


def read_left_out(result: Any) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Return the counts, and some of the names, by reason, from a run's metrics.

    Several workers on one machine overwrite each other's names, and some runners keep none.
    """
    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    counts = {metric.key.metric.name: _read_value(metric) for metric in metrics["counters"]}
    samples: dict[str, set[str]] = {}
    for metric in metrics.get("string_sets", ()):
        samples.setdefault(metric.key.metric.name, set()).update(_read_value(metric) or ())
    return counts, {reason: sorted(names) for reason, names in samples.items()}


def _read_value(metric: Any) -> Any:
    return metric.committed if metric.committed is not None else metric.attempted
