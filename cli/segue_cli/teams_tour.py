"""The tour of several teams: one parent, whose result three teams read."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING

from segue_cli.exit_code import ExitCode
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from segue.model.record import Record
    from segue_cli.tour import TourShell
    from segue_cli.views.output import Output

GRAPHS = {
    "platform": """
catalogue: music
jobs:
  downsample:
    run: segue.features.resampling:downsample
    needs: {media: source}
    writes: audio/flac
    publish: true
""",
    "visuals": """
jobs:
  spectrogram:
    run: segue.features.spectrum:spectrogram
    needs: {audio: platform/downsample}
    writes: image/png
""",
    "rhythm": """
jobs:
  beats:
    run: segue.features.rhythm:beats
    needs: {audio: platform/downsample}
    writes: application/json
""",
    "moods": """
jobs:
  brightness:
    run: brightness:brightness
    needs: {audio: platform/downsample}
    writes: application/json
""",
}
JOBS = {
    "platform": "downsample",
    "visuals": "spectrogram",
    "rhythm": "beats",
    "moods": "brightness",
}
REQUESTED = ("platform", "rhythm")  # whose jobs run when rhythm requests beats
OLD, NEW = "archive/Rappel.flac", "music/Bis.flac"
LOG = "up.log"
PATIENCE_S = 120.0
POLL_S = 0.1


class TeamsTour:
    """The steps in order; the first that goes wrong ends the tour."""

    def __init__(self, output: Output, shell: TourShell) -> None:
        self._output = output
        self._shell = shell
        self._folder = shell.folder
        self._found: dict[str, list[JobEvidence]] = {}  # by file

    def run(self) -> ExitCode:
        """Run the tour."""
        self._shell.create_folder()
        self._write_files()
        graphs = " ".join(f"{team}/jobs.yaml" for team in GRAPHS)
        self._shell.show(
            "Four teams, each with a graph, a ledger and artifacts of its own. Platform offers "
            "downsample to the others; visuals, rhythm and moods need it. These are two of the "
            "graphs.",
            "cat platform/jobs.yaml rhythm/jobs.yaml",
        )
        self._shell.show(
            "Platform publishes its job. The others lock their graphs to it, and publish that, so "
            "that everybody sees who uses what.",
            "segue publish --graph platform/jobs.yaml",
            *(
                f"segue lock --graph {team}/jobs.yaml && segue publish --graph {team}/jobs.yaml"
                for team in GRAPHS
                if team != "platform"
            ),
            "segue graph --registry registry",
        )
        self._shell.show(
            "Run all four systems. Platform watches the folder music; the others watch none."
        )
        system = self._shell.start(f"segue up {graphs} > {LOG} 2>&1")
        if not self._wait_for_start(system):
            return ExitCode.ERROR
        self._shell.show(f"Nobody watches the folder of {OLD}. What has run for it?")
        if not self._show_evidence(OLD, ()):
            return ExitCode.FAILURES
        self._shell.show(
            "Rhythm requests its beats. They need platform's downsample, which is missing, so the "
            "request goes on to platform.",
            f"segue request {OLD} --job beats --graph rhythm/jobs.yaml --watch --timeout 2m",
        )
        self._shell.show(
            "What has run for it, according to the ledgers and artifacts of all teams?"
        )
        if not self._show_evidence(OLD, REQUESTED):
            return ExitCode.FAILURES
        self._shell.print("", f"Beats found {self._read_tempo():.1f} bpm.")
        self._shell.show(
            "A new file arrives in the folder that platform watches. Platform's job runs, and then "
            "those of all teams.",
            f"cp archive/Bis.flac {NEW}",
        )
        is_complete = self._wait_for_results(system, NEW)
        self._shell.show("What has run for it?")
        if not (self._show_evidence(NEW, tuple(GRAPHS)) and is_complete):
            return ExitCode.FAILURES
        self._shell.stop(system)
        self._shell.show(f"All systems have stopped. What has run for {OLD} in the end?")
        if not self._show_evidence(OLD, REQUESTED):
            return ExitCode.FAILURES
        self._shell.show(
            f"All of this is in {os.path.relpath(self._folder)}. docs/teams.md says what to try "
            "there."
        )
        if self._output.as_json:
            self._output.write_json({"folder": self._folder, "files": self._describe()})
        return ExitCode.OK

    def _write_files(self) -> None:
        from segue_cli.demo_catalogue import make_encore

        make_encore(os.path.join(self._folder, "archive"))
        os.mkdir(os.path.join(self._folder, "music"))
        for team, text in GRAPHS.items():
            os.mkdir(os.path.join(self._folder, team))
            path = os.path.join(self._folder, team, "jobs.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"namespace: {team}\nregistry: registry{text}")
        code = resources.files("segue_cli") / "templates/job/brightness.py.template"
        with open(os.path.join(self._folder, "moods/brightness.py"), "wb") as module:
            module.write(code.read_bytes())

    def _wait_for_start(self, system: subprocess.Popen[bytes]) -> bool:
        """Wait until all systems run; if they do not, print what they said."""
        path = os.path.join(self._folder, LOG)
        until = time.monotonic() + PATIENCE_S
        while True:
            said = ""
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    said = file.read()
            if all(f"{team} up: started" in said for team in GRAPHS):
                return True
            if system.poll() is not None or time.monotonic() > until:
                self._shell.print(f"The systems did not start. In {LOG}:", said)
                return False
            time.sleep(POLL_S)

    def _wait_for_results(self, system: subprocess.Popen[bytes], name: str) -> bool:
        """Wait until all teams have their result for a file."""
        until = time.monotonic() + PATIENCE_S
        while not all(one.is_done for one in self._read_evidence(name)):
            if system.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True

    def _show_evidence(self, name: str, expected: Collection[str]) -> bool:
        """Print what ran for a file; return whether it is the jobs of these teams, each once."""
        found = self._found[name] = self._read_evidence(name)
        rows = build_table("team", "job", ">runs", ">artifacts", "started by")
        for one in found:
            rows.add_row(one.team, one.job, str(one.runs), str(one.artifacts), one.cause)
        if any(one.runs for one in found):
            self._shell.print(rows, "")
        self._shell.print(_describe_runs(found))
        faults = find_faults(found, expected)
        self._shell.print(*(f"This is wrong: {fault}; see {LOG}." for fault in faults))
        return not faults

    def _read_evidence(self, name: str) -> list[JobEvidence]:
        return [read_evidence(self._folder, team, job, name) for team, job in JOBS.items()]

    def _read_tempo(self) -> float:
        (path,) = find_artifacts(self._folder, "rhythm", "beats", OLD)
        with open(path, "rb") as file:
            return float(json.load(file)["tempo_bpm"])

    def _describe(self) -> dict[str, list[dict[str, object]]]:
        return {
            name: [
                {
                    "namespace": one.team,
                    "job": one.job,
                    "runs": one.runs,
                    "artifacts": one.artifacts,
                    "triggered_by": one.triggered_by,
                }
                for one in found
            ]
            for name, found in self._found.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvidence:
    """What a team's ledger and artifacts say of one job and one file."""

    team: str
    job: str
    runs: int = 0
    artifacts: int = 0
    is_done: bool = False
    triggered_by: str | None = None  # None: it was requested
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def cause(self) -> str:
        """What started it, in words; empty if nothing did."""
        if self.started_at is None:
            return ""
        if self.triggered_by is None:
            return "a request"
        event = self.triggered_by.partition("@")[0]
        return "the file's arrival" if event == "source" else f"the event of {event}"


def read_evidence(folder: str, team: str, job: str, name: str) -> JobEvidence:
    """Read what a team's ledger and artifacts say of a job, and of a file below a folder."""
    found = JobEvidence(team=team, job=job, artifacts=len(find_artifacts(folder, team, job, name)))
    record = _read_record(folder, team, name)
    entries = [] if record is None else [e for e in record.results.values() if e.job == job]
    for entry in entries:
        found = dataclasses.replace(
            found,
            runs=found.runs + entry.attempts,
            is_done=entry.state == "done",
            triggered_by=entry.triggered_by,
            started_at=entry.started_at,
            finished_at=entry.finished_at,
        )
    return found


def find_artifacts(folder: str, team: str, job: str, name: str) -> list[str]:
    """Return the paths of the artifacts that a job has written for a file, in any version."""
    from segue.model.artifact import quote_name
    from segue.model.media_file import split_uri

    top = os.path.join(folder, ".segue", team, "artifacts", job)
    file_name = quote_name(split_uri(_find_uri(folder, name))[1])
    fingerprints = os.listdir(top) if os.path.isdir(top) else []
    places = [os.path.join(top, fingerprint, file_name) for fingerprint in fingerprints]
    return [os.path.join(p, each) for p in places if os.path.isdir(p) for each in os.listdir(p)]


def find_faults(found: Sequence[JobEvidence], expected: Collection[str]) -> list[str]:
    """Return how what ran differs from one run of each job of some teams, and of no other."""
    faults = []
    for one in found:
        runs = 1 if one.team in expected else 0
        if one.runs != runs or one.artifacts != runs or one.is_done != bool(runs):
            faults.append(
                f"{one.team}/{one.job} should have {runs} of each, runs and artifacts, and has "
                f"{one.runs} and {one.artifacts}"
            )
    parent = next(one for one in found if one.team == "platform")
    for one in found:
        if one is parent or one.started_at is None:
            continue
        if parent.finished_at is None or parent.finished_at > one.started_at:
            faults.append(f"platform/{parent.job} ran after {one.team}/{one.job} had started")
    return faults


def _read_record(folder: str, team: str, name: str) -> Record | None:
    from segue.adapters.connect import open_ledger_to_read

    url = f"sqlite:///{os.path.join(folder, '.segue', team, 'ledger.db')}"
    ledger = open_ledger_to_read(url, team)
    try:
        return ledger.read([_find_uri(folder, name)])[0].record
    finally:
        ledger.close()


def _find_uri(folder: str, name: str) -> str:
    from segue.model.media_file import list_file_uris

    return list_file_uris(os.path.join(folder, name), None)[0]


def _describe_runs(found: Sequence[JobEvidence]) -> str:
    """Return sentences on which jobs ran, in which order and how often, and which did not."""
    started = [(one.started_at, one.job, one.runs) for one in found if one.started_at is not None]
    ran = [f"{job} {_count_times(runs)}" for _, job, runs in sorted(started)]
    idle = [one.job for one in found if one.started_at is None]
    parts = [f"Ran, in this order: {', '.join(ran)}."] if ran else []
    parts += [f"Did not run: {', '.join(idle)}."] if idle else []
    return " ".join(parts)


def _count_times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
