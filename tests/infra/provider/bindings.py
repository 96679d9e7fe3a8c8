"""The published language bindings of a provider, which are generated from its schema.

The wheel holds an archive of JavaScript with one folder per resource type. Only the folders of the
requested types are read, which takes a second, so nothing is cached.
"""

from __future__ import annotations

import importlib.metadata
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from provider.javascript import Module, UnreadableBinding
from provider.schema import Block, Schema

# Distribution → the prefix of its folders, in place of the type's ``google_``.
PREFIXES = {"cdktn-provider-google": "", "cdktn-provider-google-beta": "google-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """The type that a folder of the archive defines."""

    kind: str  # "provider", "resource" or "data"
    type: str


def read_schema(distribution: str, types: Iterable[str]) -> Schema:
    """Read the schema of an installed distribution; types that it does not have are left out."""
    wanted = {"provider": _Folder(kind="provider", type="")}
    for name in sorted(set(types)):
        folder = name.removeprefix("google_").replace("_", "-")
        wanted[PREFIXES[distribution] + folder] = _Folder(kind="resource", type=name)
        wanted[f"data-google-{folder}"] = _Folder(kind="data", type=name)
    described, sources = _unpack(_find_archive(distribution), wanted)
    found: dict[str, dict[str, Block]] = {"provider": {}, "resource": {}, "data": {}}
    for folder, text in sources.items():
        module = Module(text)
        if wanted[folder].kind != "provider" and module.type != wanted[folder].type:
            raise UnreadableBinding(
                f"{distribution}: {folder} is of {module.type}, not of {wanted[folder].type}; "
                "this version of the bindings names its folders differently"
            )
        found[wanted[folder].kind][wanted[folder].type] = module.build_block()
    return Schema(
        address=described["name"],
        version=described["version"],
        provider=found["provider"][""],
        resources=found["resource"],
        data_sources=found["data"],
    )


def _find_archive(distribution: str) -> str:
    """Return the path of the JavaScript in the wheel."""
    for file in importlib.metadata.files(distribution) or ():
        if file.name.endswith(".jsii.tgz"):
            return str(file.locate())
    raise UnreadableBinding(f"{distribution} has no .jsii.tgz; install the version in the lock")


def _unpack(path: str, folders: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the package's description of its provider, and the text of each folder's modules.

    A large type has its structures in other modules below its folder.
    """
    described: dict[str, Any] = {}
    texts: dict[str, list[str]] = defaultdict(list)
    with tarfile.open(path) as archive:
        for member in archive:
            parts = member.name.split("/")
            is_module = parts[1] == "lib" and member.name.endswith(".js") and parts[2] in folders
            if not is_module and member.name != "package/package.json":
                continue
            content = archive.extractfile(member)
            assert content is not None
            text = content.read().decode()
            if is_module:
                texts[parts[2]].append(text)
            else:
                described = json.loads(text)["cdktf"]["provider"]
    return described, {folder: "\n".join(parts) for folder, parts in texts.items()}
