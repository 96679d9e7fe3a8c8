"""A Whisper that is small enough to be made for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue_support.tiny_whisper import write_tiny_whisper


@pytest.fixture(scope="session")
def whisper_files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whisper")
    write_tiny_whisper(folder)
    return {
        "model": folder / "model.bin",
        "config": folder / "config.json",
        "vocabulary": folder / "vocabulary.json",
    }
