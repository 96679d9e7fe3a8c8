"""The application: which page is at which address, and what is shown if one fails."""

from __future__ import annotations

import importlib.resources
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from segue.errors import ConfigurationError, MissingInput, SegueError, TransientError
from segue_console import live, media
from segue_console.namespace import Namespace
from segue_console.pages import catalogue, failures, file, files, job, plan, request, runs
from segue_console.plans import Plans
from segue_console.security import Access, Guard, Refused
from segue_console.templates import load_templates, render
from segue_console.waveforms import Waveforms

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MODULES = (catalogue, failures, file, files, job, live, media, plan, request, runs)


def build_app(
    namespaces: Mapping[str, Namespace],
    *,
    waveforms: Waveforms,
    plans: Plans,
    access: Access,
    hosts: Collection[str] | None,
    allow_changes: bool = False,
) -> ASGIApp:
    """Build the application.

    Parameters
    ----------
    namespaces : mapping of str to Namespace
        What it shows, by name.
    waveforms : Waveforms
    plans : Plans
    access : Access
    hosts : collection of str or None
        The names, with their ports, under which it is reached; None: a proxy checks them.
    allow_changes : bool
        Whether readers may request, retry and cancel.
    """
    load_templates()
    static = importlib.resources.files("segue_console") / "static"
    pages = [route for module in MODULES for route in module.ROUTES]
    app = Starlette(
        routes=[
            Route("/", _redirect_to_first),
            Mount("/_static", StaticFiles(directory=str(static)), name="static"),
            Mount("/{namespace}", routes=pages),
        ],
        exception_handlers={
            HTTPException: _show_error,
            Refused: _show_error,
            SegueError: _show_error,
        },
    )
    app.state.waveforms, app.state.plans = waveforms, plans
    app.state.namespaces, app.state.allow_changes = namespaces, allow_changes
    return Guard(app, access=access, hosts=hosts, allow_changes=allow_changes)


def _redirect_to_first(request: Request) -> Response:
    return RedirectResponse(f"/{next(iter(request.app.state.namespaces))}/")


def _show_error(request: Request, error: Exception) -> Response:
    """Show why a page cannot be shown, and what to do."""
    status, reason = _describe(error)
    if request.headers.get("hx-request"):  # for a part of a page
        return PlainTextResponse(f"{reason}\n", status_code=status)
    return render(request, "error.html", {"reason": reason, "status": status}, status=status)


def _describe(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException(detail="Not Found"):
            return error.status_code, "There is no such page."
        case HTTPException():
            return error.status_code, error.detail
        case Refused():
            return error.status, error.reason
        case MissingInput():
            return 404, f"{error}."
        case TransientError():
            return 503, f"{error}. Load the page again in a moment."
        case ConfigurationError():
            return 400, str(error)
    return 500, str(error)
