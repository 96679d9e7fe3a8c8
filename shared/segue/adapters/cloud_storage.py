"""The object store in Cloud Storage: a bucket, or a prefix in one, with pinned generations."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import uuid
from typing import IO, TYPE_CHECKING

from segue.errors import ConfigurationError, CorruptMedia, MissingInput, SegueError, Superseded
from segue.model.media_file import split_uri, uri_to_file_id
from segue.model.object_store import LeaveOut, LeftOutReason, Object, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.cloud.storage import Blob

    from segue.adapters.cloud_storage_client import Connection

LISTED_FIELDS = "items(name,generation,size,contentType,crc32c,updated),nextPageToken"
PAGE_SIZE = 1000  # the most that the server returns at once
METADATA_BYTES = 8 << 10  # the most that an object may have
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


class CloudStorage:
    """The object store in a bucket; names are plain strings there, and any name can be read.

    Parameters
    ----------
    location : str
        ``gs://bucket`` or ``gs://bucket/prefix``.
    deadline_s : float
        How long a request is retried before it raises ``Unavailable``.
    max_download_bytes : int
        The largest object that ``local`` downloads.
    """

    def __init__(
        self, location: str, *, deadline_s: float = 120.0, max_download_bytes: int = 8 << 30
    ) -> None:
        self._bucket_name, prefix = split_uri(location)
        if not self._bucket_name:
            raise ConfigurationError(f"{location!r} is not a bucket; write gs://bucket/prefix")
        prefix = prefix.rstrip("/")
        self._base = f"{prefix}/" if prefix else ""
        self.location = f"gs://{self._bucket_name}/{prefix}".rstrip("/")
        self._deadline_s = deadline_s
        self._max_download_bytes = max_download_bytes
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._bucket_found = False

    @property
    def _open_connection(self) -> Connection:
        """The connection, made at the first use."""
        from segue.adapters.cloud_storage_client import Connection

        with self._lock:
            if self._connection is None:
                self._connection = Connection(self._bucket_name, self._deadline_s)
            return self._connection

    def uri(self, name: str) -> str:
        """The URI of an object."""
        return f"{self.location}/{name}"

    def list(
        self,
        prefix: str = "",
        *,
        after: str = "",
        leave_out: LeaveOut | None = None,  # noqa: ARG002 - all that is there is an object
    ) -> Iterator[Object]:
        """Stream the objects, a thousand per request; the server sorts them."""
        with self._translate_errors(None):
            connection = self._open_connection
            for blob in connection.client.list_blobs(
                self._bucket_name,
                prefix=self._base + prefix or None,
                start_offset=self._base + after if after else None,
                fields=LISTED_FIELDS,
                page_size=PAGE_SIZE,
                **connection.options,
            ):
                self._bucket_found = True
                name = blob.name[len(self._base) :]
                if name and name != after:  # the first is where the listing starts
                    yield _to_object(name, blob)

    def stat(self, name: str) -> Object:
        """Return one object, with its metadata."""
        with self._translate_errors(name):
            blob = self._get_blob(name)
            blob.reload(**self._open_connection.options)
        return _to_object(name, blob)

    def identify(self, name: str) -> Object:
        """Return one object, with its metadata; its generation identifies its content."""
        return self.stat(name)

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:  # noqa: ARG002
        """Return None: the server knows what exists."""
        return None

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes in one request."""
        with self._translate_errors(name, generation):
            blob = self._get_blob(name, generation)
            data: bytes = blob.download_as_bytes(**self._open_connection.options)
        return data

    def read_part(
        self, name: str, *, start: int, length: int, generation: int | None = None
    ) -> bytes:
        """Return some of an object's bytes in one request."""
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        with self._translate_errors(name, generation):
            blob = self._get_blob(name, generation)
            try:
                data: bytes = blob.download_as_bytes(
                    start=start, end=start + length - 1, **self._open_connection.options
                )
            except RequestRangeNotSatisfiable:
                return b""
        return data

    def fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:  # noqa: ARG002 - only in a folder
        """Download an object to a file, unless the file exists already."""
        generation = int(version)
        suffix = os.path.splitext(name)[1]  # decoders look at it
        suffix = suffix if SUFFIX.fullmatch(suffix) else ""
        leaf = f"{uri_to_file_id(self.uri(name))}-{generation}{suffix}"
        path = os.path.join(folder, leaf)
        if os.path.exists(path):
            return path
        unfinished = f"{path}.{uuid.uuid4().hex}"
        try:
            with self._translate_errors(name, generation):
                with open(unfinished, "wb") as file:
                    bounded_file = _BoundedFile(file, self.uri(name), self._max_download_bytes)
                    blob = self._get_blob(name, generation)
                    blob.download_to_file(bounded_file, **self._open_connection.options)
                os.replace(unfinished, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
        return path

    def create(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replace: bool = False,
        generation: int | None = None,
    ) -> bool:
        """Write an object in one request, unless the name is taken or the generation is another.

        If the server's response is lost, the request is retried and returns False: the object
        exists, and it is not known who wrote it.
        """
        from google.api_core.exceptions import PreconditionFailed

        check_name(name)
        size = sum(len(text.encode()) for pair in metadata.items() for text in pair)
        if size > METADATA_BYTES:
            raise ConfigurationError(
                f"the metadata of {self.uri(name)} has {size} bytes, and an object may have "
                f"{METADATA_BYTES}; shorten the names of the files, or split the job"
            )
        try:
            with self._translate_errors(None):
                self._open_connection.upload(
                    self._base + name,
                    data,
                    content_type=content_type,
                    metadata=metadata,
                    only_if_generation=generation if replace else 0,
                )
        except PreconditionFailed:
            return False
        return True

    def sync(self) -> None:
        """Do nothing: a response to a write means that it is durable."""

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Delete an object, provided that it has the given generation."""
        from google.api_core.exceptions import PreconditionFailed

        try:
            with self._translate_errors(name):
                blob = self._get_blob(name)
                blob.delete(if_generation_match=generation, **self._open_connection.options)
        except (MissingInput, PreconditionFailed):
            return False
        return True

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _get_blob(self, name: str, generation: int | None = None) -> Blob:
        return self._open_connection.bucket.blob(self._base + name, generation=generation)

    @contextlib.contextmanager
    def _translate_errors(self, name: str | None, generation: int | None = None) -> Iterator[None]:
        """Translate errors; without a name, a missing object means a missing bucket."""
        from google.api_core.exceptions import NotFound

        from segue.adapters.cloud_storage_client import translate_errors

        try:
            with translate_errors(self.location if name is None else self.uri(name)):
                yield
        except NotFound as error:
            raise self._explain_missing(name, generation) from error

    def _explain_missing(self, name: str | None, generation: int | None) -> SegueError:
        """Return the error for an object that the server did not find (None: the bucket)."""
        if name is not None and generation is not None:
            found = self.stat(name).generation
            return Superseded(
                f"{self.uri(name)} has generation {found}, not {generation}: it was overwritten; "
                "its new version is processed next"
            )
        if name is not None and self._bucket_exists():
            return MissingInput(f"{self.uri(name)} does not exist; it was moved or deleted")
        return ConfigurationError(
            f"the bucket {self._bucket_name!r} does not exist; create it, or correct the location"
        )

    def _bucket_exists(self) -> bool:
        """Whether the bucket exists, so that only the object is missing; it is checked once."""
        if not self._bucket_found:
            with contextlib.suppress(StopIteration):
                next(self.list(after="\U0010ffff"))
            self._bucket_found = True
        return self._bucket_found


def _to_object(name: str, blob: Blob) -> Object:
    checksum, updated = blob.crc32c, blob.updated  # each access parses them again
    return Object(
        name=name,
        generation=blob.generation,
        size_bytes=blob.size,
        content_type=blob.content_type,
        checksum=f"crc32c:{checksum}" if checksum else None,
        updated_at=updated.timestamp() if updated else 0.0,
        metadata=blob.metadata or {},
    )


class _BoundedFile:
    """A file to download into, with a limit on its size."""

    def __init__(self, file: IO[bytes], uri: str, max_bytes: int) -> None:
        self._file = file
        self._uri = uri
        self._left = max_bytes
        self._max_bytes = max_bytes

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise CorruptMedia(
                f"{self._uri} has more than {self._max_bytes} bytes, the limit for downloads; "
                "media files are smaller"
            )
        return self._file.write(data)

    def seek(self, offset: int) -> int:
        """Seek, as the client does after a failure to start again."""
        self._left = self._max_bytes
        return self._file.seek(offset)
