"""The metrics of a streaming run: what became of messages, and what jobs took."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from segue.execution.reply import Reply
from segue.execution.streaming_run import log_reply

NAMESPACE = "segue"


def report(reply: Reply) -> None:
    """Log a reply, and add it to the metrics of the calling step."""
    log_reply(reply)
    for action, fields in reply.list_log_lines():
        place = f"job.{fields['job']}" if "job" in fields else f"pipeline.{fields['pipeline']}"
        _count(f"{place}.{action}")
    for result in reply.results:
        if result.error is not None:
            _count(f"failure.{result.job}.{result.error.kind}")
        if result.cpu_seconds is not None:
            _count(f"cpu_us.{result.job}", round(result.cpu_seconds * 1e6))
        if result.seconds is not None:
            run_ms = Metrics.distribution(NAMESPACE, f"run_ms.{result.job}")
            run_ms.update(round(result.seconds * 1e3))


def _count(name: str, n: int = 1) -> None:
    Metrics.counter(NAMESPACE, name).inc(n)
