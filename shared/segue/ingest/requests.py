"""Requests: ask for results, of some files or of all below a prefix.

A request has an id, by which it can be followed. Its run is recorded beside the artifacts; its
progress is in the ledger, like everything else.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice

import msgspec

from segue.clock import Clock, utc_now
from segue.errors import ConfigurationError, MissingInput
from segue.ingest.acceptance import accept_targets, build_requests
from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED, MediaFilter, is_unsafe_path
from segue.ingest.exclusions import find_suffix
from segue.ingest.observation import Look, look, map_in_threads, observe
from segue.ingest.probe_filter import ProbeFilter, find_probe
from segue.model.criteria import Criteria
from segue.model.graph import SOURCE, Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.media_file import (
    MediaFile,
    find_bucket_location,
    format_name,
    is_below,
    split_uri,
)
from segue.model.message import Message, build_request_id
from segue.model.object_store import LeftOut, ObjectStore, list_objects
from segue.model.passed_over import PassedOver
from segue.model.queue import Envelope, Queue, message_to_envelope
from segue.model.record import Lease, Record
from segue.model.run import (
    RunCounts,
    RunKind,
    RunRecord,
    RunSelection,
    RunState,
    is_run_id,
    load_run,
    save_run,
)
from segue.model.transitions import arrive, reopen

PAGE = 1_000  # files per call


class Request(Criteria, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request for results of either files or a prefix; ``after`` selects a later page of it.

    Criteria select some of the files below a prefix.
    """

    files: tuple[str, ...] = ()  # URIs
    prefix: str | None = None  # a file or folder
    jobs: tuple[str, ...] = ()  # empty: all of the graph
    force: bool = False  # compute them even if they are current
    parents: bool = False  # with force: also everything above them
    ping: bool = False  # walk the graph without work, and record each job passed
    request: str | None = None  # for a later page: the id that the first page returned
    after: str | None = None


class InvalidRequest(ConfigurationError):
    """The request itself is wrong; the set-up is not at fault."""


class RequestReceipt(PassedOver, frozen=True, kw_only=True, omit_defaults=False):
    """The response to a request: its id, and what it covers."""

    request: str
    targets: tuple[str, ...]
    files: int  # whose results are wanted
    ignored: dict[str, str] = msgspec.field(default_factory=dict)  # URI → why it was ignored
    after: str | None = None  # there are more: repeat the request with this and the id


_decode_request = msgspec.json.Decoder(Request).decode


def parse_request(data: bytes) -> Request:
    """Parse a request, or raise ``InvalidRequest``."""
    try:
        return _decode_request(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"the body is not a request ({error}); write JSON such as "
            '{"files": ["gs://bucket/name"], "jobs": ["beats"]} or {"prefix": "gs://bucket/a/"}'
        ) from error


def load_request(artifacts: ObjectStore, request: str) -> RunRecord:
    """Load the record of a request, or raise ``MissingInput``; another run is an error."""
    run = load_run(artifacts, request)
    if run.kind is not RunKind.REQUEST:
        raise ConfigurationError(
            f"{request} is a {run.kind}, not a request; use the id that 'segue request' printed"
        )
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Accepts requests: records what is wanted of each file, and asks the pipelines for it."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    media_filter: MediaFilter
    open_store: Callable[[str], ObjectStore]  # by location: where the files are
    artifacts: ObjectStore
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost
    page: int = PAGE

    def accept(self, request: Request, *, who: str | None = None) -> RequestReceipt:
        """Accept one page of a request; ``who`` makes it, as far as that is known.

        The same call again, with the id that the first one returned, changes nothing.

        Raises
        ------
        InvalidRequest
            If jobs are unknown, too many files or none are named, a location is unknown to Segue,
            or the id belongs to another request.
        """
        targets = self._resolve_targets(request)
        request = self._check(request)
        request_id = self._save(request, targets, who)
        try:
            files, ignored, after, passed_over = self._find_files(request)
        except ConfigurationError as error:
            if self.media_filter.catalogue is not None and not _is_name_too_long(error):
                raise
            raise InvalidRequest(str(error)) from error  # the caller named the location
        now = self.clock()
        changes = []
        pairs = list(self._read_records(files, now, ignored))
        pairs, unselected = self._select_by_probe(request, pairs)
        for media, snapshot in pairs:
            accept_file = partial(
                self._accept_file,
                media=media,
                targets=targets,
                request=request,
                request_id=request_id,
                now=now,
            )
            changes.append(Change(uri=media.uri, known=snapshot, transition=accept_file))
        accepted = 0
        envelopes: list[Envelope] = []
        for change, changed in zip(changes, self.ledger.change(changes), strict=True):
            if changed.answer is not None:
                accepted += 1
                envelopes += changed.answer
            elif request.files:
                record = changed.snapshot.record
                is_erased = record is not None and record.erased
                ignored[change.uri] = "it was erased" if is_erased else "it was deleted"
        if envelopes:
            self.queue.publish(envelopes)
        return RequestReceipt(
            request=request_id,
            targets=targets,
            files=accepted,
            ignored=ignored,
            after=after,
            **msgspec.structs.asdict(passed_over + PassedOver(not_selected=unselected)),
        )

    def _select_by_probe(
        self, request: Request, pairs: list[tuple[MediaFile, Snapshot]]
    ) -> tuple[list[tuple[MediaFile, Snapshot]], dict[str, int]]:
        """Return the files that the request's criteria about probes select; count the others."""
        if not request.needs_probe or not pairs:
            return pairs, {}
        files, snapshots = zip(*pairs, strict=True)
        probes = ProbeFilter(self.graph, self.artifacts, request.criteria)
        reasons = probes.find_reasons(files, snapshots)
        selected = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
        return selected, {**Counter(reason for reason in reasons if reason is not None)}

    def _read_records(
        self, files: Sequence[MediaFile], now: datetime, ignored: dict[str, str]
    ) -> Iterator[tuple[MediaFile, Snapshot]]:
        """Yield files and their records, in which files in folders then are what they are."""
        snapshots = self.ledger.read([media.uri for media in files])
        pairs = list(zip(files, snapshots, strict=True))
        for media, snapshot in pairs:
            if snapshot.damage is not None:
                ignored[media.uri] = snapshot.damage
            elif media.bucket:
                yield media, snapshot
        local = [pair for pair in pairs if not pair[0].bucket and pair[1].damage is None]
        if not local:
            return
        local_files, local_snapshots = zip(*local, strict=True)
        with closing(self.open_store(find_bucket_location(local_files[0].uri))) as store:
            observed = observe(store, self.ledger, local_files, now, snapshots=local_snapshots)
        for seen in observed:
            record = seen.snapshot.record
            if seen.error is not None:
                ignored[seen.uri] = str(seen.error)
            elif record is not None:
                yield record.media, seen.snapshot

    def _accept_file(
        self,
        found: Record | None,
        *,
        media: MediaFile,
        targets: tuple[str, ...],
        request: Request,
        request_id: str,
        now: datetime,
    ) -> tuple[Record, list[Envelope] | None]:
        """Record what is wanted of a file, whose event may not have come yet.

        Returns what to publish, or None if the file was deleted.
        """
        record, _ = arrive(found, media, now)
        if record.deleted_at is not None:
            return record, None
        if request.ping:
            return record, self._build_pings(record, targets, request_id)
        if request.force:
            record, _ = reopen(record, self.graph, targets, request=request_id, now=now)
        record, planned = accept_targets(self.graph, record, targets, now, self.lost)
        return record, build_requests(
            self.graph, record, targets, planned.elsewhere, request=request_id
        )

    def _build_pings(
        self, record: Record, targets: tuple[str, ...], request_id: str
    ) -> list[Envelope]:
        """Return the pings that walk from the source down to the targets."""
        ping = Message(
            namespace=self.graph.namespace,
            uri=record.uri,
            version=record.version,
            order=record.order,
            trigger=SOURCE,
            targets=targets,
            ping=True,
            request=request_id,
        )
        first = [j for j in self.graph.children[SOURCE] if self.graph.is_on_line(j, targets)]
        return [
            message_to_envelope(ping, pipeline) for pipeline in self.graph.find_pipelines(first)
        ]

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
        self._check_criteria(request)
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

    def _check_criteria(self, request: Request) -> None:
        if request.criteria == Criteria():
            return
        if request.prefix is None:
            raise InvalidRequest(
                "criteria select among the files below a prefix, and the request names files; "
                "leave them out"
            )
        try:
            request.check()
            if request.needs_probe:
                find_probe(self.graph)
        except ConfigurationError as error:
            raise InvalidRequest(str(error)) from error

    def _save(self, request: Request, targets: tuple[str, ...], who: str | None) -> str:
        """Save the record of a request, and return its id; a later page must match it.

        Only this method issues ids: a result is forced once for each, and a request with the id of
        another one would force nothing.
        """
        now = self.clock()
        run = RunRecord(
            id=request.request or build_request_id(now),
            kind=RunKind.REQUEST,
            state=RunState.ACCEPTED,
            who=who,
            started_at=now,
            selection=RunSelection(
                prefix=request.prefix,
                files=request.files,
                **msgspec.structs.asdict(request.criteria),
            ),
            jobs=targets,
            force=request.force,
            ping=request.ping,
            counts=RunCounts(files=len({*request.files})),
        )
        if request.request is None:
            save_run(self.artifacts, run)
            self.artifacts.sync()
        elif not _is_same(run, self._load_first(request.request)):
            raise InvalidRequest(
                f"request {request.request} asked for something else; leave the id out to get a "
                "new one"
            )
        return run.id

    def _load_first(self, request: str) -> RunRecord:
        """Load the record that the first page of a request has left."""
        if not is_run_id(request):
            raise InvalidRequest(
                f"{request!r} is not the id of a request; send the one that was returned"
            )
        try:
            return load_run(self.artifacts, request)
        except MissingInput as error:
            raise InvalidRequest(
                f"there is no request {request}; leave the id out to get a new one"
            ) from error

    def _find_files(
        self, request: Request
    ) -> tuple[list[MediaFile], dict[str, str], str | None, PassedOver]:
        """Return the current files of a page, the ignored ones, where the next page starts, and how
        many were passed over.
        """
        if request.prefix is not None:
            return self._list_files(request, request.prefix)
        named = dict.fromkeys(request.files)
        reasons = {uri: self.media_filter.find_reason_to_ignore(uri) for uri in named}
        ignored = {uri: reason for uri, reason in reasons.items() if reason is not None}
        uris = [uri for uri in named if uri not in ignored]
        with ExitStack() as opened:
            stores: dict[str, ObjectStore] = {}
            for location in dict.fromkeys(find_bucket_location(uri) for uri in uris):
                stores[location] = opened.enter_context(closing(self.open_store(location)))
            looks = map_in_threads(lambda uri: _look(uri, stores[find_bucket_location(uri)]), uris)
        for found in looks:
            if found.media is None:
                ignored[found.uri] = str(found.error or "there is no such object")
        files = [found.media for found in looks if found.media is not None]
        return files, ignored, None, PassedOver()

    def _list_files(
        self, request: Request, prefix: str
    ) -> tuple[list[MediaFile], dict[str, str], str | None, PassedOver]:
        ignored: dict[str, str] = {}
        with closing(self.open_store(find_bucket_location(prefix))) as store:

            def leave_out(found: LeftOut) -> None:
                if self.media_filter.concerns(uri := store.uri(found.name)):
                    ignored[format_name(uri)] = found.explanation

            names = list_objects(
                store, split_uri(prefix)[1], after=request.after or "", leave_out=leave_out
            )
            page = list(islice(names, self.page))
            files = []
            counts: dict[str, Counter[str]] = {NOT_INCLUDED: Counter(), EXCLUDED: Counter()}
            unselected: Counter[str] = Counter()
            for found in page:
                uri = store.uri(found.name)
                reason = self.media_filter.find_reason_to_ignore(uri)
                if reason in counts:
                    counts[reason][find_suffix(found.name)] += 1
                elif reason is None:
                    if why := request.find_reason(found.name, found.updated_at):
                        unselected[why] += 1
                    else:
                        files.append(found.to_media_file(uri))
        passed_over = PassedOver(
            not_included={**counts[NOT_INCLUDED]},
            excluded={**counts[EXCLUDED]},
            not_selected={**unselected},
        )
        return files, ignored, page[-1].name if len(page) == self.page else None, passed_over


def _is_same(run: RunRecord, first: RunRecord) -> bool:
    """Return whether a page belongs to a request; other people may continue it at other times."""
    return run == msgspec.structs.replace(first, who=run.who, started_at=run.started_at)


def _look(uri: str, store: ObjectStore) -> Look:
    """Look at a file, but do not read it; one in a folder that is unknown costs only itself."""
    found = look(store, MediaFile(uri=uri, version=""), read=False)
    if found.error is not None and split_uri(uri)[0]:
        raise found.error
    return found


def _is_name_too_long(error: ConfigurationError) -> bool:
    """Whether a file system refused a name: then the caller is at fault, and not the set-up."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG
