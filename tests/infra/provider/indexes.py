"""Indexes of a large ledger: building one takes hours, and the real provider waits for 20 minutes.

Then it fails and forgets the index, which the cloud keeps, and refuses to create a second time.
"""

from __future__ import annotations

from typing import Any

TYPE = "google_firestore_index"
LARGE = "large"  # how the name of a database begins whose indexes take hours


class Indexes:
    """The indexes of large ledgers."""

    def __init__(self) -> None:
        self._built: set[tuple[str, ...]] = set()

    def create(self, planned: dict[str, Any]) -> str | None:
        """Create an index; return why the provider fails, if it does."""
        if not planned["database"].startswith(LARGE):
            return None
        key = (planned["database"], *(field["field_path"] for field in planned["fields"]))
        if key in self._built:
            return "Error creating Index: googleapi: Error 409: index already exists"
        self._built.add(key)
        if planned.get("skip_wait"):
            return None
        return "Error waiting to create Index: timeout while waiting for the operation"
