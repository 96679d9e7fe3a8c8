"""Makes topics and subscriptions in the Pub/Sub emulator, as Terraform does in the cloud."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from segue.adapters.pubsub import PubsubQueue
from segue.adapters.routed_queue import RoutedQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from segue.model.queue import Queue, Subscription

RETENTION_S = 7 * 24 * 3600


def make_topics(
    queue: Queue,
    topics: Iterable[str],
    subscriptions: Iterable[Subscription],
    *,
    ack_deadline_s: int = 600,
) -> None:
    """Create the topics and subscriptions of a queue; existing ones stay as they are.

    The topics of other namespaces that are subscribed to have to exist.
    """
    from google.api_core.exceptions import AlreadyExists
    from google.pubsub_v1 import PublisherClient, SubscriberClient

    own = queue.own if isinstance(queue, RoutedQueue) else queue
    assert isinstance(own, PubsubQueue)
    with PublisherClient() as publisher, SubscriberClient() as subscriber:
        for topic in topics:
            with contextlib.suppress(AlreadyExists):
                publisher.create_topic(name=own.resource("topics", topic))
        for one in subscriptions:
            there = own if one.queue is None else PubsubQueue(one.queue)
            subscription = {
                "name": own.resource("subscriptions", one.name),
                "topic": there.resource("topics", one.topic),
                "ack_deadline_seconds": ack_deadline_s,
                "message_retention_duration": {"seconds": RETENTION_S},
                "expiration_policy": {},
            }
            with contextlib.suppress(AlreadyExists):
                subscriber.create_subscription(request=subscription)
