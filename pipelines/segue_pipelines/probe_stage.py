"""Gives an engine the files of a run whose probes meet the run's criteria.

If the run computes the probe, a file without one is probed first, and goes on if it is selected
then. Its two outcomes become one. Nothing else is computed for a file that is not selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import msgspec

from segue.execution.engine import Engine
from segue.execution.reply import Reply
from segue.execution.work import Run
from segue.ingest.probe_filter import ProbeFilter
from segue.model.criteria import Unselected
from segue.model.ledger import Ledger, Snapshot
from segue.model.media_file import MediaFile
from segue.model.outcome import SUCCESSFUL, Outcome, RunTotals, Status


class ProbeStage:
    """Selects files by their probes, in front of an engine.

    Parameters
    ----------
    engine : Engine
    ledger : Ledger
    run : Run
    probes : ProbeFilter or None
        None: the run has no criteria about probes, and all files are selected.
    unselect : callable
        Called with the reason for each file that is not selected.
    leave : callable
        Called with the totals of files that are not started, as the run is to stop. What was
        probed of them counts in the totals of jobs.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        run: Run,
        probes: ProbeFilter | None,
        unselect: Callable[[Unselected], None],
        leave: Callable[[RunTotals], None],
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._run = run
        self._probes = probes
        self._unselect = unselect
        self._leave = leave
        self._probing: set[str] = set()  # the URIs of files that are probed first
        self._probed: list[Outcome] = []  # and may go on
        self._before: dict[str, Outcome] = {}  # by URI: the first outcomes of those that went on
        self._is_stopped = False

    def add(self, files: Sequence[MediaFile], snapshots: Sequence[Snapshot] | None = None) -> None:
        """Accept files, with their records if they were read already."""
        if self._probes is None or not files:
            self._engine.add_files(files, self._run, snapshots)
            return
        records = snapshots or self._ledger.read([media.uri for media in files])
        reasons = self._probes.find_reasons(files, records)
        known = list(zip(files, records, reasons, strict=True))
        is_probed_here = self._probes.job in self._run.targets
        unprobed = [
            (media, record)
            for media, record, reason in known
            if is_probed_here and reason is Unselected.NO_PROBE
        ]
        self._add_pairs([(m, record) for m, record, reason in known if reason is None], self._run)
        self._add_pairs(unprobed, replace(self._run, targets=(self._probes.job,)))
        self._probing.update(media.uri for media, _ in unprobed)
        for _, _, reason in known:
            if reason is not None and not (is_probed_here and reason is Unselected.NO_PROBE):
                self._unselect(reason)

    def _add_pairs(self, pairs: Sequence[tuple[MediaFile, Snapshot]], run: Run) -> None:
        if pairs:
            files, snapshots = zip(*pairs, strict=True)
            self._engine.add_files(files, run, snapshots)

    def step(self, timeout_s: float = 0.0) -> Iterator[Outcome | Reply]:
        """Let the engine work, and yield the outcomes of the files that are finished."""
        yield from self._sort(self._engine.step(timeout_s))

    def withdraw(self) -> None:
        """Give up the files that have not begun, as the engine does, and go on with none."""
        self._is_stopped = True
        left = self._engine.withdraw()
        probed = [self._before.pop(uri) for uri in left if uri in self._before]
        self._probing.difference_update(left)
        if left:
            self._leave(RunTotals(not_started=len(left) - len(probed)))
        self._leave_files(probed)

    def _leave_files(self, outcomes: Sequence[Outcome]) -> None:
        """Count files that were probed, and for which nothing else was begun, as not started."""
        totals = RunTotals()
        for outcome in outcomes:
            totals.add(outcome)
        if outcomes:
            self._leave(replace(totals, files=0, not_started=totals.files))

    def _sort(self, ended: Iterable[Outcome | Reply]) -> Iterator[Outcome | Reply]:
        """Yield final outcomes; let files go on that were probed and are selected."""
        for outcome in ended:
            if not isinstance(outcome, Outcome):
                yield outcome
            elif outcome.media.uri in self._probing:
                yield from self._end_probe(outcome)
            else:
                before = self._before.pop(outcome.media.uri, None)
                yield outcome if before is None else join(before, outcome)
        yield from self._continue()

    def _end_probe(self, outcome: Outcome) -> Iterator[Outcome]:
        assert self._probes is not None
        self._probing.discard(outcome.media.uri)
        status = outcome.jobs.get(self._probes.job)
        if status in SUCCESSFUL:
            self._probed.append(outcome)
            return
        if status is Status.TODO:
            self._unselect(Unselected.UNDECIDED)
        elif status is Status.NOT_APPLICABLE:
            self._unselect(Unselected.NO_PROBE)
        yield outcome

    def _continue(self) -> Iterator[Outcome]:
        """Give the engine what was probed and is selected; yield the outcomes of the rest."""
        if self._probes is None or not self._probed:
            return
        probed, self._probed = self._probed, []
        if self._is_stopped:
            self._leave_files(probed)
            return
        snapshots = self._ledger.read([outcome.media.uri for outcome in probed])
        reasons = self._probes.find_reasons([outcome.media for outcome in probed], snapshots)
        selected = []
        for outcome, snapshot, reason in zip(probed, snapshots, reasons, strict=True):
            if reason is None:
                self._before[outcome.media.uri] = outcome
                selected.append((outcome.media, snapshot))
            else:
                self._unselect(reason)
                yield outcome
        self._add_pairs(selected, replace(self._run, is_begun=True))


def join(first: Outcome, second: Outcome) -> Outcome:
    """Return the outcome of a file that was worked on twice: what the first one says, counts."""
    return msgspec.structs.replace(
        second,
        jobs={**second.jobs, **first.jobs},
        results=[*first.results, *second.results],
    )
