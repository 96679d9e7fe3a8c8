"""The topics and subscriptions of a graph, and the queue's fair shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.model.graph import SOURCE, Graph, Job
from segue.model.manifest import Manifest, PublishedJob
from segue.model.message import Message, decode_message
from segue.model.queue import (
    DEAD_SUBSCRIPTION,
    Subscription,
    event_to_envelope,
    list_published_topics,
    list_subscriptions,
    list_topics,
    message_to_envelope,
    parse_subscription,
    rotate,
    take_fair_shares,
)
from segue_support.stream import build_graph

NAMES = "abcdefgh"


def change_jobs(graph: Graph, **changes: dict[str, bool]) -> Graph:
    """Change some jobs of a graph."""
    jobs = {n: replace(job, **changes.get(n, {})) for n, job in graph.jobs.items()}
    return replace(graph, jobs=jobs)


def list_read(graph: Graph, pipeline: str) -> list[str]:
    """Return the names of a pipeline's subscriptions, each of which is to the topic in it."""
    found = list_subscriptions(graph, [pipeline])
    assert {parse_subscription(one.name) for one in found} == {pipeline}
    *triggers, inbox = found
    assert all(one.name == f"{pipeline}.{one.topic}" for one in triggers)
    assert inbox == Subscription(name=f"{pipeline}.inbox", topic=f"inbox-{pipeline}")
    return [one.name.partition(".")[2] for one in found]


# --- topics and subscriptions ----------------------------------------------------------------


def test_on_a_line_each_pipeline_reads_what_its_parent_has_finished_and_its_inbox():
    line = build_graph({"a": "", "b": "a", "c": "b"})
    assert list_topics(line) == (
        *("source", "done-a", "done-b", "inbox-a", "inbox-b", "inbox-c", "dead"),
    )
    assert list_read(line, "a") == ["source", "inbox"]
    assert list_read(line, "b") == ["done-a", "inbox"]
    assert list_read(line, "c") == ["done-b", "inbox"]
    assert [line.has_readers(job) for job in "abc"] == [True, True, False]
    everything = [one for p in "abc" for one in list_subscriptions(line, [p])]
    assert list_subscriptions(line) == (*everything, DEAD_SUBSCRIPTION)
    assert list_subscriptions(line, ["c", "a"]) == (*everything[4:], *everything[:2])


def test_of_what_is_below_it_a_pipeline_may_notify_and_of_nothing_else():
    line = build_graph({"a": "", "b": "a", "c": "b", "beside": "a"})
    inboxes = ("inbox-a", "inbox-b", "inbox-c")
    assert list_published_topics(line, ["b"]) == ("done-b", *inboxes, "dead")
    assert list_published_topics(line, ["c"]) == (*inboxes, "dead")
    both = list_published_topics(line, ["c", "b"])
    assert both == list_published_topics(line, ["b"])
    assert list_published_topics(line, line.pipelines) == tuple(
        topic for topic in list_topics(line) if topic != "source"
    )


def test_a_join_reads_each_of_its_parents():
    join = build_graph({"a": "", "b": "", "c": ("a", "b")})
    assert join.find_triggers("c") == ("a", "b")
    assert list_read(join, "c") == ["done-a", "done-b", "inbox"]


def test_children_of_one_job_in_one_pipeline_read_it_once():
    graph = build_graph({"a": "", "b": "a", "c": "a"}, {"both": ("b", "c")})
    assert list_read(graph, "both") == ["done-a", "inbox"]


def test_what_happens_within_a_pipeline_has_no_topic():
    graph = build_graph({"a": "", "b": "a", "c": "b", "d": "a"}, {"line": ("a", "b", "c")})
    assert list_read(graph, "line") == ["source", "inbox"]
    assert list_topics(graph) == ("source", "done-a", "inbox-line", "inbox-d", "dead")
    assert graph.find_published("line") == ("a",)
    assert graph.find_notified("d") == ("line", "d")


def test_pipelines_that_take_turns_on_a_line_read_each_other():
    graph = build_graph({"a": "", "b": "a", "c": "b"}, {"outer": ("a", "c")})
    assert list_read(graph, "outer") == ["source", "done-b", "inbox"]
    assert list_read(graph, "b") == ["done-a", "inbox"]


def test_what_runs_only_on_request_is_only_asked():
    graph = change_jobs(
        build_graph({"a": "", "b": "a", "c": "b", "d": ""}),
        b={"on_arrival": False},
        c={"on_arrival": False},
        d={"on_arrival": False},
    )
    assert list_read(graph, "a") == ["source", "inbox"]
    for pipeline in "bcd":
        assert list_read(graph, pipeline) == ["inbox"]
    assert list_topics(graph) == ("source", *(f"inbox-{p}" for p in "abcd"), "dead")
    assert not graph.has_readers("a")


def test_a_published_job_has_a_topic_whoever_reads_it():
    graph = build_graph({"a": "", "b": "a"}, {"both": ("a", "b")})
    assert list_topics(graph) == ("source", "inbox-both", "dead")
    published = change_jobs(graph, b={"publish": True})
    assert list_topics(published) == ("source", "done-b", "inbox-both", "dead")
    assert list_published_topics(published, ["both"]) == ("done-b", "inbox-both", "dead")
    assert list_subscriptions(published) == list_subscriptions(graph)


def build_child(queue: str = "pubsub://acme-platform", **changes) -> Graph:
    """Two jobs below two of another team, and the second on request only."""
    published = PublishedJob(fingerprint="0" * 12, writes="application/json", pipeline="main")
    platform = Manifest(
        namespace="platform",
        ledger="firestore://acme-platform",
        queue=queue,
        artifacts="gs://acme-platform",
        jobs={"down": published, "up": published},
    )
    needs = {
        "a": {"x": "platform/down", "media": SOURCE},
        "b": {"y": "platform/up", "x": "platform/down", "a": "a"},
    }
    jobs = {
        name: Job(name=name, run="m:f", needs=needs[name], writes="application/json")
        for name in needs
    }
    jobs["b"] = replace(jobs["b"], on_arrival=False)
    imports = {"platform": platform}
    return replace(Graph(jobs=jobs, namespace="moods", imports=imports), **changes)


def test_a_pipeline_reads_what_the_jobs_that_it_needs_of_other_namespaces_have_finished():
    child = build_child()
    queue = "pubsub://acme-platform"
    assert list_subscriptions(child, ["a"]) == (
        Subscription(name="a.source", topic="source"),
        Subscription(name="a.platform.done-down", topic="done-down", queue=queue),
        Subscription(name="a.inbox", topic="inbox-a"),
    )
    assert [one.name for one in list_subscriptions(child, ["b"])] == [  # on request only
        "b.platform.done-down",
        "b.platform.done-up",
        "b.inbox",
    ]
    assert {parse_subscription(one.name) for one in list_subscriptions(child, ["b"])} == {"b"}
    assert list_topics(child) == ("source", "inbox-a", "inbox-b", "dead")


def test_pipelines_read_a_job_of_another_namespace_once_and_only_what_they_need_directly():
    both = build_child(groups={"both": ("a", "b")})
    assert both.find_foreign_parents("both") == ("platform/down", "platform/up")
    below = replace(both.jobs["b"], name="c", needs={"b": "b"})
    assert replace(both, jobs={**both.jobs, "c": below}).find_foreign_parents("c") == ()


def test_jobs_of_other_namespaces_are_no_triggers_of_this_one():
    assert build_child().find_triggers("a") == (SOURCE,)


def test_a_job_named_like_a_topic_shares_its_name_with_none():
    graph = build_graph({"dead": "", "inbox": "dead"})
    names = [one.name for one in list_subscriptions(graph)]
    assert len(set(names)) == len(names)
    assert len(set(list_topics(graph))) == len(list_topics(graph))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph with groups, published jobs, and jobs that run only on request."""
    parents = {
        name: draw(st.sets(st.sampled_from(NAMES[:i]), max_size=3)) if i else set()
        for i, name in enumerate(NAMES[: draw(st.integers(1, len(NAMES)))])
    }
    numbers = {name: draw(st.integers(0, 3)) for name in parents}
    groups = {f"p{n}": tuple(j for j in parents if numbers[j] == n) for n in (1, 2, 3)}
    graph = build_graph(parents, {name: jobs for name, jobs in groups.items() if jobs})
    late: set[str] = set()
    for name, above in parents.items():
        if late & above or draw(st.integers(0, 3)) == 0:
            late.add(name)
    public = draw(st.sets(st.sampled_from(sorted(parents))))
    jobs = {
        name: replace(job, on_arrival=name not in late, publish=name in public)
        for name, job in graph.jobs.items()
    }
    return replace(graph, jobs=jobs)


@given(graphs())
def test_whatever_a_pipeline_publishes_somebody_reads_or_other_namespaces_may(graph):
    read = {one.topic for one in list_subscriptions(graph)}
    public = {f"done-{name}" for name, job in graph.jobs.items() if job.publish}
    assert read <= {*list_topics(graph)} <= {"source", *read, *public}
    for pipeline in graph.pipelines:
        published = list_published_topics(graph, [pipeline])
        assert {f"inbox-{pipeline}", "dead"} <= {*published} <= read | public
        assert len(set(published)) == len(published)


@given(graphs())
def test_each_parent_elsewhere_of_a_job_that_runs_on_arrival_has_one_subscription(graph):
    for pipeline, own in graph.pipelines.items():
        expected = {
            "source" if parent == SOURCE else f"done-{parent}"
            for job in own
            if graph.jobs[job].on_arrival
            for parent in graph.jobs[job].needs.values()
            if parent not in own
        }
        topics = [one.topic for one in list_subscriptions(graph, [pipeline])]
        assert sorted(topics) == sorted([*expected, f"inbox-{pipeline}"])
    for name in graph.jobs:
        readers = {
            parse_subscription(one.name)
            for one in list_subscriptions(graph)
            if one.topic == f"done-{name}"
        }
        assert graph.has_readers(name) == bool(readers or graph.jobs[name].publish)
        assert graph.pipeline_of[name] not in readers


@given(graphs(), st.data())
def test_a_new_child_of_what_has_readers_changes_of_other_pipelines_only_whom_they_may_ask(
    graph, data
):
    with_topics = [name for name in graph.jobs if graph.has_readers(name)]
    if not with_topics:
        return
    parent = data.draw(st.sampled_from(with_topics))
    child = replace(graph.jobs[parent], name="new", needs={"x": parent}, publish=False)
    more = replace(graph, jobs={**graph.jobs, "new": child})
    for pipeline in graph.pipelines:
        assert list_subscriptions(more, [pipeline]) == list_subscriptions(graph, [pipeline])
        before = list_published_topics(graph, [pipeline])
        after = list_published_topics(more, [pipeline])
        assert [topic for topic in after if topic != "inbox-new"] == [*before]
    assert {*list_topics(more)} == {*list_topics(graph), "inbox-new"}


@pytest.mark.parametrize(("trigger", "topic"), [("source", "source"), ("beats", "done-beats")])
def test_an_event_goes_to_the_topic_of_what_has_happened(trigger, topic):
    event = Message(uri="gs://b/a.wav", version="7", order=7, trigger=trigger)
    envelope = event_to_envelope(event)
    assert (envelope.topic, decode_message(envelope.data)) == (topic, event)


def test_any_other_message_goes_to_the_inbox_of_a_pipeline():
    message = Message(uri="gs://b/a.wav", version="7", order=7, targets=("beats",))
    envelope = message_to_envelope(message, "rhythm")
    assert (envelope.topic, decode_message(envelope.data)) == ("inbox-rhythm", message)


# --- fair shares -----------------------------------------------------------------------------


def dealt(held: dict[str, int], limit: int) -> dict[str, int]:
    """How many come of each source, and that none gave more than asked, or more than it had."""
    left = dict(held)

    def take(shares):
        given = {s: min(n, left[s]) for s, n in shares.items()}
        for source, number in given.items():
            left[source] -= number
        return {s: [s] * n for s, n in given.items()}

    things = take_fair_shares(list(held), limit, take)
    return {source: things.count(source) for source in held}


def test_full_sources_share_equally():
    assert dealt({"a": 100, "b": 100, "c": 100}, 12) == {"a": 4, "b": 4, "c": 4}


def test_what_cannot_be_shared_comes_from_the_first():
    assert dealt({"a": 100, "b": 100, "c": 100}, 5) == {"a": 2, "b": 2, "c": 1}
    assert dealt({"a": 100, "b": 100, "c": 100}, 1) == {"a": 1, "b": 0, "c": 0}


def test_what_one_lacks_the_others_give():
    assert dealt({"a": 1, "b": 100, "c": 3}, 20) == {"a": 1, "b": 16, "c": 3}
    assert dealt({"a": 0, "b": 0, "c": 9}, 2) == {"a": 0, "b": 0, "c": 2}


def test_full_sources_are_asked_once():
    asked = []
    take_fair_shares(
        ["a", "b"], 10, lambda shares: asked.append(dict(shares)) or {"a": [1] * 5, "b": [1] * 5}
    )
    assert asked == [{"a": 5, "b": 5}]


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30)),
    st.integers(0, 100),
)
def test_the_limit_is_reached_if_there_is_enough_and_nobody_is_starved(held, limit):
    got = dealt(held, limit)
    assert sum(got.values()) == min(limit, sum(held.values()))
    for source, number in got.items():
        if number < held[source]:  # it could have given more: then no other gave two more
            assert max(got.values()) <= number + 1


def test_each_turn_begins_with_another_and_names_each_once():
    assert [rotate(["a", "b", "b", "c"], t) for t in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotate([], 3) == []
