"""The queue in Pub/Sub: a topic and a subscription of the same name for each topic.

Pulls never wait on the server. One that is given up there, by its deadline or because its process
was killed, may still take messages along, which are then hidden for the subscription's ten minutes:
the official emulator does so always, the service now and then. So a pull that waits asks again,
with pauses that grow while nothing comes. (On Dataflow, Beam's own Pub/Sub source reads instead.)
"""

from __future__ import annotations

import math
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from segue.adapters.pubsub_batches import publications, receipts
from segue.errors import ConfigurationError
from segue.model.fair_share import deal, turned
from segue.model.queue import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from segue.adapters.pubsub_rpc import Call, PubsubRpc, RawMessage
    from segue.model.queue import Letter

URL = re.compile(r"pubsub://([a-z][-a-z0-9:.]{4,61}[a-z0-9])(?:/([A-Za-z][-A-Za-z0-9_.~+%]*))?/?")
PREFIX = "segue"
PULLED_AT_ONCE = 1000
LONGEST_DEADLINE_S = 600
PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.25  # between the questions of a pull that waits
RETENTION_S = 7 * 24 * 3600
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PubsubQueue:
    """The queue in the cloud; it connects at its first use, and may be shared by threads.

    Parameters
    ----------
    url : str
        ``pubsub://project`` or ``pubsub://project/prefix``; the prefix, by default ``segue``,
        begins the names of topics and subscriptions: ``prefix-topic``.
    deadline_s : float
        How long a call goes on trying before it raises ``Unavailable``.
    """

    def __init__(self, url: str, *, deadline_s: float = 60.0) -> None:
        match = URL.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                f"{url!r} is not a Pub/Sub queue; write pubsub://project or "
                "pubsub://project/prefix, where a project's id has at least 6 characters, "
                "lower-case letters, digits and hyphens"
            )
        self._project, self._prefix = match[1], match[2] or PREFIX
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._connection: PubsubRpc | None = None
        self._turn = 0
        self._pause_s = PAUSE_S

    @property
    def _rpc(self) -> PubsubRpc:
        """The connection, made at the first use."""
        with self._lock:
            if self._connection is None:
                from segue.adapters.pubsub_rpc import PubsubRpc

                self._connection = PubsubRpc()
            return self._connection

    def _make(self, calls: Iterable[Call]) -> list[RawMessage]:
        return list(self._rpc.make(calls, self._deadline_s))

    def resource(self, kind: str, topic: str) -> str:
        """Return a topic's full name, or its subscription's."""
        return f"projects/{self._project}/{kind}/{self._prefix}-{topic}"

    def publish(self, letters: Sequence[Letter]) -> None:
        """Publish, in one call for each thousand letters of a topic, several calls at once."""
        if letters:
            self._make(self._publication(some) for some in publications(letters))

    def _publication(self, letters: Sequence[Letter]) -> Call:
        rpc = self._rpc
        message = rpc.type("PubsubMessage")
        return rpc.call(
            "Publish",
            topic=self.resource("topics", letters[0].topic),
            messages=[message(data=x.data, attributes=x.attributes) for x in letters],
        )

    def pull(self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0) -> list[Delivery]:
        """Ask all subscriptions at once, and again until one has something."""
        rpc = self._rpc
        end = time.monotonic() + wait_s
        while not (pulled := deal(turned(topics, self._turn), limit, partial(self._take, rpc))):
            left_s = end - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(self._pause_s, left_s))
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            if self._connection is not rpc:  # closed meanwhile
                return []
        self._turn += 1
        self._pause_s = PAUSE_S
        return pulled

    def _take(self, rpc: PubsubRpc, shares: Mapping[str, int]) -> dict[str, list[Delivery]]:
        calls = (
            rpc.call(
                "Pull",
                subscription=self.resource("subscriptions", topic),
                max_messages=min(number, PULLED_AT_ONCE),
                return_immediately=True,
            )
            for topic, number in shares.items()
        )
        answers = rpc.make(calls, self._deadline_s)
        return {
            topic: [_delivery(topic, received) for received in answer.received_messages]
            for topic, answer in zip(shares, answers, strict=True)
        }

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge, in one call for each 2,500 letters of a topic."""
        self._tell("Acknowledge", deliveries)

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Hide letters for so many seconds, at most 600; Pub/Sub counts whole ones."""
        deadline_s = min(LONGEST_DEADLINE_S, max(0, math.ceil(seconds)))
        self._tell("ModifyAckDeadline", deliveries, ack_deadline_seconds=deadline_s)

    def _tell(self, method: str, deliveries: Sequence[Delivery], **settings: int) -> None:
        by_topic: dict[str, list[str]] = {}
        for delivery in deliveries:
            by_topic.setdefault(delivery.topic, []).append(delivery.receipt)
        if by_topic:
            self._make(
                self._rpc.call(
                    method,
                    subscription=self.resource("subscriptions", topic),
                    ack_ids=some,
                    **settings,
                )
                for topic, of_it in by_topic.items()
                for some in receipts(of_it)
            )

    def depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:  # noqa: ARG002 - the port
        """Not known: Pub/Sub counts only in its metrics, minutes later."""
        return None

    def make_topics(self, topics: Sequence[str], *, ack_deadline_s: int) -> None:
        """Make topics, then subscriptions; what exists stays as it is."""
        rpc = self._rpc
        self._make(rpc.call("CreateTopic", name=self.resource("topics", t)) for t in topics)
        self._make(
            rpc.call(
                "CreateSubscription",
                name=self.resource("subscriptions", topic),
                topic=self.resource("topics", topic),
                ack_deadline_seconds=ack_deadline_s,
                message_retention_duration={"seconds": RETENTION_S},
                expiration_policy={},
            )
            for topic in topics
        )

    def close(self) -> None:
        """Close the connection; a later call makes another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def make_topics(
    queue: PubsubQueue, topics: Sequence[str], *, ack_deadline_s: int = LONGEST_DEADLINE_S
) -> None:
    """Make the topics and subscriptions that are missing, as Terraform does: for emulators."""
    queue.make_topics(topics, ack_deadline_s=ack_deadline_s)


def _delivery(topic: str, received: RawMessage) -> Delivery:
    message = received.message
    published = message.publish_time
    return Delivery(
        topic=topic,
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        receipt=received.ack_id,
        published_at=EPOCH
        + timedelta(seconds=published.seconds, microseconds=published.nanos // 1000),
    )
