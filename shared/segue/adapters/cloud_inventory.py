"""Lists what exists of a deployed environment, for ``segue doctor --cloud``; it changes nothing."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore import URL as LEDGER_URL
from segue.adapters.firestore_connection import FirestoreConnection, call_once
from segue.adapters.firestore_indexes import COLLECTION, OPEN, Index, build_indexes
from segue.adapters.google_errors import translate_errors
from segue.adapters.pubsub import DEFAULT_PREFIX, REMEDIES, PubsubQueue
from segue.adapters.pubsub import URL as QUEUE_URL
from segue.errors import ConfigurationError
from segue.model.ledger import Query
from segue.model.record import PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segue.model.queue import Subscription

CALL_S = 15.0
GRANT = "grant roles/pubsub.viewer to the account that runs this"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSubscription:
    """A Pub/Sub subscription."""

    topic: str  # its full name; another one if the topic was deleted
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueContents:
    """The topics and subscriptions whose names start with the prefix, named without it."""

    url: str  # of the queue
    prefix: str
    topics: frozenset[str]
    subscriptions: Mapping[str, CloudSubscription]

    def format_topic(self, subscription: Subscription) -> str:
        """Return the full name of the topic that a subscription is to be attached to."""
        return PubsubQueue(subscription.queue or self.url).resource("topics", subscription.topic)


def list_queue_contents(url: str) -> QueueContents:
    """List the topics and subscriptions of ``pubsub://project`` or ``pubsub://project/prefix``."""
    match = QUEUE_URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(f"{url!r} is not a queue in Pub/Sub; write pubsub://project")
    project, prefix = match[1], match[2] or DEFAULT_PREFIX
    from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

    pattern = re.compile(rf"projects/[^/]+/(?:topics|subscriptions)/{re.escape(prefix)}-(.+)")

    def strip_prefix(name: str) -> str:
        found = pattern.fullmatch(name)
        return found[1] if found else ""

    parent = {"project": f"projects/{project}"}
    with translate_errors(url, REMEDIES | {"PERMISSION_DENIED": GRANT}):
        with PublisherClient() as publisher:
            topics = [
                strip_prefix(t.name) for t in publisher.list_topics(request=parent, timeout=CALL_S)
            ]
        with SubscriberClient() as subscriber:
            subscriptions = {
                strip_prefix(s.name): CloudSubscription(topic=s.topic, is_active=_is_active(s))
                for s in subscriber.list_subscriptions(request=parent, timeout=CALL_S)
            }
    subscriptions.pop("", None)
    return QueueContents(
        url=url,
        prefix=prefix,
        topics=frozenset(filter(None, topics)),
        subscriptions=subscriptions,
    )


def find_index_faults(url: str) -> dict[Index, str]:
    """Return the indexes of the ledger that are not ready, each with the reason.

    It runs one query for each index, which costs one read. It raises an error if the ledger itself
    does not answer.
    """
    match = LEDGER_URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(
            f"{url!r} is not a ledger in Firestore; write firestore://project/database"
        )
    missing: dict[Index, str] = {}
    connection = FirestoreConnection(match[1], match[2] or "(default)")
    with contextlib.closing(connection):
        with connection.translate_errors():  # any error that is not about an index
            connection.client.document(COLLECTION, "0" * 32).get(**call_once(CALL_S))
        for index in build_indexes():
            probe = Query(open=PENDING) if OPEN in index.fields else Query(deleted=False)
            selected = queries.select_matching(connection.client, probe, limit=1)
            try:
                with connection.translate_errors():
                    selected.get(**call_once(CALL_S))
            except ConfigurationError as error:
                missing[index] = str(error)
    return missing


def _is_active(subscription: Any) -> bool:
    """Whether a subscription delivers: it is not detached, and the server has not stopped it."""
    state = type(subscription).State
    return not subscription.detached and subscription.state != state.RESOURCE_ERROR
