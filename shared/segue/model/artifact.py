"""An artifact's name and lineage.

The name is ``<job>/<fingerprint>/<file name>/<version>.<suffix>``, where the suffix is a file
extension, after the output's name and a dot if the job has several outputs. It contains everything
that defines the bytes, so a repeated or concurrent write changes nothing, and an old version never
replaces a new one.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

import msgspec

from segue.errors import ConfigurationError
from segue.extras import DISTRIBUTION

# Google Cloud Storage allows names of 1,024 bytes, file systems parts of 255; these limits leave
# room for the rest of the name.
MAX_PART_BYTES = 200
MAX_NAME_BYTES = 800
SPECIAL = re.compile(r"[%\0\r\n]")
LINEAGE_KEY = "segue"
ARTIFACT = re.compile(
    r"(?P<job>[a-z][a-z0-9_]*)/(?P<fingerprint>[0-9a-f]{12})/(?P<file>.+)/"
    r"(?P<version>[0-9a-f]{1,32})\.(?P<suffix>(?:[a-z][a-z0-9_]*\.)?[a-z0-9]+)"
)


def find_suffix(name: str) -> str:
    """Return what follows the version in the name, or the URI, of an artifact."""
    return name.rpartition("/")[2].partition(".")[2]


def build_suffix(output: str, extension: str) -> str:
    """Return the suffix of an output's artifacts; the only output of a job has no name."""
    return f"{output}.{extension}" if output else extension


def list_outputs(writes: str | Mapping[str, str]) -> Mapping[str, str]:
    """Return the content types of a job's outputs, by name; the only one of a job has none."""
    return {"": writes} if isinstance(writes, str) else writes


def split_output(reference: str) -> tuple[str, str]:
    """Return the job and the output that ``job.output`` refers to; ``job`` has no other output."""
    job, _, output = reference.partition(".")
    return job, output


def build_references(job: str, artifacts: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the reference, the name and the checksum of each artifact of a job's result."""
    for name, checksum in artifacts.items():
        output = find_suffix(name).rpartition(".")[0]
        yield (f"{job}.{output}" if output else job), name, checksum


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact was made from, stored with the object as metadata."""

    job: str
    fingerprint: str
    uri: str
    version: str
    # Parent job, or job.output → its artifact's name, relative like this one's; of another
    # namespace, its URI.
    parents: dict[str, str] = {}
    segue: str = ""  # the version that wrote it

    def to_metadata(self) -> dict[str, str]:
        """Return object metadata: one key with one line of JSON."""
        return {LINEAGE_KEY: msgspec.json.encode(self, order="deterministic").decode()}

    @classmethod
    def from_metadata(cls, found: Mapping[str, str]) -> Lineage | None:
        """Parse object metadata; return None if Segue did not write the object."""
        text = found.get(LINEAGE_KEY)
        if text is None:
            return None
        try:
            return _decode_lineage(text)
        except msgspec.MsgspecError:
            return None


_decode_lineage = msgspec.json.Decoder(Lineage).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactName:
    """The parts of an artifact's name."""

    job: str
    fingerprint: str
    file: str  # the media file's name, quoted
    version: str
    suffix: str


def build_artifact_name(
    job: str, fingerprint: str, file_name: str, version: str, suffix: str
) -> str:
    """Return the name of an artifact, relative to the artifacts' location."""
    return f"{job}/{fingerprint}/{quote_name(file_name)}/{version}.{suffix}"


def parse_artifact_name(name: str) -> ArtifactName:
    """Parse an artifact's name; raise ``ConfigurationError`` if it is not one."""
    found = ARTIFACT.fullmatch(name)
    if found is None:
        raise ConfigurationError(
            f"{name!r} is not an artifact's name; that is job/fingerprint/file/version.suffix"
        )
    return ArtifactName(**found.groupdict())


def quote_name(name: str) -> str:
    """Make any object's name safe below a folder; ordinary names stay as they are.

    Empty, ``.`` and ``..`` parts are quoted with ``%``. Parts and names that are too long are cut
    and get a hash after ``%-``, so that different names stay different.
    """
    quoted = "/".join(_quote_part(part) for part in name.split("/"))
    if len(quoted.encode()) > MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        leaf = quoted.rpartition("/")[2]
        quoted = f"{_cut(quoted, 300)}%-/{digest}/{leaf}"
    return quoted


def _quote_part(part: str) -> str:
    if part in {"", ".", ".."}:
        return "%" + part
    quoted = SPECIAL.sub(lambda found: f"%{ord(found[0]):02x}", part)
    if len(quoted.encode()) > MAX_PART_BYTES:
        digest = hashlib.sha256(part.encode()).hexdigest()[:16]
        quoted = f"{_cut(quoted, MAX_PART_BYTES - 40)}%-{digest}"
    return quoted


def _cut(text: str, size_bytes: int) -> str:
    return text.encode()[:size_bytes].decode(errors="ignore").rstrip("/")


def compute_checksum(data: bytes) -> str:
    """Return the checksum of an artifact for the ledger."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@functools.cache
def find_version() -> str:
    """Return the installed version of Segue."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # in an archive without package metadata
        return "unknown"
