"""Scenarios: the namespaces, files, events and faults of a history; the seed decides the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from segue.model.graph import SOURCE

NAMES = "abcdefghi"
NAMESPACES = ("default", "moods", "charts", "search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file is written, or overwritten."""

    file: int
    late: bool = False  # the event comes after all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A file is deleted."""

    file: int
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A file in a folder gets another status, and keeps its content."""

    file: int
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A file in a folder becomes what it was at some time before."""

    file: int
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRequest:
    """A user requests results."""

    file: int | None  # None: all, by their prefix
    jobs: tuple[str, ...]  # none: all
    force: bool = False
    parents: bool = False
    ping: bool = False
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillStart:
    """A backfill of all files."""

    jobs: tuple[str, ...]
    force: bool = False
    retry: bool = False
    asks: bool = False  # other namespaces for what is missing there
    max_failures: int | None = None  # the files of which so many have failed are the last
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Failures are reset, and their jobs requested again."""

    jobs: tuple[str, ...]
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Garbage is collected."""

    older_than_s: float = 0.0
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A file is taken down in a namespace, and in those below."""

    file: int
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOrder:
    """Jobs are paused."""

    jobs: tuple[str, ...] = ()  # none: all
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOrder:
    """Jobs are resumed, and what has been waiting for them is requested."""

    jobs: tuple[str, ...] = ()  # none: all
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """All backfills that run are cancelled."""

    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUpStart:
    """What arrivals have left undone is requested of all files that are known."""

    namespace: int = 0


class Version(StrEnum):
    """What a deployment does with a job's version."""

    BREAKING = "breaking"  # raise it; old results of the job, and below it, count no more
    COMPATIBLE = "compatible"  # raise it; old results are as good as those of the new version
    NONE = "none"  # remove the job, and all below it
    BACK = "back"  # return to the deployment before
    LOCK = "lock"  # leave it, and lock to what other namespaces publish now


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A job gets another version."""

    job: str
    version: Version = Version.BREAKING
    rolling: bool = False  # some workers are not replaced yet, and work beside the new ones
    namespace: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayMessage:
    """A topic receives what does not belong there."""

    job: str  # of the topic's pipeline
    other: str | None = None  # what a request asks for; None: it is not a message at all
    is_foreign: bool = False  # it is of another namespace
    namespace: int = 0


FileChange = Upload | Removal | Touch | Return
NamespaceEvent = (
    UserRequest
    | BackfillStart
    | Retry
    | Deployment
    | Collection
    | Erasure
    | StrayMessage
    | PauseOrder
    | ResumeOrder
    | CancelOrder
    | CatchUpStart
)
Event = FileChange | NamespaceEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBudget:
    """How often each kind of fault may occur."""

    crashes: int = 0  # a process dies, between any two steps
    outages: int = 0  # a port is unavailable before, during or after a call
    duplicates: int = 0  # messages and events are delivered again, acknowledgements are lost
    stalls: int = 0  # time passes while some or all workers do nothing
    transient_errors: int = 0  # of jobs
    full_disks: int = 0
    losses: int = 0  # of artifacts

    @property
    def total(self) -> int:
        """The number of faults."""
        return sum(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The jobs of one namespace, and who serves them."""

    # The parents of a, b, c, …, also "source" and those of other namespaces; none: the source.
    shape: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...] = ()  # jobs that share a pipeline; others have their own
    # The jobs of each worker, which serves their pipelines; it serves all jobs of a pipeline.
    teams: tuple[tuple[str, ...], ...] = ()
    published: tuple[str, ...] = ()  # at least those that other namespaces need
    on_request: tuple[str, ...] = ()  # jobs that no arrival starts, and none above them
    source: str | None = None  # the namespace whose files it reads; None: its own
    registry: str | None = None  # others may read its files, too

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs, parents first."""
        return tuple(NAMES[: len(self.shape)])

    @property
    def references(self) -> tuple[str, ...]:
        """The jobs of other namespaces that are needed, as ``namespace/job``."""
        return tuple(sorted({p for parents in self.shape for p in parents if "/" in p}))

    @property
    def reads_source(self) -> bool:
        """Whether some job reads the file itself."""
        return any(SOURCE in parents or not parents for parents in self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The input of a history."""

    seed: int
    layouts: tuple[Layout, ...]  # of the first namespaces
    files: int = 1  # that exist from the start, without an event
    in_folder: bool = False  # and not in a bucket
    events: tuple[Event, ...] = ()
    failing: float = 0.0  # the fraction of file-jobs that fail permanently
    inapplicable: float = 0.0  # the fraction of file-jobs that are not for this file
    faults: FaultBudget = FaultBudget()
    detects_dead_processes: bool = True  # and knows that their leases are lost
    keeps_artifacts: bool = True  # when a file is deleted
    clock_error_s: float = 0.0  # how far clocks are off at most, of leases that last a minute

    @property
    def is_calm(self) -> bool:
        """Whether nothing happens that leaves anything to the sweep."""
        is_refusing = self.failing or self.inapplicable
        is_regular = not self.faults.total and not self.in_folder and not self.clock_error_s
        return is_regular and not any(
            isinstance(event, Deployment | BackfillStart | StrayMessage)
            # Those who wait for what is reopened, and refused again, are not told at once.
            or (is_refusing and (isinstance(event, Retry) or getattr(event, "force", False)))
            for event in self.events
        )

    @property
    def pauses(self) -> bool:
        """Whether jobs are paused."""
        return any(isinstance(event, PauseOrder) for event in self.events)

    @property
    def deployments(self) -> int:
        """The number of deployments after the first."""
        return sum(isinstance(event, Deployment) for event in self.events)

    @property
    def collects(self) -> bool:
        """Whether garbage is collected."""
        return any(isinstance(event, Collection) for event in self.events)
