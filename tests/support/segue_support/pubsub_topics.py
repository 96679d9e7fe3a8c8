"""Makes topics and subscriptions in the Pub/Sub emulator, as Terraform does in the cloud."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from segue.adapters.pubsub import PubsubQueue

RETENTION_S = 7 * 24 * 3600


def make_topics(queue: PubsubQueue, topics: Iterable[str], *, ack_deadline_s: int = 600) -> None:
    """Create the topics of a queue, each with its subscription; existing ones stay as they are."""
    from google.api_core.exceptions import AlreadyExists
    from google.pubsub_v1 import PublisherClient, SubscriberClient

    with PublisherClient() as publisher, SubscriberClient() as subscriber:
        for topic in topics:
            name = queue.resource("topics", topic)
            subscription = {
                "name": queue.resource("subscriptions", topic),
                "topic": name,
                "ack_deadline_seconds": ack_deadline_s,
                "message_retention_duration": {"seconds": RETENTION_S},
                "expiration_policy": {},
            }
            with contextlib.suppress(AlreadyExists):
                publisher.create_topic(name=name)
            with contextlib.suppress(AlreadyExists):
                subscriber.create_subscription(request=subscription)
