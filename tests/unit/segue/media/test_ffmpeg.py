"""Which ffmpeg runs, and what its ways of failing mean."""

from __future__ import annotations

import os
import stat
import sys
import types

import ffmpeg
import pytest

from segue.errors import ConfigurationError, DiskFull, JobCrashed, JobKilled, OutOfMemory
from segue.media.ffmpeg import LOG_HEAD_BYTES, LOG_TAIL_BYTES, FfmpegResult, find_ffmpeg, run_ffmpeg
from segue.testing import sound


def program(folder: object, text: str, name: str = "ffmpeg") -> str:
    path = f"{folder}/{name}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, stat.S_IRWXU)
    return path


@pytest.fixture
def stream(tmp_path):
    path = sound.write(sound.tone(), str(tmp_path / "tone.wav"))
    return ffmpeg.input(path).output(str(tmp_path / "out.wav"))


def test_the_setting_comes_first_then_the_path_then_imageio(tmp_path, monkeypatch):
    chosen = program(tmp_path, "exit 0", "my-ffmpeg")
    os.mkdir(tmp_path / "bin")
    on_path = program(tmp_path / "bin", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("SEGUE_FFMPEG", chosen)
    assert find_ffmpeg() == chosen
    monkeypatch.delenv("SEGUE_FFMPEG")
    assert find_ffmpeg() == on_path
    monkeypatch.setenv("PATH", str(tmp_path))
    bundled = types.SimpleNamespace(get_ffmpeg_exe=lambda: "/bundled/ffmpeg")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", bundled)
    assert find_ffmpeg() == "/bundled/ffmpeg"


def test_without_ffmpeg_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGUE_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigurationError, match=r"apt-get install ffmpeg.*SEGUE_FFMPEG"):
        find_ffmpeg()


def test_a_setting_that_cannot_be_run_is_a_mistake(monkeypatch):
    monkeypatch.setenv("SEGUE_FFMPEG", "/no/such/ffmpeg")
    with pytest.raises(ConfigurationError, match=r"SEGUE_FFMPEG is '/no/such/ffmpeg'"):
        find_ffmpeg()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is missing: not Linux")
def test_a_full_disk_is_transient(stream):
    full = ffmpeg.output(stream.node.incoming_edges[0].upstream_node.stream(), "/dev/full", f="wav")
    with pytest.raises(DiskFull, match="No space left on device"):
        run_ffmpeg(full)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("kill -9 $$", JobKilled, "signal 9"),
        ("kill -11 $$", JobCrashed, "signal 11"),
        ("echo 'x: Cannot allocate memory' >&2; exit 1", OutOfMemory, "memory_gib"),
        ("echo 'Disk quota exceeded' >&2; exit 0", DiskFull, "free space"),
        (
            "echo 'Unrecognized option '\"'rf64'\"'.' >&2; exit 1",
            ConfigurationError,
            r"cannot do what Segue needs \(Unrecognized option 'rf64'\.\)",
        ),
    ],
)
def test_a_failure_that_is_not_the_files_is_told_apart(
    tmp_path, monkeypatch, stream, text, error, message
):
    monkeypatch.setenv("SEGUE_FFMPEG", program(tmp_path, text))
    with pytest.raises(error, match=message):
        run_ffmpeg(stream)


def test_an_endless_log_is_kept_at_both_ends(tmp_path, monkeypatch, stream):
    text = "echo first >&2; yes complaint | head -c 3000000 >&2; echo last >&2"
    monkeypatch.setenv("SEGUE_FFMPEG", program(tmp_path, text))
    log = run_ffmpeg(stream).log
    assert log.startswith("first\n")
    assert log.endswith("last\n")
    # A read may pass the limit once by as much as a pipe holds.
    assert len(log) < LOG_HEAD_BYTES + LOG_TAIL_BYTES + 2 * 65536


def test_ffmpeg_stays_in_the_callers_process_group(tmp_path, monkeypatch, stream):
    text = f"{sys.executable} -c 'import os; print(os.getpgrp())' > {tmp_path}/group"
    monkeypatch.setenv("SEGUE_FFMPEG", program(tmp_path, text))
    run_ffmpeg(stream)
    with open(tmp_path / "group", encoding="ascii") as file:
        assert int(file.read()) == os.getpgrp()


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "[mp3 @ 0x55d] Failed to read frame size.\nfile:/x.mp3: Invalid argument",
            "Failed to read frame size",
        ),
        (
            "[in#0 @ 0x5] no\n[in#0 @ 0x5] bad header\nError opening input file file:/x.",
            "bad header",
        ),
        ("", "ffmpeg recognises nothing in it"),
    ],
)
def test_the_reason_is_the_line_that_tells_the_cause(log, reason):
    assert FfmpegResult(1, log).reason == reason
