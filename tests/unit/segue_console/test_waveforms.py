"""Waveforms are computed in a worker, kept, and given up when the console stops."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.adapters.folder import FolderStore
from segue.model.media_file import MediaFile
from segue.testing.sound import tone, write
from segue_console import waveforms
from segue_console.waveforms import PeaksAnswer, Waveforms


@pytest.fixture
def found(tmp_path) -> Iterator[Waveforms]:
    made = Waveforms(str(tmp_path / "waveforms"))
    yield made
    made.close()


def record(path: Path) -> MediaFile:
    seen = FolderStore("/").identify(str(path).lstrip("/"))
    return MediaFile(
        uri=f"file://{path}",
        version=seen.digest,
        order=1,
        stat=seen.stat,
        size_bytes=seen.size_bytes,
    )


def save_tone(path: Path, duration_s: float = 1.0) -> MediaFile:
    write(tone(440.0, duration_s), str(path))
    return record(path)


def wait_for(made: Waveforms, media: MediaFile) -> PeaksAnswer:
    while (answer := made.find(media)).is_pending:
        time.sleep(0.02)
    return answer


def test_a_waveform_is_computed_once(found, tmp_path):
    media = save_tone(tmp_path / "a.wav")
    assert found.find(media).is_pending
    answer = wait_for(found, media)
    assert json.loads(answer.data)["duration_s"] == pytest.approx(1.0)
    assert Waveforms(str(tmp_path / "waveforms")).find(media) == answer


def test_many_files_are_all_answered(found, tmp_path):
    media = [save_tone(tmp_path / f"{n}.wav") for n in range(5)]
    for one in media:
        found.find(one)
    assert all(wait_for(found, one).data is not None for one in media)


def test_a_failure_is_told_and_tried_again_later(found, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(b"<script>")
    media = record(path)
    answer = wait_for(found, media)
    assert answer.data is None
    assert answer.error
    assert found.find(media) == answer
    monkeypatch.setattr(waveforms, "KEPT_S", 0.0)
    assert found.find(media).is_pending


def test_a_folder_that_cannot_be_written_costs_the_waveform(tmp_path):
    (tmp_path / "file").write_text("")
    made = Waveforms(str(tmp_path / "file" / "waveforms"))
    answer = wait_for(made, save_tone(tmp_path / "a.wav"))
    made.close()
    assert answer.error


def test_what_is_being_computed_is_given_up_at_the_end(tmp_path):
    media = save_tone(tmp_path / "a.wav", 60.0)
    made = Waveforms(str(tmp_path / "waveforms"))
    assert made.find(media).is_pending
    made.close()
    after = Waveforms(str(tmp_path / "waveforms"))
    assert after.find(media).is_pending
    after.close()
