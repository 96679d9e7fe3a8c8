"""The queue of a namespace, from which the queues of others can be reached.

A topic is in the queue of the namespace that publishes to it. An envelope for another namespace's
topic is published there. A subscription to one is there, too, if that queue is a file; in Pub/Sub
it is in the project of its reader, where Terraform creates it, and is pulled from the own queue.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from segue.adapters.other_queue import OtherQueue
from segue.adapters.urls import PUBSUB, identify_queue
from segue.backoff import Backoff
from segue.errors import ConfigurationError, SegueError, TransientError
from segue.log import Action, log_event
from segue.model.queue import rotate, take_fair_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from segue.model.queue import Envelope, Queue, ReceivedEnvelope, Subscription

POLLING = Backoff(0.02, 0.1, jitter=0.0)  # between the looks at others of a pull that waits


class RoutedQueue:
    """The own queue and those of other namespaces as one; threads may share it.

    What the own queue can do alone, it does as if there were no others. What is wrong with another
    one is logged, and raised only when subscribing, if it is the configuration.

    Parameters
    ----------
    own : Queue
        The namespace's own queue, which is closed with this one.
    url : str
        Of the own queue.
    namespace : str
        Of whoever reads.
    connect : callable
        Opens the queue of another namespace by its URL.
    """

    def __init__(
        self, own: Queue, *, url: str, namespace: str, connect: Callable[[str], Queue]
    ) -> None:
        self.own = own
        self._url = identify_queue(url)
        self._namespace = namespace
        self._connect = connect
        self._lock = threading.Lock()
        self._others: dict[str, OtherQueue] = {}  # by URL
        self._elsewhere: dict[str, OtherQueue] = {}  # by subscription: where, if not in the own
        self._closed = threading.Event()
        self._turn = 0

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Create subscriptions; in a file that is away, once it is back."""
        own: list[Subscription] = []
        elsewhere: dict[OtherQueue, list[Subscription]] = {}
        for one in subscriptions:
            other = self._find_other(one)
            if other is None:
                own.append(one)
            else:
                elsewhere.setdefault(other, []).append(one)
        self.own.subscribe(own)
        for other, there in elsewhere.items():
            other.subscribe(there)
            with self._lock:
                self._elsewhere = self._elsewhere | {one.name: other for one in there}

    def _find_other(self, subscription: Subscription) -> OtherQueue | None:
        """Return the queue that has a subscription; None: the own one."""
        url = self._identify(subscription.queue)
        if url is None:
            return None
        if not url.startswith(PUBSUB):
            return self._get_other(url)
        if self._url.startswith(PUBSUB):
            return None
        raise ConfigurationError(
            f"the queue {self._url!r} cannot subscribe to {subscription.topic!r} of {url!r}: a "
            "subscription in Pub/Sub is in the project of its reader; set SEGUE_QUEUE to "
            "pubsub://PROJECT, or lock to a namespace whose queue is a file, too"
        )

    def _identify(self, url: str | None) -> str | None:
        """Return the one form of a queue's URL; None: it is the own one."""
        found = None if url is None else identify_queue(url)
        return None if found == self._url else found

    def _get_other(self, url: str) -> OtherQueue:
        with self._lock:
            if url not in self._others:
                self._others[url] = OtherQueue(url, reader=self._namespace, connect=self._connect)
            return self._others[url]

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish each envelope in the queue of its topic, first those for the own one.

        What cannot be published in another namespace's queue is logged and lost: its outage or
        missing rights must stop nobody else, and the sweep of whoever waits requests it again.
        """
        own: list[Envelope] = []
        others: dict[str, list[Envelope]] = {}
        for envelope in envelopes:
            url = self._identify(envelope.queue)
            (own if url is None else others.setdefault(url, [])).append(envelope)
        self.own.publish(own)
        for url, some in others.items():
            try:
                self._get_other(url).publish(some)
            except SegueError as error:
                is_transient = isinstance(error, TransientError)
                action = Action.UNAVAILABLE if is_transient else Action.MISCONFIGURED
                log_event(action, severity="WARNING", queue=url, error=str(error))

    def pull(
        self, subscriptions: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Pull from all queues; then wait in the own one, and look at the others in between."""
        own = [name for name in subscriptions if name not in self._elsewhere]
        if len(own) == len(subscriptions):
            return self.own.pull(subscriptions, limit=limit, wait_s=wait_s)
        end, pauses = time.monotonic() + wait_s, iter(POLLING)
        pulled = self._take(subscriptions, limit)
        while not pulled:
            left_s = end - time.monotonic()
            if left_s <= 0 or self._closed.is_set():
                return []
            pulled = self._wait(own, limit, min(next(pauses), left_s))
            pulled = pulled or self._take([x for x in subscriptions if x not in own], limit)
        self._turn += 1
        return pulled

    def _wait(self, own: Sequence[str], limit: int, wait_s: float) -> list[ReceivedEnvelope]:
        if own:
            return self.own.pull(own, limit=limit, wait_s=wait_s)
        self._closed.wait(wait_s)
        return []

    def _take(self, subscriptions: Sequence[str], limit: int) -> list[ReceivedEnvelope]:
        return take_fair_shares(rotate(subscriptions, self._turn), limit, self._take_shares)

    def _take_shares(self, shares: Mapping[str, int]) -> dict[str, list[ReceivedEnvelope]]:
        taken = {}
        for name in sorted(shares, key=self._elsewhere.__contains__):  # first those that may raise
            other = self._elsewhere.get(name)
            taken[name] = (
                self.own.pull([name], limit=shares[name])
                if other is None
                else other.pull(name, shares[name])
            )
        return taken

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Remove envelopes, each from the queue that it came from."""
        for queue, some in self._split(envelopes).items():
            queue.acknowledge(some)

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes for some seconds from now; 0 releases them at once."""
        for queue, some in self._split(envelopes).items():
            queue.extend(some, seconds)

    def _split(
        self, envelopes: Sequence[ReceivedEnvelope]
    ) -> dict[Queue | OtherQueue, list[ReceivedEnvelope]]:
        """Return envelopes by the queue that they came from."""
        split: dict[Queue | OtherQueue, list[ReceivedEnvelope]] = {}
        for envelope in envelopes:
            queue = self._elsewhere.get(envelope.subscription, self.own)
            split.setdefault(queue, []).append(envelope)
        return split

    def measure_depth(self, subscriptions: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many envelopes each subscription holds; None: a queue does not know."""
        own = [name for name in subscriptions if name not in self._elsewhere]
        depth = self.own.measure_depth(own)
        if depth is None:
            return None
        found = dict(depth)
        for name in subscriptions:
            if name in self._elsewhere:
                found[name] = self._elsewhere[name].measure_depth(name)
        return found

    def sync(self) -> None:
        """Return once all that was published survives a power cut, wherever it is."""
        for queue in self._list_queues():
            queue.sync()

    def close(self) -> None:
        """Close all queues."""
        self._closed.set()
        for queue in self._list_queues():
            queue.close()

    def _list_queues(self) -> list[Queue | OtherQueue]:
        """Return all queues, the own one last: only that one raises errors."""
        with self._lock:
            return [*self._others.values(), self.own]
