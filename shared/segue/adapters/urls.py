"""What the URLs of ledgers and queues say by themselves, before anything is opened."""

from __future__ import annotations

import os

EMBEDDED = "sqlite:///"
PUBSUB = "pubsub://"


def find_file(url: str) -> str | None:
    """Return the absolute path of the file of a ledger or queue; None: it is in the cloud."""
    if not url.startswith(EMBEDDED):
        return None
    return os.path.abspath(os.path.expanduser(url.removeprefix(EMBEDDED)))


def make_url_absolute(url: str) -> str:
    """Return the URL of a ledger or queue, in which a file's path does not depend on the folder."""
    path = find_file(url)
    return url if path is None else EMBEDDED + path


def identify_queue(url: str) -> str:
    """Return the one form of all URLs of the same queue."""
    if not url.startswith(PUBSUB):
        return make_url_absolute(url)
    from segue.adapters.pubsub import DEFAULT_PREFIX

    project, _, prefix = url.removeprefix(PUBSUB).rstrip("/").partition("/")
    return f"{PUBSUB}{project}/{prefix or DEFAULT_PREFIX}"
