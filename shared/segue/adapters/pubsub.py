"""The queue in Pub/Sub, whose topics and subscriptions Terraform creates.

Pulls never wait on the server. A pull that is cancelled there, by its deadline or because its
process was killed, may still take messages, which are then hidden for the subscription's ten
minutes: the official emulator always does so, the service now and then. So a pull with a wait
polls, with pauses that grow while there is nothing. (On Dataflow, Beam's own Pub/Sub source reads
instead.)

The clients are those of google.pubsub_v1, the generated part of google-cloud-pubsub, in which a
publication is a call. google.cloud.pubsub_v1 around it publishes from background threads, which a
function that has responded does not run.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from segue.adapters.google_errors import translate_errors
from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, Unavailable
from segue.model.queue import ReceivedEnvelope, rotate, take_fair_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from segue.model.queue import Envelope, Subscription

    RawMessage: TypeAlias = Any  # a protocol buffer
    T = TypeVar("T")
    R = TypeVar("R")

URL = re.compile(r"pubsub://([a-z][-a-z0-9:.]{4,61}[a-z0-9])(?:/([A-Za-z][-A-Za-z0-9_.~+%]*))?/?")
DEFAULT_PREFIX = "segue"
# The limits of one call, https://cloud.google.com/pubsub/quotas#resource_limits
MAX_ENVELOPE_SIZE_BYTES = 9_900_000
MAX_ENVELOPES, MAX_ENVELOPES_SIZE_BYTES = 1000, 2_000_000  # of 10 MB; the emulator accepts 4 MiB
MAX_ACK_IDS, MAX_ACK_IDS_SIZE_BYTES = 2500, 480_000  # of 512 KiB
FRAME_SIZE_BYTES = 32  # generous overhead of an envelope or attribute in the request
MAX_PULLED = 1000
MAX_DEADLINE_S = 600
MAX_IN_FLIGHT = 16  # calls; they hold 32 MB, or more if an envelope is larger than a batch
CALL_S = 60.0  # a call without a response is retried after this
BACKOFF = Backoff(0.1, 5.0, jitter=1.0)  # between the attempts of a call
POLLING = Backoff(0.01, 0.25, jitter=0.0)  # between the calls of a pull that waits
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GRANT = "grant roles/pubsub.publisher and roles/pubsub.subscriber to the account that runs this"
CHECK_URL = "check SEGUE_QUEUE; its form is pubsub://project/prefix"
REMEDIES = {
    "PERMISSION_DENIED": GRANT,
    "UNAUTHENTICATED": GRANT,
    "NOT_FOUND": "run 'terraform apply', which creates the topics and subscriptions of a graph, "
    "or set SEGUE_QUEUE to where they are",
    "FAILED_PRECONDITION": CHECK_URL,
    "INVALID_ARGUMENT": CHECK_URL,
}


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
        self._connection: _Connection | None = None
        self._turn = 0

    def _connect(self) -> _Connection:
        """Return the connection, opened at the first use."""
        with self._lock:
            if self._connection is None:
                with translate_errors(f"pubsub://{self._project}", REMEDIES):
                    self._connection = _Connection(self._deadline_s)
            return self._connection

    def resource(self, kind: str, name: str) -> str:
        """Return the full name of a topic or of a subscription."""
        return f"projects/{self._project}/{kind}/{self._prefix}-{name}"

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Do nothing: Terraform creates subscriptions."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish, in one call for each thousand envelopes of a topic, several calls at once."""
        batches = list(batch_envelopes(envelopes))
        if not batches:
            return
        connection = self._connect()

        def publish_batch(batch: tuple[str, list[Envelope]]) -> None:
            connection.call(
                connection.publisher.publish,
                connection.types.PublishRequest,
                topic=self.resource("topics", batch[0]),
                messages=[{"data": x.data, "attributes": x.attributes} for x in batch[1]],
            )

        connection.map(publish_batch, batches)

    def pull(
        self, subscriptions: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Pull from all subscriptions at once, and repeat until one has something."""
        connection = self._connect()
        pull_shares = partial(self._pull_shares, connection)
        end, pauses = time.monotonic() + wait_s, iter(POLLING)
        while not (
            pulled := take_fair_shares(rotate(subscriptions, self._turn), limit, pull_shares)
        ):
            left_s = end - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(next(pauses), left_s))
            if connection.closed:
                return []
        self._turn += 1
        return pulled

    def _pull_shares(
        self, connection: _Connection, shares: Mapping[str, int]
    ) -> dict[str, list[ReceivedEnvelope]]:
        def pull_share(name: str) -> list[ReceivedEnvelope]:
            response = connection.call(
                connection.subscriber.pull,
                connection.types.PullRequest,
                subscription=self.resource("subscriptions", name),
                max_messages=min(shares[name], MAX_PULLED),
                return_immediately=True,
            )
            messages = connection.types.PullResponse.pb(response).received_messages
            return [_to_received_envelope(name, message) for message in messages]

        return dict(zip(shares, connection.map(pull_share, list(shares)), strict=True))

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Acknowledge, in one call for each 2,500 envelopes of a subscription."""
        self._send_ack_ids("acknowledge", "AcknowledgeRequest", envelopes)

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes for so many seconds, at most 600; Pub/Sub counts whole ones."""
        deadline_s = min(MAX_DEADLINE_S, max(0, math.ceil(seconds)))
        self._send_ack_ids(
            "modify_ack_deadline",
            "ModifyAckDeadlineRequest",
            envelopes,
            ack_deadline_seconds=deadline_s,
        )

    def _send_ack_ids(
        self, method: str, request: str, envelopes: Sequence[ReceivedEnvelope], **settings: int
    ) -> None:
        if not envelopes:
            return
        connection = self._connect()

        def send_batch(batch: tuple[str, list[str]]) -> None:
            connection.call(
                getattr(connection.subscriber, method),
                getattr(connection.types, request),
                subscription=self.resource("subscriptions", batch[0]),
                ack_ids=batch[1],
                **settings,
            )

        connection.map(send_batch, list(batch_ack_ids(envelopes)))

    def measure_depth(self, subscriptions: Sequence[str]) -> Mapping[str, int] | None:  # noqa: ARG002 - the port
        """Return None: Pub/Sub counts only in its metrics, minutes later."""
        return None

    def sync(self) -> None:
        """Do nothing: the server has stored what it has confirmed."""

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


class _Connection:
    """The clients, which share a channel, and the threads that call them."""

    def __init__(self, deadline_s: float) -> None:
        from concurrent.futures import ThreadPoolExecutor

        import grpc
        from google.pubsub_v1 import PublisherClient, SubscriberClient, types
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
        from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

        # The client's own channel receives no more than 4 MiB from an emulator, and tries to
        # reconnect to the service only every two minutes after a long outage.
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", int(BACKOFF.longest_s * 1000)),
        ]
        self._channel = (
            grpc.insecure_channel(emulator, options=options)
            if (emulator := os.environ.get("PUBSUB_EMULATOR_HOST"))
            else PublisherGrpcTransport.create_channel(
                options=[*options, ("grpc.keepalive_time_ms", 30_000)]
            )
        )
        transport: Any = PublisherGrpcTransport(channel=self._channel)
        self.publisher = PublisherClient(transport=transport)
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))
        self.types: Any = types
        self.closed = False
        self._threads = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="pubsub")
        self._deadline_s = deadline_s

    def map(self, call: Callable[[T], R], values: Sequence[T]) -> list[R]:
        """Make a call for each value, several at once, and return the results in order."""
        if len(values) < 2:  # a thread would cost half as much as the call
            return [call(value) for value in values]
        return list(self._threads.map(call, values))

    def call(self, method: Callable[..., Any], request: Any, **fields: Any) -> Any:
        """Call a method with a request of these fields, of which the first names the resource.

        It is called again while the server is away, until the deadline. The request is built as a
        raw protocol buffer: the classes around it take eight times as long per message.
        """
        name = next(iter(fields.values()))
        end = time.monotonic() + self._deadline_s

        def call_once() -> Any:
            try:
                with translate_errors(name, REMEDIES):
                    return method(
                        request=request.wrap(request.pb()(**fields)),
                        retry=None,
                        timeout=max(0.0, min(CALL_S, end - time.monotonic())),
                    )
            except ValueError as error:  # gRPC's, if the channel is closed
                if not self.closed:
                    raise
                raise ConfigurationError(
                    "the queue was closed during a call; close it last"
                ) from error

        return retry(
            call_once,
            backoff=BACKOFF,
            should_retry=lambda error: isinstance(error, Unavailable),
            end_s=end,
        )

    def close(self) -> None:
        """Close the channel, so that waiting calls fail; the threads end with this object."""
        self.closed = True
        self._channel.close()


def publish_once(
    topic: str, data: bytes, attributes: Mapping[str, str], *, timeout_s: float
) -> None:
    """Publish one message to any topic, ``projects/PROJECT/topics/TOPIC``, in one attempt."""
    remedies = REMEDIES | {
        "PERMISSION_DENIED": "grant roles/pubsub.publisher to the account that runs this",
        "NOT_FOUND": "create the topic, or name another one",
        "INVALID_ARGUMENT": "name a topic that there is",
    }
    with translate_errors(topic, remedies):
        connection = _Connection(timeout_s)
        try:
            connection.publisher.publish(
                topic=topic,
                messages=[connection.types.PubsubMessage(data=data, attributes=attributes)],
                retry=None,
                timeout=timeout_s,
            )
        finally:
            connection.close()


def batch_envelopes(envelopes: Iterable[Envelope]) -> Iterator[tuple[str, list[Envelope]]]:
    """Yield the topic and the envelopes of each call, in the given order."""
    pairs = ((x.topic, x) for x in envelopes)
    return _batch(pairs, _measure_envelope, MAX_ENVELOPES, MAX_ENVELOPES_SIZE_BYTES)


def batch_ack_ids(envelopes: Iterable[ReceivedEnvelope]) -> Iterator[tuple[str, list[str]]]:
    """Yield the subscription and the ack ids of each call."""
    pairs = ((x.subscription, x.ack_id) for x in envelopes)
    return _batch(pairs, len, MAX_ACK_IDS, MAX_ACK_IDS_SIZE_BYTES)


def _batch(
    pairs: Iterable[tuple[str, T]], measure: Callable[[T], int], most: int, most_bytes: int
) -> Iterator[tuple[str, list[T]]]:
    """Group values by name, and split each group within two limits."""
    by_name: dict[str, list[T]] = {}
    for name, value in pairs:
        by_name.setdefault(name, []).append(value)
    for name, values in by_name.items():
        batch: list[T] = []
        size_bytes = 0
        for value in values:
            more_bytes = measure(value)
            if batch and (len(batch) == most or size_bytes + more_bytes > most_bytes):
                yield name, batch
                batch, size_bytes = [], 0
            batch.append(value)
            size_bytes += more_bytes
        yield name, batch


def _measure_envelope(envelope: Envelope) -> int:
    size = len(envelope.data) + FRAME_SIZE_BYTES
    for key, value in envelope.attributes.items():
        size += len(key.encode()) + len(value.encode()) + FRAME_SIZE_BYTES
    if size > MAX_ENVELOPE_SIZE_BYTES:
        raise ConfigurationError(
            f"a message to {envelope.topic!r} has {size:,} bytes, and Pub/Sub takes 10,000,000; "
            "put what it carries into an object, and send its URI"
        )
    return size


def _to_received_envelope(subscription: str, received: RawMessage) -> ReceivedEnvelope:
    message = received.message
    published = message.publish_time
    return ReceivedEnvelope(
        subscription=subscription,
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        ack_id=received.ack_id,
        published_at=EPOCH
        + timedelta(seconds=published.seconds, microseconds=published.nanos // 1000),
    )
