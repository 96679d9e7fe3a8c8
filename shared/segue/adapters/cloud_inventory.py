"""Lists what exists of a deployed environment, for ``segue doctor --cloud``; it changes nothing."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore import URL as LEDGER_URL
from segue.adapters.firestore_indexes import (
    Index,
    build_indexes,
    format_fingerprint_path,
    format_state_path,
)
from segue.adapters.firestore_rpc import FirestoreRpc
from segue.adapters.firestore_values import PENDING
from segue.adapters.pubsub import DEFAULT_PREFIX
from segue.adapters.pubsub import URL as QUEUE_URL
from segue.errors import ConfigurationError, SegueError, Unavailable
from segue.model.ledger import Query
from segue.model.record import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segue.model.graph import Graph

CALL_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A Pub/Sub subscription."""

    topic: str  # without project and prefix; "" if the topic is not ours or was deleted
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueContents:
    """The topics and subscriptions whose names start with the prefix, named without it."""

    prefix: str
    topics: frozenset[str]
    subscriptions: Mapping[str, Subscription]


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
    with _translate_errors(url):
        with PublisherClient() as publisher:
            topics = [
                strip_prefix(t.name) for t in publisher.list_topics(request=parent, timeout=CALL_S)
            ]
        with SubscriberClient() as subscriber:
            subscriptions = {
                strip_prefix(s.name): Subscription(
                    topic=strip_prefix(s.topic), is_active=_is_active(s)
                )
                for s in subscriber.list_subscriptions(request=parent, timeout=CALL_S)
            }
    subscriptions.pop("", None)
    return QueueContents(
        prefix=prefix, topics=frozenset(filter(None, topics)), subscriptions=subscriptions
    )


def find_index_faults(url: str, graph: Graph) -> dict[Index, str]:
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
    with contextlib.closing(FirestoreRpc(match[1], match[2] or "(default)")) as rpc:
        next(rpc.get(["0" * 32], CALL_S), None)  # raises any error that is not about an index
        for index in build_indexes(graph):
            try:
                list(rpc.query(_build_probe(index, graph), CALL_S))
            except ConfigurationError as error:
                missing[index] = str(error)
    return missing


def _build_probe(index: Index, graph: Graph) -> Mapping[str, Any]:
    """Build a query that only this index can answer."""
    for job, fingerprint in graph.fingerprints.items():
        if format_fingerprint_path(job) in index.fields:
            return {**queries.select_done_by(job, [fingerprint]), "limit": {"value": 1}}
        if format_state_path(job) in index.fields:
            wanted = Query(job=job, state=State.DONE, deleted=False)
            return queries.select_matching(wanted, after="", limit=1)
    pending = PENDING in index.fields
    return queries.select_matching(Query(deleted=False, pending=pending), after="", limit=1)


def _is_active(subscription: Any) -> bool:
    """Whether a subscription delivers: it is not detached, and the server has not stopped it."""
    state = type(subscription).State
    return not subscription.detached and subscription.state != state.RESOURCE_ERROR


@contextlib.contextmanager
def _translate_errors(place: str) -> Iterator[None]:
    from google.api_core.exceptions import Forbidden, GoogleAPICallError, RetryError
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    try:
        yield
    except Forbidden as error:
        raise ConfigurationError(
            f"{place}: {error.message}; grant roles/pubsub.viewer to the account that runs this"
        ) from error
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            f"{place}: no credentials ({error}); run 'gcloud auth application-default login'"
        ) from error
    except (GoogleAPICallError, RetryError, GoogleAuthError) as error:
        raise _unavailable(place, error) from error


def _unavailable(place: str, error: Exception) -> SegueError:
    return Unavailable(f"{place}: {error}; try again later")
