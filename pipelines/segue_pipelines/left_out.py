"""Reports the files that a pipeline leaves out: each by name in the log, and all in its metrics.

Those that the graph does not include, or that are not selected, are only counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from segue.ingest.catalogue import EXCLUDED
from segue.ingest.exclusions import OTHER, find_suffix
from segue.log import Action, log_event
from segue.model.criteria import Unselected
from segue.model.graph import INCLUDE
from segue.model.media_file import format_name
from segue.model.passed_over import PassedOver
from segue_pipelines.runner import prepare_worker

NAMESPACE = "segue.left_out"
# Of what is only counted: by suffix, or reason.
NOT_INCLUDED_COUNTS = "segue.not_included"
EXCLUDED_COUNTS = "segue.excluded"
NOT_SELECTED_COUNTS = "segue.not_selected"
MAX_SUFFIXES = 100  # each is a metric, of which a runner keeps a few thousand
SAMPLES = 100  # names per reason in the metrics, the first in their order; the log has all


class LeftOutReporter:
    """Logs and counts the files that one worker leaves out.

    ``flush`` adds names to the metrics, from which none can be removed: it has to be called after
    the last report of a bundle. As each bundle adds its first ones, so does the whole run.
    """

    def __init__(self) -> None:
        prepare_worker()
        self._names: dict[str, list[str]] = {}  # by reason
        self._counts: Counter[tuple[str, str]] = Counter()  # by namespace and name
        self._suffixes: set[str] = set()  # of the files that were passed over

    def report(self, uri: str, reason: str, explanation: str) -> None:
        """Report a file, or a folder with all that is in it."""
        name = format_name(uri)
        log_event(Action.LEFT_OUT, severity="WARNING", file=name, kind=reason, reason=explanation)
        Metrics.counter(NAMESPACE, reason).inc()
        names = self._names.setdefault(reason, [])
        names.append(name)
        if len(names) > 2 * SAMPLES:
            names[:] = sorted(names)[:SAMPLES]

    def pass_over(self, name: str, reason: str) -> None:
        """Count a file that the graph's patterns do not include, or exclude."""
        namespace = EXCLUDED_COUNTS if reason == EXCLUDED else NOT_INCLUDED_COUNTS
        suffix = find_suffix(name)
        is_known = suffix in self._suffixes or f"*{suffix}" in INCLUDE
        if len(self._suffixes) >= MAX_SUFFIXES and not is_known:
            suffix = OTHER
        self._suffixes.add(suffix)
        self._counts[namespace, suffix] += 1

    def unselect(self, reason: Unselected) -> None:
        """Count a file that is not selected."""
        self._counts[NOT_SELECTED_COUNTS, reason] += 1

    def flush(self) -> None:
        """Add the first names, and what was only counted, to the metrics."""
        for (namespace, name), n in self._counts.items():
            Metrics.counter(namespace, name).inc(n)
        self._counts.clear()
        for reason, names in self._names.items():
            for name in sorted(names)[:SAMPLES]:
                Metrics.string_set(NAMESPACE, reason).add(name)
        self._names.clear()


def read_left_out(result: Any) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Return the counts, and the first names, by reason, from a run's metrics.

    Some runners keep no names.
    """
    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    counts = _add_counters(metrics)
    names: dict[str, set[str]] = {}
    for metric in metrics.get("string_sets", ()):
        names.setdefault(metric.key.metric.name, set()).update(_read_value(metric) or ())
    return counts, {reason: sorted(found)[:SAMPLES] for reason, found in names.items()}


def read_exclusions(result: Any) -> PassedOver:
    """Return how many files were only counted, from a run's metrics."""
    found = [
        _add_counters(result.metrics().query(MetricsFilter().with_namespace(namespace)))
        for namespace in (NOT_INCLUDED_COUNTS, EXCLUDED_COUNTS, NOT_SELECTED_COUNTS)
    ]
    return PassedOver(not_included=found[0], excluded=found[1], not_selected=found[2])


def _add_counters(metrics: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for metric in metrics["counters"]:
        name = metric.key.metric.name
        counts[name] = counts.get(name, 0) + _read_value(metric)
    return counts


def _read_value(metric: Any) -> Any:
    return metric.committed if metric.committed is not None else metric.attempted
