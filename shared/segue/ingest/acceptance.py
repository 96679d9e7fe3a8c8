"""Accepts that results of a file are wanted, and asks the pipelines that can compute something.

Requests, retries and the sweep use it. What is wanted is in the record before anybody is asked, so
a message that is lost is sent again by the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from segue.model.graph import Graph
from segue.model.message import Message
from segue.model.planner import NO_JOBS, OPEN, Plan, Verdict, plan
from segue.model.queue import Envelope, message_to_envelope
from segue.model.record import NOBODY, Lease, Record, State
from segue.model.transitions import block, move_wanted, want

# A process that is stopped gives up its lease, and leaves only what is wanted.
WANTED = OPEN | {Verdict.HELD}


def accept_targets(
    graph: Graph,
    record: Record,
    targets: Sequence[str],
    now: datetime,
    lost: Callable[[Lease], bool],
    paused: Collection[str] = NO_JOBS,
) -> tuple[Record, Plan]:
    """Record that targets are wanted, or why they cannot be computed; return the plan, too.

    What can run now is in the plan's ``elsewhere``: nothing runs here. What is paused is wanted,
    and is asked for by the sweep once it is resumed. Nothing changes for targets
    that are current or have failed. Whether other namespaces have their results is left to the
    pipelines, which can read them.
    """
    record = move_wanted(record, graph, now, lost)
    states = dict.fromkeys(graph.references, State.DONE)
    planned = plan(graph, record, states, targets, now, served=NO_JOBS, lost=lost, paused=paused)
    for state in (State.BLOCKED, State.NOT_APPLICABLE):
        causes = {j: c for j, c in planned.blockers.items() if str(planned.verdicts[j]) == state}
        record = block(record, graph, causes, now=now, triggered={}, state=state)
    wanted = [job for job in targets if planned.verdicts[job] in WANTED]
    return want(record, graph, wanted, NOBODY, now), planned


def build_requests(
    graph: Graph,
    record: Record,
    targets: Sequence[str],
    jobs: Iterable[str],
    request: str | None = None,
) -> list[Envelope]:
    """Return a request for targets to each pipeline that has one of some jobs."""
    message = Message(
        namespace=graph.namespace,
        uri=record.uri,
        version=record.version,
        order=record.order,
        targets=tuple(targets),
        request=request,
    )
    return [message_to_envelope(message, pipeline) for pipeline in graph.find_pipelines(jobs)]
