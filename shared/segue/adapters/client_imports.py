"""Imports what the cloud adapters would import at their first use, ahead of it.

Nothing is connected: who imports ahead may be about to fork, which open gRPC channels do not
survive.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

TOKENS = "google.auth.compute_engine"  # which the first token in the cloud needs
MODULES = {
    "firestore://": ("google.cloud.firestore_v1.services.firestore", TOKENS),
    "pubsub://": ("google.pubsub_v1.services.publisher.transports", TOKENS),
    "gs://": ("google.cloud.storage", TOKENS),
}


def preload(urls: Iterable[str]) -> None:
    """Import what the adapters behind some URLs need; those on a laptop need nothing."""
    for url in urls:
        for scheme, modules in MODULES.items():
            if url.startswith(scheme):
                for module in modules:
                    importlib.import_module(module)
