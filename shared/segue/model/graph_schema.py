"""The JSON Schema of ``jobs.yaml``, with which editors complete and check it.

It says what one line of a graph may be. What depends on other lines, on the lock or on the jobs'
code, ``segue graph --check`` says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from segue.model.graph import MAX_JOBS, NO_GPU
from segue.model.graph_keys import (
    GRAPH_KEYS,
    JOB_KEYS,
    MODEL_KEYS,
    NAMES,
    RESOURCE_KEYS,
    GraphKey,
    Schema,
    build_map,
    match,
)
from segue.model.model_entry import REFERENCE as MODEL

FILE = "jobs.schema.json"
# The first line of a graph, for the YAML language server that most editors have.
COMMENT = f"# yaml-language-server: $schema={FILE}\n"
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def build_schema() -> dict[str, Any]:
    """Return the schema, of draft 7, which editors read."""
    resources = _build_object(RESOURCE_KEYS)
    resources["dependencies"] = {
        "gpu_memory_gib": {
            "required": ["gpu"],
            "properties": {"gpu": {"not": {"const": NO_GPU}}},
        }
    }
    below = {
        "jobs": build_map(
            NAMES,
            _build_object(JOB_KEYS, {"resources": resources}),
            minProperties=1,
            maxProperties=MAX_JOBS,
        ),
        "models": build_map(match(MODEL.pattern), _build_object(MODEL_KEYS)),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "jobs.yaml, a graph of Segue",
        **_build_object(GRAPH_KEYS, below),
    }


def format_schema() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def _build_object(
    keys: Mapping[str, GraphKey], below: Mapping[str, Schema] = MappingProxyType({})
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {
                "description": _describe(key),
                **_explain(key),
                **below.get(name, {}),
            }
            for name, key in keys.items()
        },
        "required": [name for name, key in keys.items() if not key.default],
        "additionalProperties": False,
    }


def _explain(key: GraphKey) -> Schema:
    """Return the schema of a value; editors show the message in place of the pattern."""
    if "pattern" not in key.schema:
        return key.schema
    return {**key.schema, "patternErrorMessage": f"write {key.kind.replace('`', '')}"}


def _describe(key: GraphKey) -> str:
    text = _LINK.sub(r"\1", key.meaning).replace("`", "")
    text = f"{text[0].upper()}{text[1:]}."
    default = _LINK.sub(r"\1", key.default).replace("`", "")
    default = f" Default: {default}." if default else ""
    return f"{text}{default} Example: {key.example}"
