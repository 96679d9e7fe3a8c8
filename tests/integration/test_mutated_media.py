"""Damaged media files of all containers: an artifact or a failure, and no worker dies."""

from __future__ import annotations

from segue.errors import Kind
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue_support import media_seeds
from segue_support.mutated_media import JOBS, Figures, mutate, run


def test_no_damaged_file_costs_more_than_itself():
    figures = run(range(60))
    assert figures.violations == []
    assert figures.files == 60
    # Else the damage would be none, or would leave nothing to read.
    assert figures.outcomes["done"] >= 10
    assert figures.outcomes[Kind.CORRUPT_MEDIA] >= 10
    assert figures.outcomes[State.NOT_APPLICABLE] >= 10


def test_a_seed_gives_the_same_file_and_each_container_has_its_turn():
    whole = {name: name.encode() * 100 for name in (*media_seeds.NAMES, *media_seeds.PICTURES)}
    files = [mutate(seed, whole) for seed in range(len(whole))]
    assert files == [mutate(seed, whole) for seed in range(len(whole))]
    assert {name.partition("-")[2] for name, _ in files} == set(whole)
    assert sum(data != whole[name.partition("-")[2]] for name, data in files) > len(whole) * 0.9


def fail(kind: str) -> Result:
    error = Failure(kind=kind, type="X", message="why")
    return Result(job="loudness", state=State.FAILED, error=error)


def test_hangs_dead_workers_and_unreadable_artifacts_are_violations():
    done = Result(job="downsample", state=State.DONE, artifacts={"file:///a": ""})
    figures = Figures()
    others = {job: fail(Kind.TOO_LARGE) for job in JOBS[1:]}
    figures.add("a", {"downsample": done, **others}, lambda _: b"")
    assert [v.partition(" cannot")[0] for v in figures.violations] == [
        "a: downsample: its artifact"
    ]
    for kind in (Kind.TIMEOUT, Kind.CRASHED, Kind.OUT_OF_MEMORY, Kind.JOB_RAISED):
        figures = Figures()
        figures.add("a", {"downsample": fail(kind), **others}, lambda _: b"")
        assert len(figures.violations) == 1
    assert f"{len(others)} too_large" in figures.format(1.0)
    figures.add("b", {}, lambda _: b"")
    assert figures.violations[1:] == [f"b: {job}: no result" for job in JOBS]
    not_applicable = Result(job="downsample", state=State.NOT_APPLICABLE)
    figures.add("c", {"downsample": not_applicable, **others}, lambda _: b"")
    assert figures.outcomes["not_applicable"] == 1
    assert len(figures.violations) == 1 + len(JOBS)
