"""References to secrets: where the value of a secret is, which is never in the graph itself."""

from __future__ import annotations

import re

ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
# https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
STORED = re.compile(
    r"(projects/[a-z0-9][a-z0-9.:-]*/secrets/[A-Za-z0-9_-]{1,255})"
    r"/versions/(?:latest|[1-9][0-9]{0,17}|[A-Za-z][A-Za-z0-9_-]{0,62})",
    re.ASCII,
)
RULE = "write env:NAME, or projects/PROJECT/secrets/NAME/versions/latest, and not the secret itself"


def is_reference(text: str) -> bool:
    """Return whether a text says where a secret is."""
    return bool(ENVIRONMENT.fullmatch(text) or STORED.fullmatch(text))


def find_variable(reference: str) -> str | None:
    """Return the environment variable that a reference names; None if it names none."""
    match = ENVIRONMENT.fullmatch(reference)
    return None if match is None else match[1]


def find_stored_secret(reference: str) -> str | None:
    """Return the secret in Secret Manager that a reference names, without its version."""
    match = STORED.fullmatch(reference)
    return None if match is None else match[1]
