"""The queue in Pub/Sub: each topic has a subscription of the same name.

Pulls never wait on the server. A pull that is cancelled there, by its deadline or because its
process was killed, may still take messages, which are then hidden for the subscription's ten
minutes: the official emulator always does so, the service now and then. So a pull with a wait
polls, with pauses that grow while there is nothing. (On Dataflow, Beam's own Pub/Sub source reads
instead.)
"""

from __future__ import annotations

import math
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from segue.adapters.pubsub_batches import batch_ack_ids, batch_envelopes
from segue.backoff import Backoff
from segue.errors import ConfigurationError
from segue.model.fair_share import rotate, take_fair_shares
from segue.model.queue import ReceivedEnvelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from segue.adapters.pubsub_rpc import PubsubRpc, RawMessage, RpcCall
    from segue.model.queue import Envelope

URL = re.compile(r"pubsub://([a-z][-a-z0-9:.]{4,61}[a-z0-9])(?:/([A-Za-z][-A-Za-z0-9_.~+%]*))?/?")
DEFAULT_PREFIX = "segue"
MAX_PULLED = 1000
MAX_DEADLINE_S = 600
POLLING = Backoff(0.01, 0.25, jitter=0.0)  # between the calls of a pull that waits
RETENTION_S = 7 * 24 * 3600
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PubsubQueue:
    """The queue in the cloud; it connects at its first use, and may be shared by threads.

    Parameters
    ----------
    url : str
        ``pubsub://project`` or ``pubsub://project/prefix``; the prefix, by default ``segue``,
        starts the names of topics and subscriptions: ``prefix-topic``.
    deadline_s : float
        How long a call is retried before it raises ``Unavailable``.
    """

    def __init__(self, url: str, *, deadline_s: float = 60.0) -> None:
        match = URL.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                f"{url!r} is not a Pub/Sub queue; write pubsub://project or "
                "pubsub://project/prefix, where a project's id has at least 6 characters, "
                "lower-case letters, digits and hyphens"
            )
        self._project, self._prefix = match[1], match[2] or DEFAULT_PREFIX
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._connection: PubsubRpc | None = None
        self._turn = 0

    @property
    def _rpc(self) -> PubsubRpc:
        """The connection, opened at the first use."""
        with self._lock:
            if self._connection is None:
                from segue.adapters.pubsub_rpc import PubsubRpc

                self._connection = PubsubRpc()
            return self._connection

    def _call_all(self, calls: Iterable[RpcCall]) -> list[RawMessage]:
        return list(self._rpc.make(calls, self._deadline_s))

    def resource(self, kind: str, topic: str) -> str:
        """Return the full name of a topic or of its subscription."""
        return f"projects/{self._project}/{kind}/{self._prefix}-{topic}"

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish, in one call for each thousand envelopes of a topic, several calls at once."""
        if envelopes:
            self._call_all(self._build_publish_call(group) for group in batch_envelopes(envelopes))

    def _build_publish_call(self, envelopes: Sequence[Envelope]) -> RpcCall:
        rpc = self._rpc
        message = rpc.type("PubsubMessage")
        return rpc.call(
            "Publish",
            topic=self.resource("topics", envelopes[0].topic),
            messages=[message(data=x.data, attributes=x.attributes) for x in envelopes],
        )

    def pull(
        self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Pull from all subscriptions at once, and repeat until one has something."""
        rpc = self._rpc
        end, pauses = time.monotonic() + wait_s, iter(POLLING)
        while not (
            pulled := take_fair_shares(
                rotate(topics, self._turn), limit, partial(self._pull_shares, rpc)
            )
        ):
            left_s = end - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(next(pauses), left_s))
            if self._connection is not rpc:  # closed meanwhile
                return []
        self._turn += 1
        return pulled

    def _pull_shares(
        self, rpc: PubsubRpc, shares: Mapping[str, int]
    ) -> dict[str, list[ReceivedEnvelope]]:
        calls = (
            rpc.call(
                "Pull",
                subscription=self.resource("subscriptions", topic),
                max_messages=min(number, MAX_PULLED),
                return_immediately=True,
            )
            for topic, number in shares.items()
        )
        answers = rpc.make(calls, self._deadline_s)
        return {
            topic: [_to_delivery(topic, received) for received in answer.received_messages]
            for topic, answer in zip(shares, answers, strict=True)
        }

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Acknowledge, in one call for each 2,500 envelopes of a topic."""
        self._call_with_ack_ids("Acknowledge", envelopes)

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes for so many seconds, at most 600; Pub/Sub counts whole ones."""
        deadline_s = min(MAX_DEADLINE_S, max(0, math.ceil(seconds)))
        self._call_with_ack_ids("ModifyAckDeadline", envelopes, ack_deadline_seconds=deadline_s)

    def _call_with_ack_ids(
        self, method: str, envelopes: Sequence[ReceivedEnvelope], **settings: int
    ) -> None:
        by_topic: dict[str, list[str]] = {}
        for envelope in envelopes:
            by_topic.setdefault(envelope.topic, []).append(envelope.ack_id)
        if by_topic:
            self._call_all(
                self._rpc.call(
                    method,
                    subscription=self.resource("subscriptions", topic),
                    ack_ids=group,
                    **settings,
                )
                for topic, topic_ack_ids in by_topic.items()
                for group in batch_ack_ids(topic_ack_ids)
            )

    def measure_depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:  # noqa: ARG002 - the port
        """Return None: Pub/Sub counts only in its metrics, minutes later."""
        return None

    def make_topics(self, topics: Sequence[str], *, ack_deadline_s: int) -> None:
        """Create topics, then subscriptions; existing ones stay as they are."""
        rpc = self._rpc
        self._call_all(rpc.call("CreateTopic", name=self.resource("topics", t)) for t in topics)
        self._call_all(
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
        """Close the connection; a later call opens a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def make_topics(
    queue: PubsubQueue, topics: Sequence[str], *, ack_deadline_s: int = MAX_DEADLINE_S
) -> None:
    """Create missing topics and subscriptions as Terraform does; for emulators."""
    queue.make_topics(topics, ack_deadline_s=ack_deadline_s)


def _to_delivery(topic: str, received: RawMessage) -> ReceivedEnvelope:
    message = received.message
    published = message.publish_time
    return ReceivedEnvelope(
        topic=topic,
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        ack_id=received.ack_id,
        published_at=EPOCH
        + timedelta(seconds=published.seconds, microseconds=published.nanos // 1000),
    )
