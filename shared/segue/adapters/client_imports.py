"""Imports the cloud clients early, before the adapters first use them.

It does not connect: the caller may be about to fork, and open gRPC channels do not survive that.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

TOKENS = "google.auth.compute_engine"  # needed for the first token in the cloud
MODULES = {
    "firestore://": ("google.cloud.firestore_v1.services.firestore", TOKENS),
    "pubsub://": ("google.pubsub_v1.services.publisher.transports", TOKENS),
    "gs://": ("google.cloud.storage", TOKENS),
}


def preload(urls: Iterable[str]) -> None:
    """Import the clients that the adapters of these URLs need; local adapters need none."""
    for url in urls:
        for scheme, modules in MODULES.items():
            if url.startswith(scheme):
                for module in modules:
                    importlib.import_module(module)
