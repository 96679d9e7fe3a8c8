"""Waveforms are computed in a real worker, once for each version of a file, and kept."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from segue.adapters.connect import connect_store
from segue.errors import Unavailable
from segue.model.media_file import MediaFile
from segue.testing.sound import tone, write
from segue_console import waveforms
from segue_console.waveforms import PeaksAnswer, Waveforms
from segue_support.processes import list_descendants
from segue_support.trial import Trial

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0


@pytest.fixture
def trial(tmp_path) -> Trial:
    return Trial(str(tmp_path))


@pytest.fixture
def others() -> set[int]:
    """The processes that this one has started before."""
    return list_descendants(os.getpid())


@pytest.fixture
def made(tmp_path, others) -> Iterator[Waveforms]:
    found = Waveforms(str(tmp_path / "waveforms"))
    yield found
    found.close()


def record_tone(trial: Trial, name: str, frequency_hz: float = 440.0) -> MediaFile:
    path = os.path.join(trial.artifacts, "recorded.wav")
    os.makedirs(trial.artifacts, exist_ok=True)
    write(tone(frequency_hz, 0.5), path)
    with open(path, "rb") as file:
        return trial.add(name, file.read())


def wait_for(made: Waveforms, media: MediaFile) -> PeaksAnswer:
    until_s = time.monotonic() + PATIENCE_S
    while (answer := made.find(media)).is_pending:
        assert time.monotonic() < until_s
        time.sleep(0.02)
    return answer


def test_a_file_has_its_peaks(made, trial):
    answer = wait_for(made, record_tone(trial, "a.wav"))
    assert answer.error is None
    found = json.loads(answer.data)
    assert found["duration_s"] == 0.5
    assert len(found["maxima"]) == 50
    assert max(found["maxima"]) == -min(found["minima"]) > 0


def test_a_waveform_is_computed_once_for_all_consoles(made, trial, tmp_path):
    media = record_tone(trial, "a.wav")
    first = wait_for(made, media)
    (path,) = (tmp_path / "waveforms").rglob("*.json")
    written = path.stat()
    assert made.find(media) == first
    other = Waveforms(str(tmp_path / "waveforms"))
    assert other.find(media) == first
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    other.close()


def test_a_file_that_has_changed_is_computed_anew(made, trial):
    before = wait_for(made, record_tone(trial, "a.wav", 440.0))
    changed = record_tone(trial, "a.wav", 4000.0)
    assert made.find(changed).is_pending
    after = wait_for(made, changed)
    assert json.loads(after.data) != json.loads(before.data)


def test_what_cannot_be_decoded_says_why_and_others_go_on(made, trial):
    bad = trial.add("bad.wav", b"RIFF\x00\x00\x00\x00WAVEfmt no sound at all")
    answer = wait_for(made, bad)
    assert answer.data is None
    assert answer.error
    assert made.find(bad) == answer
    assert wait_for(made, record_tone(trial, "good.wav")).data is not None


def test_a_file_that_is_gone_says_so(made, trial):
    media = record_tone(trial, "a.wav")
    os.unlink(os.path.join(trial.catalogue, "a.wav"))
    assert "a.wav" in wait_for(made, media).error


def test_a_file_that_is_no_sound_has_no_waveform(made, trial):
    assert wait_for(made, trial.add("page.html", b"<p>")).error


def test_a_failure_is_tried_again_after_a_while(made, trial, monkeypatch):
    bad = trial.add("bad.wav", b"no sound")
    wait_for(made, bad)
    assert not made.find(bad).is_pending
    monkeypatch.setattr(waveforms, "FAILED_S", 0.0)
    assert made.find(bad).is_pending


@pytest.mark.parametrize("which", ["child", "all"])
def test_a_worker_that_was_killed_is_replaced(made, trial, others, which):
    wait_for(made, record_tone(trial, "a.wav"))
    started = sorted(list_descendants(os.getpid()) - others)
    assert len(started) == 2, "a supervisor and its child"
    for process in started if which == "all" else started[1:]:
        os.kill(process, signal.SIGKILL)
    assert wait_for(made, record_tone(trial, "b.wav")).data is not None
    assert list_descendants(os.getpid()) - others - set(started)


def test_a_worker_that_cannot_start_is_told_and_started_for_the_next(made, trial, monkeypatch):
    real = waveforms.Pool

    def refuse(*_arguments, **_options):
        raise Unavailable("there are no processes left")

    monkeypatch.setattr(waveforms, "Pool", refuse)
    answer = wait_for(made, record_tone(trial, "a.wav"))
    assert answer.error == "there are no processes left"
    monkeypatch.setattr(waveforms, "Pool", real)
    assert wait_for(made, record_tone(trial, "b.wav")).data is not None


def test_a_folder_that_cannot_be_written_costs_the_waveform(trial, tmp_path):
    (tmp_path / "file").write_text("")
    made = Waveforms(str(tmp_path / "file" / "waveforms"))
    assert wait_for(made, record_tone(trial, "a.wav")).error
    made.close()


def test_the_end_leaves_no_process(made, trial, others):
    wait_for(made, record_tone(trial, "a.wav"))
    assert list_descendants(os.getpid()) - others
    made.close()
    assert list_descendants(os.getpid()) - others == set()


def test_the_end_waits_for_no_file(made, trial, others, tmp_path):
    """An hour of sound would keep the worker busy for seconds: it is dropped."""
    media = record_tone(trial, "a.wav")
    path = os.path.join(trial.catalogue, "a.wav")
    with open(path, "r+b") as file:  # a sparse file; both sizes of its header are "until the end"
        data = file.read(44)
        assert data[36:40] == b"data"
        file.seek(0)
        file.write(data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4)
        file.truncate(400_000_000)
    long = connect_store(trial.catalogue).identify("a.wav").to_media_file(media.uri)
    assert made.find(long).is_pending
    while len(list_descendants(os.getpid()) - others) < 2:
        time.sleep(0.02)
    made.close()
    assert list_descendants(os.getpid()) - others == set()
    assert list((tmp_path / "waveforms").rglob("*.json")) == []


def test_one_that_computed_nothing_ends_too(made):
    made.close()


class TestPage:
    def test_the_page_gets_what_was_computed(self, console, writer):
        os.makedirs(writer.folder / "music", exist_ok=True)
        write(tone(440.0, 0.5), str(writer.folder / "music" / "a.wav"))
        writer.write("a.wav", version=identify(writer, "a.wav"), beats={})
        found = load(console, writer.uri("a.wav"))
        assert (found.status_code, found.json()["duration_s"]) == (200, 0.5)

    def test_the_page_is_told_why_there_is_none(self, console, writer):
        (writer.folder / "music" / "a.wav").write_bytes(b"no sound")
        writer.write("a.wav", version=identify(writer, "a.wav"), beats={})
        found = load(console, writer.uri("a.wav"))
        assert found.status_code == 422
        assert found.json()["error"]
        assert console.get("/default/file", uri=writer.uri("a.wav")).status_code == 200


def identify(writer, name: str) -> str:
    return connect_store(str(writer.folder / "music")).identify(name).to_media_file("").version


def load(console, uri: str):
    until_s = time.monotonic() + PATIENCE_S
    while (found := console.get("/default/file/waveform", uri=uri)).status_code == 202:
        assert time.monotonic() < until_s
        time.sleep(0.02)
    return found
