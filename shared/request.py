"""Requests: results are asked for, for some files or for all below a prefix.

A request has an id, by which it can be followed. What was asked for is kept as a small document
beside the artifacts; how far it is stands in the ledger, as everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

import msgspec

from shared.arrival import Intake
from shared.errors import ConfigurationError, MissingInput
from shared.graph import SOURCE, Graph
from shared.ledger import Arrival, Change, Ledger, arrive
from shared.media import MediaFile, bucket_location, split_uri
from shared.message import Message, new_request
from shared.queue import Lane, Letter, Queue, letter
from shared.record import Record
from shared.store import ObjectStore

VERSION: Literal[1] = 1
FOLDER = "_requests"  # no job's name begins with an underscore
PAGE = 1_000  # files a call


class Request(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What somebody asks for; either files or a prefix, of which ``after`` is a later page."""

    files: tuple[str, ...] = ()  # URIs
    prefix: str | None = None  # of URIs
    jobs: tuple[str, ...] = ()  # none: all of the graph
    force: bool = False  # compute them even if they are current
    parents: bool = False  # with force: what is above them, too
    ping: bool = False  # walk the graph without work, and leave a trace
    request: str | None = None  # the id of the request of which this is a later page
    after: str | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document that is kept of a request."""

    version: Literal[1] = VERSION
    request: str
    targets: tuple[str, ...]
    files: tuple[str, ...] = ()
    prefix: str | None = None
    force: bool = False
    ping: bool = False
    made_at: datetime


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request."""

    request: str
    targets: tuple[str, ...]
    files: int  # that jobs were asked to look at
    ignored: dict[str, str] = {}  # URI → why nothing was asked for it
    after: str | None = None  # there are more: send the request again with this and the id


_decoder = msgspec.json.Decoder(Request)
_document = msgspec.json.Decoder(Asked)


def decode(data: bytes) -> Request:
    """Parse a request, or raise ``ConfigurationError`` that says what is wrong with it."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"the body is no request ({error}); write JSON such as "
            '{"files": ["gs://bucket/name"], "jobs": ["beats"]} or {"prefix": "gs://bucket/a/"}'
        ) from error


def document_name(request: str) -> str:
    """Return the name of a request's document, relative to the artifacts' location."""
    if not request or not all(c.isascii() and (c.isalnum() or c in ".-") for c in request):
        raise ConfigurationError(
            f"{request!r} is not the id of a request; it is what 'segue request' printed"
        )
    return f"{FOLDER}/{request}.json"


def find(artifacts: ObjectStore, request: str) -> Asked:
    """Read what a request asked for, or raise ``MissingInput``."""
    try:
        return _document.decode(artifacts.read(document_name(request)))
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"the document of request {request} cannot be read ({error}); make the request again"
        ) from error


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Takes in requests: registers files that the ledger does not know, and asks their jobs."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    intake: Intake
    open_store: Callable[[str], ObjectStore]  # by location: where the files are
    artifacts: ObjectStore
    clock: Callable[[], datetime] = _utc_now
    page: int = PAGE

    def take(self, asked: Request) -> Accepted:
        """Ask for one page of files.

        The same call again, with the id that the first one gave, changes nothing.

        Raises
        ------
        ConfigurationError
            If jobs are unknown, too much or nothing is named, or a place is none of Segue's.
        """
        targets = self._targets(asked)
        self._check(asked)
        request = asked.request or new_request(self.clock())
        self._keep(asked, request, targets)
        files, ignored, after = self._files(asked)
        records = self._registered(files)
        letters = [
            one for record in records for one in self._letters(record, targets, asked, request)
        ]
        if letters:
            self.queue.publish(letters)
        return Accepted(
            request=request, targets=targets, files=len(records), ignored=ignored, after=after
        )

    def _targets(self, asked: Request) -> tuple[str, ...]:
        unknown = [job for job in asked.jobs if job not in self.graph.jobs]
        if unknown:
            known = ", ".join(self.graph.jobs)
            raise ConfigurationError(f"{unknown[0]!r} is no job of the graph; name some of {known}")
        if asked.force and not asked.jobs:
            raise ConfigurationError("force computes again what is named; name jobs")
        chosen = frozenset(asked.jobs or self.graph.jobs)
        if asked.force and asked.parents:
            chosen = frozenset(self.graph.upward(chosen))
        return tuple(job for job in self.graph.jobs if job in chosen)

    def _check(self, asked: Request) -> None:
        if bool(asked.files) == (asked.prefix is not None):
            raise ConfigurationError("name either files or a prefix")
        if len(asked.files) > self.page:
            raise ConfigurationError(
                f"{len(asked.files)} files are more than the {self.page} of one request; "
                "name a prefix, or make several requests"
            )
        if asked.after is not None and asked.request is None:
            raise ConfigurationError("a later page needs the id of the request that it belongs to")
        if asked.request is not None:
            document_name(asked.request)

    def _keep(self, asked: Request, request: str, targets: tuple[str, ...]) -> None:
        document = Asked(
            request=request,
            targets=targets,
            files=asked.files,
            prefix=asked.prefix,
            force=asked.force,
            ping=asked.ping,
            made_at=self.clock(),
        )
        self.artifacts.create(
            document_name(request),
            msgspec.json.encode(document),
            content_type="application/json",
            metadata={},
        )

    def _files(self, asked: Request) -> tuple[list[MediaFile], dict[str, str], str | None]:
        """The files of this page as they are now, those that are ignored, and the next page."""
        if asked.prefix is not None:
            return self._listed(asked.prefix, asked.after)
        files: list[MediaFile] = []
        ignored: dict[str, str] = {}
        stores: dict[str, ObjectStore] = {}
        try:
            for uri in dict.fromkeys(asked.files):
                if refusal := self.intake.refusal(uri):
                    ignored[uri] = refusal
                    continue
                where, name = bucket_location(uri), split_uri(uri)[1]
                if where not in stores:
                    stores[where] = self.open_store(where)
                try:
                    files.append(_media(uri, stores[where], name))
                except MissingInput:
                    ignored[uri] = "there is no such object"
        finally:
            for store in stores.values():
                store.close()
        return files, ignored, None

    def _listed(
        self, prefix: str, after: str | None
    ) -> tuple[list[MediaFile], dict[str, str], str | None]:
        folder, _, start = prefix.rpartition("/")
        store = self.open_store(folder)
        try:
            seen = list(islice(store.list(start, after=after or ""), self.page))
            files = [
                MediaFile(
                    uri=uri,
                    generation=found.generation,
                    size_bytes=found.size_bytes,
                    content_type=found.content_type,
                    checksum=found.checksum,
                )
                for found in seen
                if self.intake.refusal(uri := store.uri(found.name)) is None
            ]
        finally:
            store.close()
        return files, {}, seen[-1].name if len(seen) == self.page else None

    def _registered(self, files: Sequence[MediaFile]) -> list[Record]:
        """The files' records; a file of which no event has come yet is recorded now."""
        now = self.clock()
        snapshots = self.ledger.read([media.uri for media in files])
        changed = self.ledger.change(
            [
                Change(uri=media.uri, known=snapshot, transition=_arriving(media, now))
                for media, snapshot in zip(files, snapshots, strict=True)
            ]
        )
        records = [made.snapshot.record for made in changed]
        return [r for r in records if r is not None and r.deleted_at is None]

    def _letters(
        self, record: Record, targets: tuple[str, ...], asked: Request, request: str
    ) -> list[Letter]:
        """A ping walks from the top; what is wanted is asked of the targets themselves."""
        jobs = targets
        if asked.ping:
            jobs = tuple(j for j in self.graph.children[SOURCE] if self.graph.on_line(j, targets))
        return [
            letter(
                Message(
                    uri=record.uri,
                    generation=record.generation,
                    job=job,
                    targets=targets,
                    force=asked.force,
                    ping=asked.ping,
                    request=request,
                    lane=Lane.REQUESTS.value,
                )
            )
            for job in jobs
        ]


def _media(uri: str, store: ObjectStore, name: str) -> MediaFile:
    found = store.stat(name)
    return MediaFile(
        uri=uri,
        generation=found.generation,
        size_bytes=found.size_bytes,
        content_type=found.content_type,
        checksum=found.checksum,
    )


def _arriving(
    media: MediaFile, now: datetime
) -> Callable[[Record | None], tuple[Record | None, Arrival]]:
    return lambda found: arrive(found, media, now)
