"""What all pages need of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request

    from segue_console.namespace import Namespace


def find_namespace(request: Request) -> Namespace:
    """Return the namespace that the address names."""
    name = request.path_params["namespace"]
    namespaces: dict[str, Namespace] = request.app.state.namespaces
    if name not in namespaces:
        raise HTTPException(404, f"There is no namespace {name!r} here.")
    return namespaces[name]
