"""The systems of several graphs share one process: none stops another, and all start or none."""

from __future__ import annotations

import json
import shlex
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.errors import ConfigurationError
from segue.log import LOGGER, Action, add_common_fields, log_event
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.record import Entry, State, evolve
from segue.model.settings import Settings
from segue.model.transitions import arrive
from segue_cli.local import system as system_module
from segue_cli.local.lock import lock_ledger
from segue_cli.local.system_group import SystemGroup

PATIENCE_S = 20.0
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GRAPH = """
namespace: NAME
artifacts: NAME/artifacts
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def lines():
    return []


@pytest.fixture
def build(tmp_path, monkeypatch, lines):
    """Return a function that builds a group of some graphs."""
    monkeypatch.chdir(tmp_path)
    for name in ("handlers", "propagate"):
        monkeypatch.setattr(LOGGER, name, getattr(LOGGER, name))
    level = LOGGER.level
    (tmp_path / "music").mkdir()

    def build(*names: str, catch_up: bool = True, **graphs: str) -> SystemGroup:
        for name in (*names, *graphs):
            text = graphs.get(name, GRAPH.replace("NAME", name))
            Path(f"{name}.yaml").write_text(text)
        settings = [
            Settings.load(graph=f"{name}.yaml", catalogue="music") for name in (*names, *graphs)
        ]
        return SystemGroup(settings, processes=None, on_line=lines.append, catch_up=catch_up)

    yield build
    LOGGER.setLevel(level)


@pytest.fixture
def system(build):
    """The only system of a group, open, with nothing running."""
    group = build("default")
    group._call(system_module.System.open)
    yield group.systems[0]
    group.close()


def test_a_function_that_waits_for_the_ledger_does_not_stop_the_page(system):
    services = system._services
    reading = threading.Thread(target=system.read_status, daemon=True)
    with services.ledger._session(), services.queue.own._session():
        reading.start()
        reading.join(PATIENCE_S)
        assert not reading.is_alive()


def record(system, *names: str, state: State | None) -> None:
    """Record files, with a result of their job in a state."""
    [fingerprint] = system.graph.fingerprints.values()
    for name in names:
        media = MediaFile(uri=f"file://{system.folder}/{name}", version="1", stat="0:0:0:0:0")

        def transition(known, media=media):
            found, _ = arrive(known, media, NOW)
            entry = Entry(job="fine", state=state or State.DONE, order=found.order, attempts=1)
            return evolve(found, results={fingerprint: entry} if state else {}), None

        system._services.ledger.change([Change(uri=media.uri, transition=transition)])


def test_results_that_nobody_has_requested_are_said_at_the_start(system, caplog):
    record(system, "a.wav", "b.wav", "c.wav", state=None)
    record(system, "d.wav", state=State.QUEUED)
    record(system, "e.wav", state=State.DONE)
    system._report_gaps()
    [line] = [r.segue for r in caplog.records if r.segue["action"] == Action.MISSING]
    assert "by job: fine 2;" in line["reason"]  # one of three may be below what is queued
    assert "they are requested now" in line["reason"]


def test_without_catching_up_the_command_that_computes_them_is_said(build, caplog):
    group = build("default", catch_up=False)
    group._call(system_module.System.open)
    [system] = group.systems
    LOGGER.propagate = True
    record(system, "a.wav", state=None)
    system._report_gaps()
    group.close()
    [line] = [r.segue for r in caplog.records if r.segue["action"] == Action.MISSING]
    assert line["severity"] == "WARNING"
    command = f"segue backfill --graph default.yaml --prefix {system.folder} --all"
    assert line["reason"].endswith(command)


def test_the_command_that_computes_what_is_missing_has_the_settings_that_it_needs(build):
    [system] = build("default").systems
    plain = system._format_backfill()
    system.settings = replace(
        system.settings, ledger="sqlite:///other/ledger.db", artifacts="made here"
    )
    words = shlex.split(system._format_backfill())
    assert "--ledger sqlite:///other/ledger.db --artifacts 'made here' --prefix" in shlex.join(
        words
    )
    assert [w for w in words if w in shlex.split(plain)] == shlex.split(plain)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.NOT_APPLICABLE, State.QUEUED])
def test_nothing_is_said_of_results_that_are_there_or_requested(system, caplog, state):
    record(system, "a.wav", "b.wav", state=state)
    system._report_gaps()
    assert not [r for r in caplog.records if r.segue["action"] == Action.MISSING]


def test_the_programs_get_the_settings_and_this_process_keeps_its_own(build):
    group = build("a", "b")
    for system in group.systems:
        name = system.graph.namespace
        for supervisor in system._supervisors:
            assert supervisor._environ["SEGUE_GRAPH"] == str(Path(f"{name}.yaml").absolute())
            assert supervisor._environ["SEGUE_LEDGER"] == f"sqlite:///.segue/{name}/ledger.db"


def test_a_ledger_that_was_deleted_ends_the_sweeps_and_is_the_system_s_failure(system, monkeypatch):
    monkeypatch.setattr(system_module, "SWEEP_S", 0.01)
    for name in Path(".segue").glob("ledger.db*"):
        if name.suffix != ".up":
            name.unlink()
    system._sweeper.start()
    system._sweeper.join(PATIENCE_S)
    assert not system._sweeper.is_alive()
    assert "was deleted, moved or replaced" in str(system.failure)


def test_what_a_function_logs_is_of_the_namespace_whose_thread_it_is(build, lines):
    group = build("a", "b")
    LOGGER.handlers = [group._handler]
    LOGGER.setLevel("INFO")
    with add_common_fields(namespace="b"):
        log_event(Action.ARRIVED, file="file:///music/1.wav")
    log_event(Action.UNAVAILABLE, reason="nobody's")
    assert [(one.get("namespace"), one["process"]) for one in lines] == [
        ("b", "functions"),
        (None, "functions"),
    ]
    assert [system.count_actions() for system in group.systems] == [{}, {"arrived": 1}]


def test_what_is_wrong_with_each_graph_is_reported_at_once(build):
    with pytest.raises(ConfigurationError) as error:
        build("a", b="jobs: {x: {run: 1}}", c="namespace: c\njobs: 3\n")
    assert [
        line.partition(" has ")[0] for line in str(error.value).splitlines() if "fault" in line
    ] == [
        "b.yaml",
        "c.yaml",
    ]


def test_code_that_does_not_fit_is_reported_for_each_graph_and_nothing_is_opened(build):
    texts = {n: GRAPH.replace("NAME", n).replace("jobs:fine", f"jobs:no_{n}") for n in ("b", "c")}
    group = build("a", **texts)
    with pytest.raises(ConfigurationError) as error:
        group.start()
    assert "no_b" in str(error.value)
    assert "no_c" in str(error.value)
    assert not Path(".segue").exists()


def test_two_graphs_of_one_namespace_are_refused_by_name(build):
    with pytest.raises(ConfigurationError, match=r"a\.yaml and b\.yaml have the namespace 'a'"):
        build("a", b=GRAPH.replace("NAME", "a"))


def test_two_graphs_with_the_same_artifacts_are_refused(build):
    text = GRAPH.replace("NAME/artifacts", "a/artifacts").replace("NAME", "b")
    with pytest.raises(
        ConfigurationError, match=r"a\.yaml and b\.yaml have their artifacts in file:"
    ):
        build("a", b=text)


def test_if_one_cannot_be_opened_all_are_closed_again(build):
    group = build("a", "b")
    with lock_ledger("sqlite:///.segue/b/ledger.db"):
        with pytest.raises(ConfigurationError, match=r"^b\.yaml: another 'segue up'"):
            group.start()
        with lock_ledger("sqlite:///.segue/a/ledger.db"):
            pass
    assert all(not thread.is_alive() for s in group.systems for thread in (*s.threads, *s.programs))


def test_all_are_open_before_any_file_is_announced(build, monkeypatch):
    steps = []
    for step in ("check", "open", "start_events", "start_programs"):

        def note(system, step=step):
            steps.append((step, system.graph.namespace))

        monkeypatch.setattr(system_module.System, step, note)
    build("a", "b").start()
    assert [step for step, _ in steps[2:]] == ["open"] * 2 + ["start_events"] * 2 + [
        "start_programs"
    ] * 2


def test_a_graph_that_is_locked_to_another_place_is_refused_with_the_remedy(build, tmp_path):
    manifest = {
        "namespace": "a",
        "ledger": "sqlite:////elsewhere/ledger.db",
        "queue": f"sqlite:///{tmp_path}/.segue/a/queue.db",
        "artifacts": "file:///elsewhere",
        "jobs": {
            "fine": {"fingerprint": "0" * 12, "writes": "application/json", "pipeline": "fine"}
        },
    }
    lock = Path("segue.lock")
    lock.write_text(json.dumps({"format": 1, "namespaces": {"a": manifest}}))
    child = GRAPH.replace("NAME", "b").replace("media: source", "value: a/fine")
    with pytest.raises(ConfigurationError, match=r"run .segue publish --graph a\.yaml. in this"):
        build("a", b=child)
    lock.write_text(
        lock.read_text().replace("/elsewhere/ledger.db", f"{tmp_path}/.segue/a/ledger.db")
    )
    build("a", b=child)
