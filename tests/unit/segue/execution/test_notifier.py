"""Who is told what of a run, and that nothing which is wrong with that disturbs the run."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import msgspec
import pytest

from segue.adapters.notification_target import parse_target
from segue.backoff import Backoff
from segue.errors import ConfigurationError
from segue.execution.notifier import ATTEMPTS, Notification, Notifier, open_notifier
from segue.log import LOGGER
from segue.model.failure_limit import FailureLimit
from segue.model.run import RunCounts, RunKind, RunRecord, RunSelection, RunState
from segue_support.webhook import serve_hook

RUN = RunRecord(
    id="20260102T030405.000000Z-0a1b2c3d",
    kind=RunKind.BACKFILL,
    state=RunState.RUNNING,
    started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    selection=RunSelection(prefix="file:///music/"),
    jobs=("beats",),
)
FAST = Backoff(0.001, 0.002)
PATIENCE_S = 60


def at(failed: int = 0, tried: int = 0, **fields) -> RunRecord:
    failures = {"beats": {"timeout": failed}} if failed else {}
    counts = RunCounts(
        files=tried,
        failed_files=failed,
        tried_files=tried,
        newly_failed_files=failed,
        failures=failures,
    )
    return msgspec.structs.replace(RUN, counts=counts, **fields)


@pytest.fixture
def hook():
    with serve_hook() as made:
        yield made


@pytest.fixture
def logged(caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", True)
    return lambda: [r.segue for r in caplog.records if hasattr(r, "segue")]


def notify(hook, *runs: RunRecord, limit: str | None = None) -> None:
    target = parse_target(f"http://localhost:{hook.port}/T0KEN")
    parsed = FailureLimit.parse(limit) if limit is not None else None
    with Notifier([target], limit=parsed, backoff=FAST) as notifier:
        for run in runs:
            notifier.observe(run)


def test_the_end_of_a_run_is_told_with_its_record(hook):
    end = at(tried=3, state=RunState.DONE)
    notify(hook, RUN, at(tried=2), end)
    [post] = hook.posts
    assert (post["format"], post["event"]) == (1, "end")
    assert post["text"] == (
        "The backfill 20260102T030405.000000Z-0a1b2c3d of beats is done (3 files, 0 failed)."
    )
    assert msgspec.convert(post, Notification).run == end


def test_the_first_failure_is_told_once_and_before_the_end(hook):
    notify(hook, RUN, at(1, 5), at(2, 6), at(3, 9, state=RunState.DONE))
    assert hook.events == ["first_failure", "end"]
    assert hook.posts[0]["text"].endswith("has its first failures: beats timeout 1.")
    assert hook.posts[0]["run"]["state"] == "running"


def test_a_failure_that_is_first_known_at_the_end_is_told_too(hook):
    notify(hook, at(3, 9, state=RunState.DONE))
    assert hook.events == ["first_failure", "end"]


def test_too_many_failures_are_told_when_the_limit_is_reached(hook):
    end = at(3, 9, state=RunState.FAILED, error="3 of 9 files failed")
    notify(hook, at(2, 6), at(3, 9), end, limit="3")
    assert hook.events == ["first_failure", "too_many_failures", "end"]
    assert hook.posts[1]["text"].endswith("stops: 3 of 9 files failed (beats timeout 3).")
    assert "is failed (9 files, 3 failed): 3 of 9 files failed." in hook.posts[2]["text"]


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.INTERRUPTED, RunState.FAILED])
def test_whatever_ends_a_run_is_told(hook, state):
    notify(hook, RUN, at(state=state))
    assert [post["run"]["state"] for post in hook.posts] == [state]


def test_a_server_that_is_away_for_a_moment_is_tried_again(hook, logged):
    hook.statuses = [503, 500]
    notify(hook, at(state=RunState.DONE))
    assert hook.events == ["end"] * ATTEMPTS
    assert logged() == []


@pytest.mark.parametrize(
    ("statuses", "action", "posts"),
    [([503] * ATTEMPTS, "unavailable", ATTEMPTS), ([404], "misconfigured", 1)],
)
def test_what_cannot_be_sent_is_logged_without_secrets(hook, logged, statuses, action, posts):
    hook.statuses = list(statuses)
    notify(hook, at(state=RunState.DONE))
    assert len(hook.posts) == posts
    [line] = logged()
    assert line["action"] == action
    assert line["run"] == RUN.id
    assert line["error"] == (
        f"the notification of end was not sent: http://localhost:{hook.port}/… responded "
        f"{statuses[0]}"
    )


def test_one_target_does_not_keep_another_from_being_told(hook):
    with serve_hook() as slow:
        slow.hangs = True
        targets = [parse_target(f"http://localhost:{one.port}/") for one in (slow, hook)]
        with Notifier(targets, last_s=0.5) as notifier:
            notifier.observe(at(1, 5))
            notifier.observe(at(1, 9, state=RunState.DONE))
        assert hook.events == ["first_failure", "end"]
        assert slow.events == ["first_failure"]  # it still hangs, and nobody waits for it


def test_what_is_not_taken_keeps_no_later_notification_waiting():
    events, released = [], threading.Event()

    class Slow:
        name = "slow"

        def send(self, data, attributes) -> None:
            events.append(attributes["event"])
            if attributes["event"] != "end":
                released.wait(PATIENCE_S)

    with Notifier([Slow()], limit=FailureLimit(files=2), patience_s=0.01) as notifier:
        notifier.observe(at(1, 5))
        notifier.observe(at(2, 6))
        notifier.observe(at(2, 9, state=RunState.DONE))
    assert sorted(events) == ["end", "first_failure", "too_many_failures"]
    released.set()


def test_an_unexpected_error_of_a_target_is_logged(logged):
    class Broken:
        name = "broken"

        def send(self, data, attributes) -> None:
            raise RuntimeError("T0KEN")

    with Notifier([Broken()]) as notifier:
        notifier.observe(at(state=RunState.DONE))
    [line] = logged()
    assert line["error"] == "the notification of end to broken was not sent (RuntimeError)"


def test_without_urls_there_is_nobody_to_tell():
    with open_notifier((), None) as notifier:
        assert notifier is None
    with pytest.raises(ConfigurationError):
        open_notifier(("nowhere",), None)
