"""What the Pub/Sub queue costs in calls, and what it makes of a bad network.

The emulator knows neither rights nor quotas: those answers come from the proxy before it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from google.pubsub_v1 import types

from segue.adapters.pubsub import MAX_IN_FLIGHT, PubsubQueue
from segue.errors import ConfigurationError, Unavailable
from segue.model.queue import Envelope, ReceivedEnvelope, Subscription
from segue_support import emulators
from segue_support.grpc_proxy import GrpcProxy, RpcFault
from segue_support.pubsub_topics import make_topics

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("pubsub")

ARRIVALS = Subscription(name="beats.source", topic="source")
INBOX = Subscription(name="beats.inbox", topic="inbox-beats")
OTHER = Subscription(name="loudness.source", topic="source")
TOPICS = (ARRIVALS.topic, INBOX.topic)
NAMES = (ARRIVALS.name, INBOX.name)


@pytest.fixture
def proxy(pubsub_emulator, monkeypatch) -> Iterator[GrpcProxy]:
    with GrpcProxy(pubsub_emulator) as proxy:
        monkeypatch.setenv(emulators.PUBSUB.variable, proxy.address)
        yield proxy


@pytest.fixture
def queue(proxy, project) -> Iterator[PubsubQueue]:
    queue = PubsubQueue(f"pubsub://{project}")
    make_topics(queue, TOPICS, (ARRIVALS, INBOX))
    proxy.reset()
    yield queue
    queue.close()


def envelopes(number: int, topic: str = ARRIVALS.topic, size_bytes: int = 1) -> list[Envelope]:
    return [Envelope(topic=topic, data=b"x" * size_bytes)] * number


def pull_all(queue: PubsubQueue, name: str, number: int) -> list[ReceivedEnvelope]:
    """Pull so many envelopes; the emulator may return them in parts."""
    found: list[ReceivedEnvelope] = []
    while len(found) < number:
        pulled = queue.pull([name], limit=number - len(found), wait_s=30)
        assert pulled
        found += pulled
    return found


def requests(proxy: GrpcProxy, method: str, kind: type) -> list:
    return [kind.deserialize(r) for r in proxy.requests.get(method, [])]


class TestCost:
    def test_letters_to_several_topics_are_one_call_a_topic(self, proxy, queue):
        queue.publish([x for _ in range(50) for x in (*envelopes(1), *envelopes(1, INBOX.topic))])
        sent = requests(proxy, "Publish", types.PublishRequest)
        assert sorted(len(r.messages) for r in sent) == [50, 50]

    def test_a_call_has_at_most_a_thousand_letters(self, proxy, queue):
        queue.publish(envelopes(2500))
        sent = requests(proxy, "Publish", types.PublishRequest)
        assert sorted(len(r.messages) for r in sent) == [500, 1000, 1000]

    def test_a_call_stays_below_what_the_emulator_takes(self, proxy, queue):
        queue.publish(envelopes(10, size_bytes=1 << 20))
        sizes = [len(r) for r in proxy.requests["Publish"]]
        assert len(sizes) == 10
        assert max(sizes) < 4 << 20

    def test_a_pull_may_return_more_than_a_call_may_send(self, queue):
        queue.publish(envelopes(6, size_bytes=1 << 20))
        pulled = queue.pull([ARRIVALS.name], limit=6, wait_s=30)
        assert len(pulled) > 4  # the client's own channel to the emulator fails above 4 MiB

    def test_only_so_many_calls_are_in_flight_and_requests_exist(self, queue, monkeypatch):
        lock, in_flight, most = threading.Lock(), 0, 0
        connection = queue._connect()
        call = connection.call

        def observe(*args, **fields):
            nonlocal in_flight, most
            with lock:
                in_flight += 1
                most = max(most, in_flight)
            call(*args, **fields)
            with lock:
                in_flight -= 1

        monkeypatch.setattr(connection, "call", observe)  # a request is made before it
        queue.publish([Envelope(topic=ARRIVALS.topic, data=bytes(1_900_000))] * 50)
        assert 1 < most <= MAX_IN_FLIGHT

    def test_a_pull_asks_all_subscriptions_and_none_waits_on_the_server(self, proxy, queue):
        queue.publish([*envelopes(5), *envelopes(5, INBOX.topic)])
        assert len(queue.pull(NAMES, limit=10)) == 10
        sent = requests(proxy, "Pull", types.PullRequest)
        assert sorted((r.subscription.rpartition("/")[2], r.max_messages) for r in sent) == [
            ("segue-beats.inbox", 5),
            ("segue-beats.source", 5),
        ]
        assert all(r.return_immediately for r in sent)

    def test_an_idle_pull_asks_ever_less_often(self, proxy, queue):
        assert queue.pull([ARRIVALS.name], limit=1, wait_s=2) == []
        assert 5 <= proxy.calls["Pull"] <= 14  # pauses of 10, 20, 40, … 250 ms, and the calls

    def test_acknowledgements_are_batched(self, proxy, queue):
        queue.publish(envelopes(6000))
        held = []
        while len(held) < 6000:
            held += queue.pull([ARRIVALS.name], limit=1000, wait_s=5)
        queue.extend(held, 700)
        queue.acknowledge(held)
        sent = requests(proxy, "Acknowledge", types.AcknowledgeRequest)
        assert sorted(len(r.ack_ids) for r in sent) == [1000, 2500, 2500]
        extended = requests(proxy, "ModifyAckDeadline", types.ModifyAckDeadlineRequest)
        assert {r.ack_deadline_seconds for r in extended} == {600}  # Pub/Sub takes no more
        assert sum(len(r.ack_ids) for r in extended) == 6000

    def test_parts_of_seconds_are_rounded_up(self, proxy, queue):
        queue.publish(envelopes(1))
        queue.extend(queue.pull([ARRIVALS.name], limit=1, wait_s=30), 0.2)  # 0 would give it back
        (sent,) = requests(proxy, "ModifyAckDeadline", types.ModifyAckDeadlineRequest)
        assert sent.ack_deadline_seconds == 1


class TestTopics:
    def test_each_subscription_gets_what_is_published_once(self, proxy, queue):
        make_topics(queue, (), (OTHER,))
        queue.publish(envelopes(3))
        (sent,) = requests(proxy, "Publish", types.PublishRequest)
        assert len(sent.messages) == 3
        for name in (ARRIVALS.name, OTHER.name):
            pulled = pull_all(queue, name, 3)
            assert {one.subscription for one in pulled} == {name}
            queue.acknowledge(pulled)
        assert queue.pull([*NAMES, OTHER.name], limit=1, wait_s=0.3) == []

    def test_what_is_published_before_a_subscription_exists_is_not_delivered(self, queue):
        queue.publish(envelopes(1))
        make_topics(queue, (), (OTHER,))
        queue.publish(envelopes(2))
        pull_all(queue, OTHER.name, 2)
        assert queue.pull([OTHER.name], limit=1, wait_s=0.3) == []

    def test_a_prefix_keeps_installations_apart(self, queue, project):
        other = PubsubQueue(f"pubsub://{project}/staging")
        make_topics(other, TOPICS, (ARRIVALS, INBOX))
        other.publish(envelopes(2))
        assert queue.pull(NAMES, limit=10, wait_s=0.3) == []
        assert len(other.pull(NAMES, limit=10, wait_s=30)) >= 1
        other.close()

    @pytest.mark.parametrize(
        "url", ["pubsub://", "pubsub://Acme", "pubsub://acme-audio/a/b", "pubsub://acme-audio/1st"]
    )
    def test_another_url_is_refused(self, url):
        with pytest.raises(ConfigurationError, match="write pubsub://project"):
            PubsubQueue(url)


class TestNetwork:
    @pytest.mark.parametrize(
        "status", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"]
    )
    def test_what_passes_is_tried_again(self, proxy, queue, status):
        proxy.fail("Publish", RpcFault(status), RpcFault(status))
        queue.publish(envelopes(3))
        assert proxy.calls["Publish"] == 3
        proxy.fail("Pull", RpcFault(status))
        held = queue.pull([ARRIVALS.name], limit=3, wait_s=30)
        assert len(held) == 3
        proxy.fail("Acknowledge", RpcFault(status))
        queue.acknowledge(held)
        assert proxy.calls["Acknowledge"] == 2

    def test_a_publication_whose_answer_is_lost_is_made_again(self, proxy, queue):
        proxy.fail("Publish", RpcFault(lost="reply"))
        queue.publish(envelopes(1))
        assert len(queue.pull([ARRIVALS.name], limit=2, wait_s=30)) >= 1

    def test_only_the_call_that_failed_is_made_again(self, proxy, queue):
        proxy.fail("Publish", RpcFault())
        queue.publish([*envelopes(1), *envelopes(1, INBOX.topic)])
        assert proxy.calls["Publish"] == 3
        got = [*queue.pull(NAMES, limit=4, wait_s=30), *queue.pull(NAMES, limit=4, wait_s=0.5)]
        assert Counter(d.subscription for d in got) == {ARRIVALS.name: 1, INBOX.name: 1}

    @pytest.mark.parametrize(
        ("status", "remedy"),
        [
            ("PERMISSION_DENIED", "roles/pubsub.publisher"),
            ("UNAUTHENTICATED", "roles/pubsub.subscriber"),
            ("NOT_FOUND", "terraform apply"),
            ("INVALID_ARGUMENT", "SEGUE_QUEUE"),
        ],
    )
    def test_what_only_a_person_can_mend_says_how(self, proxy, queue, status, remedy):
        proxy.fail("Publish", RpcFault(status))
        proxy.fail("Pull", RpcFault(status))
        with pytest.raises(ConfigurationError, match=remedy):
            queue.publish(envelopes(1))
        with pytest.raises(ConfigurationError, match=remedy):
            queue.pull([ARRIVALS.name], limit=1)
        assert proxy.calls["Publish"] == proxy.calls["Pull"] == 1  # and is not tried again

    def test_a_message_too_large_for_pubsub_is_refused(self, proxy, queue):
        with pytest.raises(ConfigurationError, match=r"a message to .* Pub/Sub takes 10,000,000"):
            queue.publish(envelopes(1, size_bytes=10_000_001))
        assert not proxy.calls["Publish"]

    def test_a_server_that_is_away_is_unavailable(self, project, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
            monkeypatch.setenv(emulators.PUBSUB.variable, f"127.0.0.1:{unused.getsockname()[1]}")
            self.assert_unavailable(PubsubQueue(f"pubsub://{project}", deadline_s=0.3))

    def test_a_server_that_never_answers_is_unavailable(self, project, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv(emulators.PUBSUB.variable, f"127.0.0.1:{silent.getsockname()[1]}")
            self.assert_unavailable(PubsubQueue(f"pubsub://{project}", deadline_s=0.3))

    def assert_unavailable(self, queue):
        with pytest.raises(Unavailable, match="try again later"):
            queue.publish([x for i in range(100) for x in envelopes(1, f"done-job{i}")])
        with pytest.raises(Unavailable, match="try again later"):
            queue.pull(NAMES, limit=10, wait_s=60)
        queue.close()

    def test_without_credentials_it_says_how_to_get_some(self, project, tmp_path, monkeypatch):
        monkeypatch.delenv(emulators.PUBSUB.variable, raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
            PubsubQueue(f"pubsub://{project}").publish(envelopes(1))

    def test_closing_lets_a_waiting_pull_return(self, queue):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [ARRIVALS.name], limit=1, wait_s=60)
            time.sleep(0.6)  # most of the time between two questions
            queue.close()
            try:
                got = waiting.result(timeout=30)
            except ConfigurationError:  # it was asking just then
                got = []
            assert got == []

    def test_a_call_during_which_the_queue_is_closed_says_so(self, proxy, queue):
        proxy.fail("Publish", *[RpcFault()] * 1000)  # so that it is tried for a minute
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(queue.publish, envelopes(1)),
                pool.submit(queue.publish, [*envelopes(1), *envelopes(1, INBOX.topic)]),
            ]
            while proxy.calls["Publish"] < 3:
                time.sleep(0.01)
            queue.close()
            for call in calls:
                with pytest.raises(ConfigurationError, match="was closed during a call"):
                    call.result(timeout=30)

    def test_a_closed_queue_opens_again_when_it_is_used(self, queue):
        queue.publish(envelopes(1))
        queue.close()
        assert len(queue.pull([ARRIVALS.name], limit=1, wait_s=30)) == 1


def test_nothing_heavy_is_imported_before_the_first_use():
    code = (
        "import sys; from segue.adapters.pubsub import PubsubQueue; "
        "PubsubQueue('pubsub://acme-audio'); "
        "print([m for m in ('grpc', 'google.pubsub_v1', 'google.api_core', 'sqlite3') "
        "if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
