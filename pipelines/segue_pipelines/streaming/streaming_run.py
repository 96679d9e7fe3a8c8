"""What one streaming pipeline is to do; its steps carry this to wherever Beam runs them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from segue.errors import ConfigurationError
from segue.model.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingRun:
    """One pipeline: which jobs, on which stack."""

    graph: Graph
    jobs: tuple[str, ...]  # that are served
    ledger: str  # URL
    artifacts: str  # location
    queue: str  # URL
    processes: int | None = None  # child processes per worker; None: one per core
    until_idle_s: float | None = None  # end after so long without a message
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # of this run

    def __post_init__(self) -> None:
        unknown = [job for job in self.jobs if job not in self.graph.jobs]
        if unknown or not self.jobs:
            known = ", ".join(self.graph.jobs)
            what = f"{unknown[0]!r} is not a job of the graph" if unknown else "no job is named"
            raise ConfigurationError(f"{what}; name some of {known} with --job, or all with --all")
