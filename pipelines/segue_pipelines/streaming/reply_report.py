"""Reports replies: one log line each, and Beam metrics."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from apache_beam.metrics import Metrics

from segue.execution.responder import Reply
from segue.log import Action, log_event

NAMESPACE = "segue"
SEVERITIES = {
    Action.FAILED: "WARNING",
    Action.DEAD_LETTERED: "WARNING",
    Action.DEFERRED: "WARNING",
    Action.LOST: "WARNING",
}


def log_replies(replies: Iterable[Reply]) -> None:
    """Log one line per reply."""
    for reply in replies:
        log_event(
            reply.action, severity=SEVERITIES.get(reply.action, "INFO"), **reply.to_log_fields()
        )


def count_replies(replies: Iterable[Reply]) -> None:
    """Add replies to the metrics of the calling step."""
    counts: Counter[str] = Counter()
    for reply in replies:
        counts[f"job.{reply.job}.{reply.action}"] += 1
        result = reply.result
        if result is None:
            continue
        if result.error is not None:
            counts[f"failure.{reply.job}.{result.error.kind}"] += 1
        if result.cpu_seconds is not None:
            counts[f"cpu_us.{reply.job}"] += round(result.cpu_seconds * 1e6)
        if result.seconds is not None:
            _distribution(f"run_ms.{reply.job}").update(round(result.seconds * 1e3))
    for name, n in counts.items():
        _counter(name).inc(n)


@functools.cache
def _counter(name: str) -> Any:
    return Metrics.counter(NAMESPACE, name)


@functools.cache
def _distribution(name: str) -> Any:
    return Metrics.distribution(NAMESPACE, name)
