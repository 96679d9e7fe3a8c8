"""Requests: results are asked for, for some files or for all below a prefix.

A request has an id, by which it can be followed. What was asked for is kept as a small document
beside the artifacts; how far it is stands in the ledger, as everything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

import msgspec

from segue.errors import ConfigurationError, MissingInput
from segue.ingest.arrivals import Intake, is_detour
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Arrival, Change, Ledger, arrive
from segue.model.media_file import MediaFile, bucket_location, split_uri
from segue.model.message import Message, new_request
from segue.model.object_store import Object, ObjectStore
from segue.model.queue import Lane, Letter, Queue, letter
from segue.model.record import Record

VERSION: Literal[1] = 1
FOLDER = "_requests"  # no job's name begins with an underscore
PAGE = 1_000  # files a call
LOOKS_AT_ONCE = 16  # at files that are named one by one
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


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


class InvalidRequest(ConfigurationError):
    """Whoever asked has to ask for something else; the set-up is not at fault."""


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
    """Parse a request, or raise ``InvalidRequest`` that says what is wrong with it."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"the body is no request ({error}); write JSON such as "
            '{"files": ["gs://bucket/name"], "jobs": ["beats"]} or {"prefix": "gs://bucket/a/"}'
        ) from error


def document_name(request: str) -> str:
    """Return the name of a request's document, relative to the artifacts' location."""
    if not ID.fullmatch(request):
        raise InvalidRequest(
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
        InvalidRequest
            If jobs are unknown, too much or nothing is named, a place is none of Segue's, or the id
            is that of another request.
        """
        targets = self._targets(asked)
        asked = self._checked(asked)
        request = self._kept(asked, targets)
        with self._blamed():
            files, ignored, after = self._files(asked)
        records = self._registered(files)
        there = {record.uri for record in records}
        if asked.files:
            gone = [media.uri for media in files if media.uri not in there]
            ignored |= dict.fromkeys(gone, "it was deleted")
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
            raise InvalidRequest(f"{unknown[0]!r} is no job of the graph; name some of {known}")
        if asked.force and not asked.jobs:
            raise InvalidRequest("force computes again what is named; name jobs")
        chosen = frozenset(asked.jobs or self.graph.jobs)
        if asked.force and asked.parents:
            chosen = frozenset(self.graph.upward(chosen))
        return tuple(job for job in self.graph.jobs if job in chosen)

    def _checked(self, asked: Request) -> Request:
        """The request with a prefix that is as narrow as the catalogue; or it is refused."""
        if bool(asked.files) == (asked.prefix is not None):
            raise InvalidRequest("name either files or a prefix")
        if len(asked.files) > self.page:
            raise InvalidRequest(
                f"{len(asked.files)} files are more than the {self.page} of one request; "
                "name a prefix, or make several requests"
            )
        if asked.after is not None and (asked.request is None or asked.prefix is None):
            raise InvalidRequest(
                "a later page is one of a prefix, and needs the id that the first page gave"
            )
        if asked.prefix is None:
            return asked
        try:
            bucket, name = split_uri(asked.prefix)
        except ConfigurationError as error:
            raise InvalidRequest(str(error)) from error
        if not bucket and name and is_detour(name.removesuffix("/")):
            raise InvalidRequest(f"{asked.prefix!r} has empty, '.' or '..' parts, or a NUL")
        prefix = f"gs://{bucket}/{name}" if bucket else asked.prefix
        below = self.intake.below or ""
        if not prefix.startswith(below) and not below.startswith(prefix):
            raise InvalidRequest(f"{prefix!r} is not below the catalogue {below}")
        return msgspec.structs.replace(asked, prefix=max(prefix, below, key=len))

    def _kept(self, asked: Request, targets: tuple[str, ...]) -> str:
        """Keep what was asked for, and return its id; a later page has to ask for the same.

        Ids are given here alone: force goes by their order, so that one from the future would
        outdo all that come.
        """
        document = Asked(
            request=asked.request or new_request(self.clock()),
            targets=targets,
            files=asked.files,
            prefix=asked.prefix,
            force=asked.force,
            ping=asked.ping,
            made_at=self.clock(),
        )
        if asked.request is None:
            self.artifacts.create(
                document_name(document.request),
                msgspec.json.encode(document),
                content_type="application/json",
                metadata={},
            )
            return document.request
        try:
            first = find(self.artifacts, asked.request)
        except MissingInput as error:
            raise InvalidRequest(
                f"there is no request {asked.request}; leave the id out, and one is given"
            ) from error
        if msgspec.structs.replace(document, made_at=first.made_at) != first:
            raise InvalidRequest(
                f"request {asked.request} asked for something else; leave the id out, and another "
                "is given"
            )
        return asked.request

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Without a catalogue, a place that cannot be looked at is the fault of who named it."""
        try:
            yield
        except ConfigurationError as error:
            if self.intake.below is not None:
                raise
            raise InvalidRequest(str(error)) from error

    def _files(self, asked: Request) -> tuple[list[MediaFile], dict[str, str], str | None]:
        """The files of this page as they are now, those that are ignored, and the next page."""
        if asked.prefix is not None:
            return self._listed(asked.prefix, asked.after)
        named = dict.fromkeys(asked.files)
        ignored = {uri: why for uri in named if (why := self.intake.refusal(uri)) is not None}
        uris = [uri for uri in named if uri not in ignored]
        with ExitStack() as opened:
            stores: dict[str, ObjectStore] = {}
            for where in dict.fromkeys(bucket_location(uri) for uri in uris):
                stores[where] = opened.enter_context(closing(self.open_store(where)))
            with ThreadPoolExecutor(LOOKS_AT_ONCE) as looks:
                found = list(looks.map(lambda uri: _media(uri, stores[bucket_location(uri)]), uris))
        files = [media for media in found if media is not None]
        there = {media.uri for media in files}
        ignored |= {uri: "there is no such object" for uri in uris if uri not in there}
        return files, ignored, None

    def _listed(
        self, prefix: str, after: str | None
    ) -> tuple[list[MediaFile], dict[str, str], str | None]:
        with closing(self.open_store(bucket_location(prefix))) as store:
            names = store.list(split_uri(prefix)[1], after=after or "")
            seen = list(islice(names, self.page))
            files = [
                _version(uri, found)
                for found in seen
                if self.intake.refusal(uri := store.uri(found.name)) is None
            ]
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


def _media(uri: str, store: ObjectStore) -> MediaFile | None:
    """The version of a file that is there now, if there is one."""
    try:
        return _version(uri, store.stat(split_uri(uri)[1]))
    except MissingInput:
        return None


def _version(uri: str, found: Object) -> MediaFile:
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
