"""Three namespaces in the cloud form: each with its own database, topics, artifacts and worker.

The emulators of Firestore, Pub/Sub and Cloud Storage have to run, and their variables to be set.
The jobs do next to nothing, and note that they ran. The caller stands for Eventarc: it posts the
events that Cloud Storage would send to the functions of the namespace that reads the files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import Unavailable
from segue.ingest.request_client import open_requests
from segue.ingest.requests import Request
from segue.model.ledger import Query
from segue.model.queue import list_subscriptions, list_topics
from segue.model.record import LEASED, PENDING, Record, State
from segue.model.settings import Settings
from segue.model.transitions import find_entry
from segue.registry.locking import compare_lock
from segue.registry.publication import build_manifest, open_registry, publish
from segue.stack import open_stack
from segue_support.cloud_events import build_object_event, post_event
from segue_support.processes import Process
from segue_support.pubsub_topics import make_topics

if TYPE_CHECKING:
    from types import TracebackType

    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.media_file import MediaFile
    from segue_support.cloud_events import ObjectChange

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
ACK_DEADLINE_S = 10  # the least: what a killed worker held comes again after this
PATIENCE_S = 120.0
JOBS = """
import hashlib, json, os, time


def note(job, uri, content):
    line = json.dumps([job, uri, content]) + "\\n"
    file = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)
    time.sleep(0.1)
    return {"uri": uri, "content": content}


def downsample(media):
    with open(media.path, "rb") as file:
        content = hashlib.sha256(file.read()).hexdigest()
    return note("downsample", media.uri, content)


def beats(audio):
    return note("beats", audio["uri"], audio["content"])


def energy(audio, beats):
    assert audio == beats, (audio, beats)
    return note("energy", audio["uri"], audio["content"])
"""
GRAPHS = {
    "platform": """
  downsample: {run: "noted_jobs:downsample", needs: {media: source}, writes: application/json,
    publish: true}
""",
    "rhythm": """
  beats: {run: "noted_jobs:beats", needs: {audio: platform/downsample}, writes: application/json,
    publish: true}
""",
    "moods": """
  energy: {run: "noted_jobs:energy", needs: {audio: platform/downsample, beats: rhythm/beats},
    writes: application/json}
""",
}
JOB_OF = {"platform": "downsample", "rhythm": "beats", "moods": "energy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTeam:
    """One namespace, and what to reach it with."""

    settings: Settings
    graph: Graph
    ledger: Ledger
    environ: dict[str, str]

    def list_unfinished(self) -> list[str]:
        """Return the files of which something is leased, wanted or to be told, with the reason."""
        return [
            f"{record.uri} is {term} in {self.graph.namespace}"
            for term in (LEASED, PENDING)
            for record in self.ledger.find(Query(open=term))
        ]


class CloudTeams:
    """The namespaces on one catalogue; those that are started run until the end.

    Parameters
    ----------
    place : Path
        A folder for the graphs, and for the notes of the jobs that ran.
    project : str
        Where everything is that belongs to no namespace; each has a project of its own, too.
    """

    def __init__(self, place: Path, project: str) -> None:
        self.place = place
        self._project = project
        self._bucket = f"gs://{project}"
        _create_bucket(project)
        self.catalogue = connect_store(f"{self._bucket}/music")
        self.processes: dict[str, Process] = {}
        (place / "noted_jobs.py").write_text(JOBS)
        (place / "runs").touch()
        self._port = 0
        self.teams = {name: self._add(name) for name in GRAPHS}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            process.kill()
        for team in self.teams.values():
            team.ledger.close()
        self.catalogue.close()

    def _add(self, name: str) -> CloudTeam:
        """Lock, publish and provision a namespace, as its team would."""
        folder = self.place / name
        folder.mkdir()
        path = str(folder / "jobs.yaml")
        head = f"namespace: {name}\ncontact: {name}@example.org\ncatalogue: {self._bucket}/music\n"
        Path(path).write_text(f"{head}jobs:{GRAPHS[name]}")
        settings = Settings(
            graph=path,
            artifacts=f"{self._bucket}/{name}",
            registry=f"{self._bucket}/registry",
            ledger=f"firestore://{self._project}-{name}/{name}",
            queue=f"pubsub://{self._project}-{name}/{name}",
        )
        assert settings.registry is not None
        with closing(open_registry(settings.registry)) as registry:
            compare_lock(path, registry).write()
            graph = settings.load_graph()
            publish(registry, build_manifest(graph, settings))
        with closing(connect_queue(settings.queue, graph)) as queue:
            subscriptions = list_subscriptions(graph)
            make_topics(queue, list_topics(graph), subscriptions, ack_deadline_s=ACK_DEADLINE_S)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        return CloudTeam(
            settings=settings,
            graph=graph,
            ledger=connect_ledger(settings.ledger, name),
            environ=clean
            | {
                "RUNS": str(self.place / "runs"),
                "PYTHONPATH": str(self.place),
                "SEGUE_GRAPH": path,
                "SEGUE_ARTIFACTS": f"{self._bucket}/{name}",
                "SEGUE_LEDGER": settings.ledger,
                "SEGUE_QUEUE": settings.queue,
            },
        )

    # --- processes ---

    def start_all(self) -> None:
        """Start a worker for each namespace, and the functions of the first."""
        for name in ("functions", *GRAPHS):
            self.start(name)

    def start(self, name: str) -> None:
        """Start the worker of a namespace, or the functions; kill what is left of an old one."""
        if name in self.processes:
            self.processes[name].kill()
        team = self.teams["platform" if name == "functions" else name]
        functions = [sys.executable, "-m", "segue_functions.server", "--port", "0"]
        worker = [SEGUE, "work", "--all", "--processes", "1", "--json"]
        self.processes[name] = process = Process(
            functions if name == "functions" else worker,
            cwd=str(self.place),
            environ=team.environ,
        )
        if name == "functions":
            self._port = int(process.wait_until_started()["port"])

    def run(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run a command of a namespace, and return its JSON."""
        done = subprocess.run(
            [SEGUE, *arguments, "--json"],
            cwd=self.place,
            env=self.teams[name].environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    # --- files ---

    def upload(self, name: str, data: bytes) -> MediaFile:
        """Put a file into the catalogue; no event is sent."""
        self.catalogue.create(name, data, content_type="audio/wav", metadata={})
        return self.catalogue.stat(name).to_media_file(self.catalogue.uri(name))

    def send(self, change: ObjectChange, media: MediaFile) -> None:
        """Send an event as Eventarc does: again until the function has taken it."""
        function = "deletion" if change == "deleted" else "arrival"
        while True:
            try:
                post_event(self._port, function, build_object_event(change, media))
            except Unavailable:
                time.sleep(0.1)
            else:
                return

    def request(self, name: str, *uris: str) -> None:
        """Request everything that a namespace computes of some files."""
        team = self.teams[name]
        with open_stack(team.settings, graph=team.graph) as stack, open_requests(stack) as requests:
            requests.accept(Request(files=uris))

    # --- what became of them ---

    def read(self, name: str, *uris: str) -> list[Record | None]:
        """Return the records that a namespace has of some files."""
        return [snapshot.record for snapshot in self.teams[name].ledger.read(uris)]

    def list_states(self, uri: str) -> dict[str, State | None]:
        """Return the state that each namespace's job has for a file."""
        states: dict[str, State | None] = {}
        for name, team in self.teams.items():
            [record] = self.read(name, uri)
            entry = None if record is None else find_entry(team.graph, record, JOB_OF[name])
            states[name] = None if entry is None else entry.state
        return states

    def list_missing(self, uris: list[str]) -> Iterator[str]:
        """Yield what each namespace does not have of some files."""
        for name, team in self.teams.items():
            for uri, record in zip(uris, self.read(name, *uris), strict=True):
                entry = None if record is None else find_entry(team.graph, record, JOB_OF[name])
                if entry is None or entry.state is not State.DONE:
                    state = "missing" if entry is None else entry.state
                    yield f"{uri}: {name}/{JOB_OF[name]} is {state}"

    def list_unfinished(self) -> list[str]:
        """Return what is leased, wanted or to be told in any namespace."""
        return [reason for team in self.teams.values() for reason in team.list_unfinished()]

    def count_runs(self) -> Counter[tuple[str, str, str]]:
        """Return how often each job ran for each file and content."""
        lines = (self.place / "runs").read_text().splitlines()
        return Counter(tuple(json.loads(line)) for line in lines)


def _create_bucket(project: str) -> None:
    """Create a bucket that is named after a project."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(project=project, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    client.create_bucket(project)
    client.close()
