"""Opens stores, ledgers and queues by URL: the one place that maps schemes to adapters."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from segue.adapters.routed_queue import RoutedQueue
from segue.adapters.urls import EMBEDDED, PUBSUB, find_file
from segue.errors import ConfigurationError
from segue.model.graph import DEFAULT_NAMESPACE
from segue.model.media_file import parse_location
from segue.model.queue import list_subscriptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore
    from segue.model.queue import Queue
    from segue.models.library import ModelLibrary

OTHERS_BUSY_S = 5.0  # for how long a locked file of another namespace may delay all else
TOKENS = "google.auth.compute_engine"  # needed for the first token in the cloud
CLIENTS = {
    "firestore://": ("google.cloud.firestore", "google.rpc.code_pb2", TOKENS),
    "pubsub://": ("google.pubsub_v1", TOKENS),
    "gs://": ("google.cloud.storage", TOKENS),
}


def connect_store(location: str) -> ObjectStore:
    """Open an object store: ``gs://bucket[/prefix]``, ``file:///folder`` or a folder's path."""
    if location.startswith("gs://"):
        from segue.adapters.cloud_storage import CloudStorage

        return CloudStorage(location)
    _refuse_unknown_stores(location)
    from segue.adapters.folder import FolderStore

    return FolderStore(location)


def _refuse_unknown_stores(location: str) -> None:
    if "://" in location and not location.startswith("file:///"):
        raise ConfigurationError(
            f"{location!r} is not an object store that Segue supports; write gs://bucket/prefix "
            "or a folder"
        )


def open_models(location: str | None = None) -> ModelLibrary:
    """Open the models on this machine, in a folder or this user's; a bucket fills the latter."""
    from segue.models.library import ModelLibrary, find_user_folder

    if location is None:
        return ModelLibrary(folder=find_user_folder())
    if location.startswith("gs://"):
        return ModelLibrary(folder=find_user_folder(), store=connect_store(location))
    _refuse_unknown_stores(location)
    return ModelLibrary(folder=parse_location(location).removeprefix("file://"))


def check_writable(location: str) -> None:
    """Raise an error if objects cannot be written to a folder; a bucket is not tried."""
    if not location.startswith("gs://"):
        from segue.adapters.folder import FolderStore

        FolderStore(location).check_writable()


def connect_ledger(url: str, namespace: str = DEFAULT_NAMESPACE) -> Ledger:
    """Open a ledger: ``firestore://project[/database]`` or ``sqlite:///path``.

    It belongs to the namespace of the graph that it was first opened with, and no other opens it.
    """
    return _open_ledger(url, namespace, create=True)


def open_ledger_to_read(url: str, namespace: str = DEFAULT_NAMESPACE) -> Ledger:
    """Open a ledger for reading; one that does not exist yet is empty, and is not created."""
    url = url if ledger_exists(url) else f"{EMBEDDED}:memory:"
    return _open_ledger(url, namespace, create=False)


def _open_ledger(url: str, namespace: str, *, create: bool) -> Ledger:
    if url.startswith("firestore://"):
        from segue.adapters.firestore import FirestoreLedger

        return FirestoreLedger(url, namespace=namespace, create=create)
    if url.startswith(EMBEDDED):
        from segue.adapters.sqlite_ledger import SqliteLedger

        return SqliteLedger(url.removeprefix(EMBEDDED), namespace=namespace)
    raise ConfigurationError(
        f"{url!r} is not a ledger that Segue supports; write firestore://project/database or "
        "sqlite:///path"
    )


def ledger_exists(url: str) -> bool:
    """Whether a ledger or queue exists; one in the cloud is assumed to."""
    path = find_file(url)
    return path is None or os.path.exists(path)


def connect_queue(url: str, graph: Graph | None = None) -> Queue:
    """Open a queue: ``pubsub://project[/prefix]`` or ``sqlite:///path``.

    The subscriptions of a graph exist from then on, so nothing is lost that is published. With a
    graph, the queue also leads to those of other namespaces.
    """
    if graph is None:
        return _open_queue(url)
    queue = RoutedQueue(
        _open_queue(url),
        url=url,
        namespace=graph.namespace,
        connect=_open_other_queue,
    )
    try:
        queue.subscribe(list_subscriptions(graph))
    except BaseException:
        queue.close()
        raise
    return queue


def _open_other_queue(url: str) -> Queue:
    """Open the queue of another namespace."""
    if url.startswith(EMBEDDED):
        from segue.adapters.sqlite_queue import SqliteQueue

        return SqliteQueue(url.removeprefix(EMBEDDED), busy_s=OTHERS_BUSY_S)
    return _open_queue(url)


def _open_queue(url: str) -> Queue:
    if url.startswith(PUBSUB):
        from segue.adapters.pubsub import PubsubQueue

        return PubsubQueue(url)
    if url.startswith(EMBEDDED):
        from segue.adapters.sqlite_queue import SqliteQueue

        return SqliteQueue(url.removeprefix(EMBEDDED))
    raise ConfigurationError(
        f"{url!r} is not a queue that Segue supports; write pubsub://project or sqlite:///path"
    )


def preload_clients(urls: Iterable[str]) -> None:
    """Import the cloud clients that the adapters of these URLs need; local adapters need none.

    It does not connect: the caller may be about to fork, which open gRPC channels do not survive.
    """
    for url in urls:
        for scheme, modules in CLIENTS.items():
            if url.startswith(scheme):
                for module in modules:
                    importlib.import_module(module)


def check_credentials() -> None:
    """Raise an error if this machine has no credentials for Google Cloud; it does not use them."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            "this machine has no credentials for Google Cloud; run 'gcloud auth "
            "application-default login', or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
