"""Renders the pages: Jinja2 with automatic escaping, and what the templates format with.

Strangers write file names and tags, so text from the ledger also has its unprintable characters
escaped: one that reverses the direction of writing could make a name look like another.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from segue import text
from segue.printable import escape, escape_lines


def format_value(value: float) -> str:
    """Format a number of a result with four significant digits, and the whole of an integer."""
    if abs(value) < 1e15 and (float(value).is_integer() or abs(value) >= 1e4):
        return f"{value:,.0f}"
    return f"{value:,.4g}"


def format_time(at: datetime | float | None) -> Markup:
    """Return an element with a time, which a script shows in the reader's time zone."""
    if at is None:
        return Markup("-")
    if not isinstance(at, datetime):
        at = datetime.fromtimestamp(at, UTC)
    at = at.astimezone(UTC)
    shown = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), shown)


def build_query(path: str, **parameters: Any) -> str:
    """Return a path with the parameters that are set."""
    chosen = {name: value for name, value in parameters.items() if value not in (None, "", ())}
    return f"{path}?{urlencode(chosen, doseq=True, errors='surrogateescape')}" if chosen else path


def quote_field(value: str) -> str:
    """Return a name as the value of a field: a browser would change some characters of it."""
    return "".join(c if c.isprintable() and c != "%" else quote(c) for c in value)


def unquote_field(value: str) -> str:
    """Return the name that a form has sent."""
    return unquote(value)


@functools.cache
def load_environment() -> jinja2.Environment:
    """Return the environment of the templates."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segue_console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_lines(value) if type(value) is str else value,
    )
    environment.filters |= {
        "cost": text.format_cost,
        "count": text.format_count,
        "duration": text.format_duration,
        "number": text.format_number,
        "size": text.format_size,
        "time": format_time,
        "value": format_value,
        "printable": escape,
        "field": quote_field,
    }
    environment.globals["query"] = build_query
    return environment


def load_templates() -> None:
    """Compile all templates, so that the first page is as fast as the others."""
    environment = load_environment()
    for name in environment.list_templates():
        environment.get_template(name)


def render(
    request: Request, template: str, values: Mapping[str, Any], *, status: int = 200
) -> HTMLResponse:
    """Render a template with what all pages show."""
    shared = {
        "request": request,
        "nonce": request.state.nonce,
        "csrf": request.state.csrf,
        "allow_changes": request.app.state.allow_changes,
        "namespaces": request.app.state.namespaces,
        "namespace": None,
        "page": "",
    }
    html = load_environment().get_template(template).render({**shared, **values})
    return HTMLResponse(html.encode(errors="replace"), status_code=status)
