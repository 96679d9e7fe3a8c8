"""Finds the namespace and the file that an address names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from segue.errors import DamagedRecord

if TYPE_CHECKING:
    from starlette.requests import Request

    from segue.model.record import Record
    from segue.stack import Stack
    from segue_console.namespace import Namespace


def find_namespace(request: Request) -> Namespace:
    """Return the namespace that the address names."""
    name = request.path_params["namespace"]
    namespaces: dict[str, Namespace] = request.app.state.namespaces
    if name not in namespaces:
        raise HTTPException(404, f"There is no namespace {name!r} here.")
    namespace = namespaces[name]
    namespace.refresh()
    return namespace


def find_record(stack: Stack, request: Request) -> Record:
    """Return the record of the file that the address names, if the file exists."""
    uri = request.query_params.get("uri", "")
    (snapshot,) = stack.ledger.read([uri])
    if snapshot.damage is not None:
        raise DamagedRecord(snapshot.damage, [uri])
    record = snapshot.record
    if record is None or record.deleted_at is not None:
        raise HTTPException(404, "The ledger has no such file, or it was deleted.")
    return record
