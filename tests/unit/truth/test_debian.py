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


def test_a_program_comes_with_what_this_system_lacks_for_it(tmp_path, monkeypatch):
    programs = {
        "apt-get": """
if [ $1 = install ]; then
    echo "Reading package lists..."
    echo "'http://debian/liba_1%2b1_amd64.deb' liba_1+1_amd64.deb 10 SHA256:0"
    echo "'http://debian/libchromaprint-tools_1_amd64.deb' libchromaprint-tools_1_amd64.deb 10 x"
else
    shift 2
    for package in "$@"; do : > "$package.deb"; done
fi""",
        "dpkg-deb": 'mkdir -p "$3"; : > "$3/${2##*/}"',
    }
    for tool, code in programs.items():
        program = tmp_path / tool
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    folder = unpack_package("libchromaprint-tools", tmp_path / "cache", runs=True)
    version = VERSIONS["libchromaprint-tools"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "liba.deb",
        f"libchromaprint-tools={version}.deb",
    ]
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_a_version_that_is_gone_is_named(tmp_path, monkeypatch):
    for tool, code in (("apt-get", "echo E: not found >&2; exit 100"), ("dpkg-deb", "exit 1")):
        program = tmp_path / tool
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MaterialMissing, match=r"no version 21.09-1: E: not found; run"):
        unpack_package("mma", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
