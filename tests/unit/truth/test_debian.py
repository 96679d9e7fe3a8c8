"""Packages of Debian: unpacked once, and what to do where there is no apt."""

from __future__ import annotations

import pytest
from truth.debian import VERSIONS, MaterialMissing, unpack_package


def test_a_package_that_is_there_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / f"mma_{VERSIONS['mma']}"
    folder.mkdir()
    assert unpack_package("mma", tmp_path) == folder


def test_without_apt_the_message_says_what_to_unpack_where(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        MaterialMissing, match=r"no apt-get; run on Debian .* version 21.09-1 .*mma_"
    ):
        unpack_package("mma", tmp_path)


def test_a_version_that_is_gone_is_named(tmp_path, monkeypatch):
    for tool, code in (("apt-get", "echo E: not found >&2; exit 100"), ("dpkg-deb", "exit 1")):
        program = tmp_path / tool
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MaterialMissing, match=r"no version 21.09-1: E: not found; run"):
        unpack_package("mma", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
