"""Requests: ask for results, of some files or of all below a prefix.

A request has an id, by which it can be followed. It is saved as a small document beside the
artifacts; its progress is in the ledger, like everything else.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Literal

import msgspec

from segue.clock import Clock, utc_now
from segue.errors import ConfigurationError, MissingInput
from segue.ingest.catalogue import MediaFilter, is_unsafe_path
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Change, Ledger
from segue.model.media_file import (
    MediaFile,
    find_bucket_location,
    format_name,
    is_below,
    split_uri,
)
from segue.model.message import Message, build_request_id
from segue.model.object_store import LeftOut, ObjectStore, list_objects
from segue.model.queue import Envelope, Lane, Queue, message_to_envelope
from segue.model.record import Record
from segue.model.transitions import arrive

VERSION: Literal[1] = 1
FOLDER = "_requests"  # no job's name begins with an underscore
PAGE = 1_000  # files per call
PARALLEL_STATS = 16  # of files that are named one by one
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


class Request(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A request for results of either files or a prefix; ``after`` selects a later page of it."""

    files: tuple[str, ...] = ()  # URIs
    prefix: str | None = None  # a file or folder
    jobs: tuple[str, ...] = ()  # empty: all of the graph
    force: bool = False  # compute them even if they are current
    parents: bool = False  # with force: also everything above them
    ping: bool = False  # walk the graph without work, and record each job passed
    request: str | None = None  # for a later page: the id that the first page returned
    after: str | None = None


class RequestDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document that is saved of a request."""

    version: Literal[1] = VERSION
    request: str
    targets: tuple[str, ...]
    files: tuple[str, ...] = ()
    prefix: str | None = None
    force: bool = False
    ping: bool = False
    made_at: datetime


class InvalidRequest(ConfigurationError):
    """The request itself is wrong; the set-up is not at fault."""


class RequestReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The response to a request: its id, and what it covers."""

    request: str
    targets: tuple[str, ...]
    files: int  # for which jobs were notified
    ignored: dict[str, str] = {}  # URI → why it was ignored
    after: str | None = None  # there are more: repeat the request with this and the id


def parse_request(data: bytes) -> Request:
    """Parse a request, or raise ``InvalidRequest``."""
    try:
        return msgspec.json.decode(data, type=Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"the body is not a request ({error}); write JSON such as "
            '{"files": ["gs://bucket/name"], "jobs": ["beats"]} or {"prefix": "gs://bucket/a/"}'
        ) from error


def format_document_name(request: str) -> str:
    """Return the name of a request's document, relative to the artifacts' location."""
    if not ID.fullmatch(request):
        raise InvalidRequest(
            f"{request!r} is not the id of a request; use the one that 'segue request' printed"
        )
    return f"{FOLDER}/{request}.json"


def load_request(artifacts: ObjectStore, request: str) -> RequestDocument:
    """Load the document of a request, or raise ``MissingInput``."""
    try:
        data = artifacts.read(format_document_name(request))
        return msgspec.json.decode(data, type=RequestDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"the document of request {request} cannot be read ({error}); make the request again"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Accepts requests: records files that the ledger does not know, and notifies their jobs."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    media_filter: MediaFilter
    open_store: Callable[[str], ObjectStore]  # by location: where the files are
    artifacts: ObjectStore
    clock: Clock = utc_now
    page: int = PAGE

    def accept(self, request: Request) -> RequestReceipt:
        """Accept one page of a request.

        The same call again, with the id that the first one returned, changes nothing.

        Raises
        ------
        InvalidRequest
            If jobs are unknown, too many files or none are named, a location is unknown to Segue,
            or the id belongs to another request.
        """
        targets = self._resolve_targets(request)
        request = self._check(request)
        request_id = self._save(request, targets)
        try:
            files, ignored, after = self._find_files(request)
        except ConfigurationError as error:
            if self.media_filter.catalogue is not None and not _is_name_too_long(error):
                raise
            raise InvalidRequest(str(error)) from error  # the caller named the location
        records = self._record_files(files)
        recorded = {record.uri for record in records}
        if request.files:
            gone = [media.uri for media in files if media.uri not in recorded]
            ignored |= dict.fromkeys(gone, "it was deleted")
        envelopes = [
            one
            for record in records
            for one in self._build_envelopes(record, targets, request, request_id)
        ]
        if envelopes:
            self.queue.publish(envelopes)
        return RequestReceipt(
            request=request_id, targets=targets, files=len(records), ignored=ignored, after=after
        )

    def _resolve_targets(self, request: Request) -> tuple[str, ...]:
        unknown = [job for job in request.jobs if job not in self.graph.jobs]
        if unknown:
            known = ", ".join(self.graph.jobs)
            raise InvalidRequest(f"{unknown[0]!r} is not a job of the graph; name some of {known}")
        if request.force and not request.jobs:
            raise InvalidRequest(
                "force is set, but no jobs are named; name the jobs to compute again"
            )
        chosen = frozenset(request.jobs or self.graph.jobs)
        if request.force and request.parents:
            chosen = frozenset(self.graph.add_ancestors(chosen))
        return tuple(job for job in self.graph.jobs if job in chosen)

    def _check(self, request: Request) -> Request:
        """Return the request, its prefix narrowed to the catalogue, or raise ``InvalidRequest``."""
        if bool(request.files) == (request.prefix is not None):
            raise InvalidRequest(
                "the request must name either files or a prefix; name one of the two"
            )
        if len(request.files) > self.page:
            raise InvalidRequest(
                f"{len(request.files)} files are more than the {self.page} of one request; "
                "name a prefix, or make several requests"
            )
        if request.after is not None and (request.request is None or request.prefix is None):
            raise InvalidRequest(
                "'after' needs a prefix, and the id that the first page returned; send both"
            )
        if request.prefix is None:
            return request
        try:
            bucket, name = split_uri(request.prefix)
        except ConfigurationError as error:
            raise InvalidRequest(str(error)) from error
        if not bucket and name and is_unsafe_path(name.removesuffix("/")):
            raise InvalidRequest(f"{request.prefix!r} has empty, '.' or '..' parts, or a NUL")
        prefix = f"gs://{bucket}/{name}" if bucket else request.prefix
        catalogue = self.media_filter.catalogue
        if catalogue is not None and not is_below(prefix, catalogue):
            if not is_below(catalogue, prefix):
                raise InvalidRequest(f"{prefix!r} is not below the catalogue {catalogue}")
            prefix = catalogue
        return msgspec.structs.replace(request, prefix=prefix)

    def _save(self, request: Request, targets: tuple[str, ...]) -> str:
        """Save the document of a request, and return its id; a later page must match it.

        Only this method issues ids: force goes by their order, and an id from the future would
        override all later requests.
        """
        document = RequestDocument(
            request=request.request or build_request_id(self.clock()),
            targets=targets,
            files=request.files,
            prefix=request.prefix,
            force=request.force,
            ping=request.ping,
            made_at=self.clock(),
        )
        if request.request is None:
            self.artifacts.create(
                format_document_name(document.request),
                msgspec.json.encode(document),
                content_type="application/json",
                metadata={},
            )
            self.artifacts.sync()
            return document.request
        try:
            first = load_request(self.artifacts, request.request)
        except MissingInput as error:
            raise InvalidRequest(
                f"there is no request {request.request}; leave the id out to get a new one"
            ) from error
        if msgspec.structs.replace(document, made_at=first.made_at) != first:
            raise InvalidRequest(
                f"request {request.request} asked for something else; leave the id out to get a "
                "new one"
            )
        return request.request

    def _find_files(self, request: Request) -> tuple[list[MediaFile], dict[str, str], str | None]:
        """Return the current files of a page, the ignored ones, and where the next page starts."""
        if request.prefix is not None:
            return self._list_files(request.prefix, request.after)
        named = dict.fromkeys(request.files)
        reasons = {uri: self.media_filter.find_reason_to_ignore(uri) for uri in named}
        ignored = {uri: reason for uri, reason in reasons.items() if reason is not None}
        uris = [uri for uri in named if uri not in ignored]
        with ExitStack() as opened:
            stores: dict[str, ObjectStore] = {}
            for location in dict.fromkeys(find_bucket_location(uri) for uri in uris):
                stores[location] = opened.enter_context(closing(self.open_store(location)))
            with ThreadPoolExecutor(PARALLEL_STATS) as executor:
                found = list(
                    executor.map(lambda uri: _stat(uri, stores[find_bucket_location(uri)]), uris)
                )
        files = [media for media in found if media is not None]
        existing = {media.uri for media in files}
        ignored |= {uri: "there is no such object" for uri in uris if uri not in existing}
        return files, ignored, None

    def _list_files(
        self, prefix: str, after: str | None
    ) -> tuple[list[MediaFile], dict[str, str], str | None]:
        ignored: dict[str, str] = {}
        with closing(self.open_store(find_bucket_location(prefix))) as store:

            def leave_out(found: LeftOut) -> None:
                if self.media_filter.concerns(uri := store.uri(found.name)):
                    ignored[format_name(uri)] = found.explanation

            names = list_objects(
                store, split_uri(prefix)[1], after=after or "", leave_out=leave_out
            )
            page = list(islice(names, self.page))
            files = [
                found.to_media_file(uri)
                for found in page
                if self.media_filter.accepts(uri := store.uri(found.name))
            ]
        return files, ignored, page[-1].name if len(page) == self.page else None

    def _record_files(self, files: Sequence[MediaFile]) -> list[Record]:
        """Return the records of files; record a file now whose event has not come yet."""
        now = self.clock()
        snapshots = self.ledger.read([media.uri for media in files])
        changed = self.ledger.change(
            [
                Change(
                    uri=media.uri,
                    known=snapshot,
                    transition=partial(arrive, media=media, now=now),
                )
                for media, snapshot in zip(files, snapshots, strict=True)
            ]
        )
        records = [made.snapshot.record for made in changed]
        return [r for r in records if r is not None and r.deleted_at is None]

    def _build_envelopes(
        self, record: Record, targets: tuple[str, ...], request: Request, request_id: str
    ) -> list[Envelope]:
        """Notify the targets themselves; a ping walks from the top."""
        jobs = targets
        if request.ping:
            jobs = tuple(
                j for j in self.graph.children[SOURCE] if self.graph.is_on_line(j, targets)
            )
        return [
            message_to_envelope(
                Message(
                    uri=record.uri,
                    generation=record.generation,
                    job=job,
                    targets=targets,
                    force=request.force,
                    ping=request.ping,
                    request=request_id,
                    lane=Lane.REQUESTS.value,
                )
            )
            for job in jobs
        ]


def _stat(uri: str, store: ObjectStore) -> MediaFile | None:
    """Return the current version of a file, or None if there is no such file."""
    try:
        return store.stat(split_uri(uri)[1]).to_media_file(uri)
    except MissingInput:
        return None
    except ConfigurationError as error:
        if _is_name_too_long(error):
            return None
        raise


def _is_name_too_long(error: ConfigurationError) -> bool:
    """Whether a file system refused a name: then the caller is at fault, and not the set-up."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG
