"""The secrets of jobs in this process, and the mask over them in all that leaves it.

The process that opens a pool reads them. Its supervisor gets them through a socket, and the
children inherit its memory: they are in no file, in no environment of those processes, and in no
message about a file.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from urllib.parse import quote, quote_plus

from segue.adapters.secret_store import read_secret
from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.secret_reference import find_variable
from segue.printable import escape

MASK = "***"
FRAGMENT = 8  # characters
MIN_CHARACTERS = 4  # what is shorter would also be found where it is not

Secrets = Mapping[str, Mapping[str, str]]  # by job and parameter

_secrets: Secrets = {}
_spellings: tuple[str, ...] = ()  # of all values, the longest first
_fragments: frozenset[str] = frozenset()  # of these


def resolve_secrets(graph: Graph, jobs: Container[str]) -> Secrets:
    """Read the secrets of some jobs; no other process has to.

    Raises
    ------
    ConfigurationError
        If one is missing, may not be read, or is too short to be told from other text.
    Unavailable
        If Secret Manager does not answer.
    """
    return {
        name: {
            parameter: _read(reference, f"jobs.{name}.secrets.{parameter}")
            for parameter, reference in job.secrets.items()
        }
        for name, job in graph.jobs.items()
        if name in jobs and job.secrets
    }


def _read(reference: str, place: str) -> str:
    value = read_secret(reference, place)
    if len(value.strip()) < MIN_CHARACTERS:
        rule = f"has fewer than {MIN_CHARACTERS} characters, and would be masked in all text"
        raise ConfigurationError(f"{place}: the secret {rule}; use a longer one")
    return value


def hide_variables(environment: Mapping[str, str], graph: Graph) -> dict[str, str]:
    """Return an environment without the variables that hold secrets of a graph's jobs."""
    references = (r for job in graph.jobs.values() for r in job.secrets.values())
    hidden = {find_variable(reference) for reference in references}
    return {name: value for name, value in environment.items() if name not in hidden}


def use_secrets(secrets: Secrets) -> None:
    """Have this process, and those that it forks, know and mask some secrets."""
    global _secrets, _spellings, _fragments  # noqa: PLW0603 - of the process, as its environment is
    _secrets = secrets
    found = {s for values in secrets.values() for v in values.values() for s in _spell(v)}
    _spellings = tuple(sorted(found, key=len, reverse=True))
    _fragments = frozenset(
        s[start : start + FRAGMENT] for s in found for start in range(len(s) - FRAGMENT + 1)
    )


def load_secrets(graph: Graph, job: str) -> Mapping[str, str]:
    """Return the secrets of a job, by parameter; read them if nobody has done so for it."""
    if graph.jobs[job].secrets and job not in _secrets:
        use_secrets({**_secrets, **resolve_secrets(graph, (job,))})
    return find_secrets(job)


def find_secrets(job: str) -> Mapping[str, str]:
    """Return the secrets of a job, by parameter."""
    return _secrets.get(job, {})


def mask(text: str, *, is_cut: bool = False) -> str:
    """Return a text without the secrets in it.

    Of a secret that is abbreviated, as in ``'hunt…'``, each part of ``FRAGMENT`` characters or more
    is masked. ``is_cut`` says that the text's end may have cut one off, so even less of it is.
    """
    for spelling in _spellings:
        text = text.replace(spelling, MASK)
    if _fragments:
        text = _mask_fragments(text)
    for spelling in _spellings if is_cut else ():
        for size in range(min(FRAGMENT, len(spelling)) - 1, MIN_CHARACTERS - 1, -1):
            if text.endswith(spelling[:size]):
                return text[:-size] + MASK
    return text


def _mask_fragments(text: str) -> str:
    parts, start = [], 0
    while start < len(text):
        end = start + FRAGMENT
        if text[start:end] not in _fragments:
            parts.append(text[start])
            start += 1
            continue
        while end < len(text) and text[end + 1 - FRAGMENT : end + 1] in _fragments:
            end += 1
        parts.append(MASK)
        start = end
    return "".join(parts)


def find_leak(job: str, data: bytes) -> str | None:
    """Return the parameter of a job whose secret is in some bytes as it is, or as in JSON.

    White space around it does not count: a job may strip the line feed that ends a file.
    """
    for parameter, value in find_secrets(job).items():
        text = value.strip()
        if any(each.encode() in data for each in (text, _quote(text))):
            return parameter
    return None


def _spell(value: str) -> Iterable[str]:
    """Yield a value as texts may have it: in a literal, in JSON, in an address, by the line."""
    for part in {value, value.strip(), *map(str.strip, value.splitlines())}:
        if len(part) >= MIN_CHARACTERS:
            yield from (part, repr(part)[1:-1], repr(part.encode())[2:-1], escape(part))
            yield from (_quote(part), json.dumps(part)[1:-1])
            yield from (quote(part, safe=""), quote(part), quote_plus(part))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
