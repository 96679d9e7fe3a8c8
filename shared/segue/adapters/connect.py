"""Opens stores, ledgers and queues by URL: the one place that maps schemes to adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore
    from segue.model.queue import Queue


def connect_store(location: str) -> ObjectStore:
    """Open an object store: ``gs://bucket[/prefix]``, ``file:///folder`` or a folder's path."""
    if location.startswith("gs://"):
        from segue.adapters.cloud_storage import CloudStorage

        return CloudStorage(location)
    if "://" in location and not location.startswith("file:///"):
        raise ConfigurationError(
            f"{location!r} is not an object store that Segue supports; write gs://bucket/prefix "
            "or a folder"
        )
    from segue.adapters.folder import FolderStore

    return FolderStore(location)


def connect_ledger(url: str) -> Ledger:
    """Open a ledger: ``firestore://project[/database]`` or ``sqlite:///path``."""
    if url.startswith("firestore://"):
        from segue.adapters.firestore import FirestoreLedger

        return FirestoreLedger(url)
    if url.startswith("sqlite:///"):
        from segue.adapters.sqlite_ledger import SqliteLedger

        return SqliteLedger(url.removeprefix("sqlite:///"))
    raise ConfigurationError(
        f"{url!r} is not a ledger that Segue supports; write firestore://project/database or "
        "sqlite:///path"
    )


def connect_queue(url: str) -> Queue:
    """Open a queue: ``pubsub://project[/prefix]`` or ``sqlite:///path``."""
    if url.startswith("pubsub://"):
        from segue.adapters.pubsub import PubsubQueue

        return PubsubQueue(url)
    if url.startswith("sqlite:///"):
        from segue.adapters.sqlite_queue import SqliteQueue

        return SqliteQueue(url.removeprefix("sqlite:///"))
    raise ConfigurationError(
        f"{url!r} is not a queue that Segue supports; write pubsub://project or sqlite:///path"
    )
