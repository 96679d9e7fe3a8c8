"""Records the run of what changes what is there, such as ``segue gc --delete``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from segue.clock import utc_now
from segue.execution.run_recorder import RunRecorder
from segue.model.media_file import parse_location
from segue.model.message import build_request_id
from segue.model.run import (
    RunCounts,
    RunKind,
    RunRecord,
    RunSelection,
    RunState,
    find_user,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from segue.model.graph import Graph

NOTHING = RunSelection()


@contextlib.contextmanager
def record_run(
    graph: Graph,
    kind: RunKind,
    *,
    jobs: Sequence[str] = (),
    selection: RunSelection = NOTHING,
    runner: str | None = None,
) -> Iterator[Callable[[Mapping[str, int]], None]]:
    """Record a run; yield what is called with the actions of the run, by name, before it ends.

    Whoever may not write beside the artifacts is warned, and goes on all the same.
    """
    run = RunRecord(
        id=build_request_id(utc_now()),
        kind=kind,
        state=RunState.RUNNING,
        who=find_user(),
        runner=runner,
        started_at=utc_now(),
        selection=selection,
        jobs=tuple(jobs),
    )
    recorder = RunRecorder(parse_location(graph.artifacts), run, RunCounts, is_optional=True)

    def report(actions: Mapping[str, int]) -> None:
        recorder.counts = RunCounts(actions={name: n for name, n in actions.items() if n})

    with recorder:
        report({})
        yield report
