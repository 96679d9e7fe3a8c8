"""A bucket, or a part of one, as an object store, with generations pinned."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import uuid
from typing import IO, TYPE_CHECKING

from segue.errors import ConfigurationError, CorruptMedia, MissingInput, SegueError, Superseded
from segue.model.media_file import file_id, split_uri
from segue.model.object_store import Object, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.cloud.storage import Blob

    from segue.adapters.cloud_storage_connection import Connection

LISTED = "items(name,generation,size,contentType,crc32c,updated),nextPageToken"
PAGE = 1000  # more than the server gives at once is not worth asking for
METADATA_BYTES = 8 << 10  # that an object may have
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


class CloudStorage:
    """The object store in the cloud; names are plain strings there, and any can be read.

    Parameters
    ----------
    location : str
        ``gs://bucket`` or ``gs://bucket/prefix``.
    deadline_s : float
        How long a request is tried again before it raises ``Unavailable``.
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
        self._bucket_seen = False

    @property
    def _connected(self) -> Connection:
        """The connection, made at the first use."""
        from segue.adapters.cloud_storage_connection import Connection

        with self._lock:
            if self._connection is None:
                self._connection = Connection(self._bucket_name, self._deadline_s)
            return self._connection

    def uri(self, name: str) -> str:
        """The URI of an object."""
        return f"{self.location}/{name}"

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Object]:
        """Stream the objects, a thousand a request; the server sorts them."""
        with self._errors(None):
            connected = self._connected
            for blob in connected.client.list_blobs(
                self._bucket_name,
                prefix=self._base + prefix or None,
                start_offset=self._base + after if after else None,
                fields=LISTED,
                page_size=PAGE,
                **connected.options,
            ):
                self._bucket_seen = True
                name = blob.name[len(self._base) :]
                if name and name != after:  # the first is where the listing starts
                    yield _object(name, blob)

    def stat(self, name: str) -> Object:
        """Tell of one object, with its metadata."""
        with self._errors(name):
            blob = self._blob(name)
            blob.reload(**self._connected.options)
        return _object(name, blob)

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes in one request."""
        with self._errors(name, generation):
            blob = self._blob(name, generation)
            data: bytes = blob.download_as_bytes(**self._connected.options)
        return data

    def local(self, name: str, *, generation: int, folder: str) -> str:
        """Download an object to a file; what is there already is not downloaded again."""
        suffix = os.path.splitext(name)[1]  # decoders look at it
        leaf = f"{file_id(self.uri(name))}-{generation}{suffix if SUFFIX.fullmatch(suffix) else ''}"
        path = os.path.join(folder, leaf)
        if os.path.exists(path):
            return path
        unfinished = f"{path}.{uuid.uuid4().hex}"
        try:
            with self._errors(name, generation):
                with open(unfinished, "wb") as file:
                    bounded = _Bounded(file, self.uri(name), self._max_download_bytes)
                    blob = self._blob(name, generation)
                    blob.download_to_file(bounded, **self._connected.options)
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
    ) -> bool:
        """Write an object in one request, if none has the name.

        Should the server's answer get lost, the request is made again, and then answers False: the
        object is there, and who wrote it is not known.
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
            with self._errors(None):
                self._connected.upload(
                    self._base + name,
                    data,
                    content_type=content_type,
                    metadata=metadata,
                    only_if_absent=not replace,
                )
        except PreconditionFailed:
            return False
        return True

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Remove an object, on the condition that its generation is the one given."""
        from google.api_core.exceptions import PreconditionFailed

        try:
            with self._errors(name):
                blob = self._blob(name)
                blob.delete(if_generation_match=generation, **self._connected.options)
        except (MissingInput, PreconditionFailed):
            return False
        return True

    def close(self) -> None:
        """Close the connections; a later call makes others."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _blob(self, name: str, generation: int | None = None) -> Blob:
        return self._connected.bucket.blob(self._base + name, generation=generation)

    @contextlib.contextmanager
    def _errors(self, name: str | None, generation: int | None = None) -> Iterator[None]:
        """Say in Segue's terms what the server, the network or the disk said.

        Without a name, what is missing is the bucket.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed

        from segue.adapters.cloud_storage_errors import meaning, of_the_client

        try:
            yield
        except PreconditionFailed:
            raise
        except NotFound as error:
            raise self._missing(name, generation) from error
        except of_the_client() as error:
            meant = meaning(error, self.location if name is None else self.uri(name))
            if meant is None:
                raise
            raise meant from error

    def _missing(self, name: str | None, generation: int | None) -> SegueError:
        """What it means that the server did not find an object (None: the bucket)."""
        if name is not None and generation is not None:
            found = self.stat(name).generation
            return Superseded(
                f"{self.uri(name)} has generation {found}, not {generation}: it was overwritten; "
                "its new version is worked on next"
            )
        if name is not None and self._bucket_exists():
            return MissingInput(f"{self.uri(name)} does not exist; it was moved or deleted")
        return ConfigurationError(
            f"the bucket {self._bucket_name!r} does not exist; make it, or correct the location"
        )

    def _bucket_exists(self) -> bool:
        """Whether it is only the object that is missing; asked once."""
        if not self._bucket_seen:
            with contextlib.suppress(StopIteration):
                next(self.list(after="\U0010ffff"))
            self._bucket_seen = True
        return self._bucket_seen


def _object(name: str, blob: Blob) -> Object:
    checksum, updated = blob.crc32c, blob.updated  # each is parsed anew when it is asked for
    return Object(
        name=name,
        generation=blob.generation,
        size_bytes=blob.size,
        content_type=blob.content_type,
        checksum=f"crc32c:{checksum}" if checksum else None,
        updated_at=updated.timestamp() if updated else 0.0,
        metadata=blob.metadata or {},
    )


class _Bounded:
    """A file to download into that does not grow without end."""

    def __init__(self, file: IO[bytes], uri: str, max_bytes: int) -> None:
        self._file = file
        self._uri = uri
        self._left = max_bytes
        self._max_bytes = max_bytes

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise CorruptMedia(
                f"{self._uri} has more than {self._max_bytes} bytes, the most that is downloaded; "
                "a media file is smaller"
            )
        return self._file.write(data)

    def seek(self, offset: int) -> int:
        """Go back to the start, which the client does after a failure."""
        self._left = self._max_bytes
        return self._file.seek(offset)
