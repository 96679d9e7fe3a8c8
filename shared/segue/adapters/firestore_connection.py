"""A connection to Firestore by Google's client, with errors translated to Segue's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from segue.adapters.google_errors import translate_errors

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

EMULATOR = "FIRESTORE_EMULATOR_HOST"
DOCUMENTS_ROLE = "grant roles/datastore.user to the account that runs this"
REMEDIES = {
    "PERMISSION_DENIED": DOCUMENTS_ROLE,
    "UNAUTHENTICATED": DOCUMENTS_ROLE,
    "NOT_FOUND": "create the database with 'gcloud firestore databases create', "
    "or set SEGUE_LEDGER",
    "FAILED_PRECONDITION": "apply the Terraform of this graph, which creates the indexes",
    "INVALID_ARGUMENT": "check SEGUE_LEDGER; its form is firestore://project/database",
}


class FirestoreConnection:
    """A connection to one database; ``client`` may be used by several threads."""

    def __init__(self, project: str, database: str) -> None:
        from google.cloud.firestore import Client

        if not os.environ.get(EMULATOR):  # the client would connect to an empty address
            os.environ.pop(EMULATOR, None)
        self.name = f"projects/{project}/databases/{database}"
        with self.translate_errors():
            self.client = Client(project=project, database=database)
            # The client creates its channel at first use, without a lock, and cannot close it.
            self._channel = self.client._firestore_api.transport  # noqa: SLF001

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def translate_errors(self) -> AbstractContextManager[None]:
        """Raise Segue's errors instead of the client's."""
        return translate_errors(self.name, REMEDIES)


def call_once(timeout_s: float) -> dict[str, Any]:
    """Return the options of a call to the client that make it fail rather than try again.

    The client repeats writes by default: had the server applied the first one, and its response was
    lost, the repeated one would fail as if others had written first. It repeats failed queries
    without a pause or an end, and raises an AttributeError if they have no ``retry`` at all.
    """
    from google.api_core.retry import Retry, if_exception_type

    return {"retry": Retry(predicate=if_exception_type()), "timeout": timeout_s}
