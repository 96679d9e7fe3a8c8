"""What is there of a deployed environment, for ``segue doctor --cloud``; nothing is changed."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore import URL as LEDGER_URL
from segue.adapters.firestore_indexes import Index, fingerprint_path, indexes, state_path
from segue.adapters.firestore_rpc import FirestoreRpc
from segue.adapters.pubsub import PREFIX
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
    """One subscription of Pub/Sub."""

    topic: str  # without its project and the prefix; "" if it is another's, or was deleted
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueContents:
    """The topics and subscriptions whose names begin with the prefix, by what follows it."""

    prefix: str
    topics: frozenset[str]
    subscriptions: Mapping[str, Subscription]


def queue_contents(url: str) -> QueueContents:
    """List what a queue consists of: ``pubsub://project`` or ``pubsub://project/prefix``."""
    match = QUEUE_URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(f"{url!r} is not a queue in Pub/Sub; write pubsub://project")
    project, prefix = match[1], match[2] or PREFIX
    from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

    own = re.compile(rf"projects/[^/]+/(?:topics|subscriptions)/{re.escape(prefix)}-(.+)")

    def short(name: str) -> str:
        found = own.fullmatch(name)
        return found[1] if found else ""

    parent = {"project": f"projects/{project}"}
    with _errors(url):
        with PublisherClient() as publisher:
            topics = [short(t.name) for t in publisher.list_topics(request=parent, timeout=CALL_S)]
        with SubscriberClient() as subscriber:
            subscriptions = {
                short(s.name): Subscription(topic=short(s.topic), is_active=_is_active(s))
                for s in subscriber.list_subscriptions(request=parent, timeout=CALL_S)
            }
    subscriptions.pop("", None)
    return QueueContents(
        prefix=prefix, topics=frozenset(filter(None, topics)), subscriptions=subscriptions
    )


def index_faults(url: str, graph: Graph) -> dict[Index, str]:
    """Ask what each index of the ledger is for; return those that are not ready, and why.

    A query costs one read. The ledger itself must answer, or an error is raised.
    """
    match = LEDGER_URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(
            f"{url!r} is not a ledger in Firestore; write firestore://project/database"
        )
    faults: dict[Index, str] = {}
    with contextlib.closing(FirestoreRpc(match[1], match[2] or "(default)")) as rpc:
        next(rpc.get(["0" * 32], CALL_S), None)  # whatever is wrong with the rest is told here
        for index in indexes(graph):
            try:
                list(rpc.query(_asking(index, graph), CALL_S))
            except ConfigurationError as error:
                faults[index] = str(error)
    return faults


def _asking(index: Index, graph: Graph) -> Mapping[str, Any]:
    """A query that only this index answers."""
    for job, fingerprint in graph.fingerprints.items():
        if fingerprint_path(job) in index.fields:
            return {**queries.done_by(job, [fingerprint]), "limit": {"value": 1}}
        if state_path(job) in index.fields:
            wanted = Query(job=job, state=State.DONE, deleted=False)
            return queries.matching(wanted, after="", limit=1)
    owed = "owed" in index.fields
    return queries.matching(Query(deleted=False, owed=owed), after="", limit=1)


def _is_active(subscription: Any) -> bool:
    """Whether it delivers: neither detached, nor stopped by the server."""
    state = type(subscription).State
    return not subscription.detached and subscription.state != state.RESOURCE_ERROR


@contextlib.contextmanager
def _errors(place: str) -> Iterator[None]:
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
