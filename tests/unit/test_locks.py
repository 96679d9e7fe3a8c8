"""The locks name exact versions with their hashes, and everything is installed by them."""

from __future__ import annotations

import re
import tomllib

import pytest

from segue_support.paths import ROOT

LOCKS = sorted((ROOT / "locks").glob("*.txt"))
ENTRY = re.compile(
    r"[a-z0-9-]+(\[[a-z,-]+\])?==[^ ]+( ; [^\\]+)?(( \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)
INSTALL = re.compile(r"^[^#\n]*\bpip install\b[^\n]*", re.MULTILINE)


def test_there_is_a_lock_of_each_part():
    assert {lock.stem for lock in LOCKS} == {
        *("build", "dev", "docs", "frames", "functions", "infra"),
        *("pipelines", "pipelines-gpu", "sbom", "truth"),
    }


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_nothing_but_exact_versions_with_hashes(lock):
    text = lock.read_text()
    entries = list(ENTRY.finditer(text))
    assert entries
    assert "".join(entry[0] for entry in entries) == text


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_registry(lock):
    assert "://" not in lock.read_text()


def test_the_image_has_the_versions_that_are_tested():
    versions = {
        lock.stem: dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))
        for lock in LOCKS
    }
    for part in ("pipelines", "pipelines-gpu", "build"):
        for name, version in versions[part].items():
            assert versions["dev"].get(name, version) == version, name


@pytest.mark.parametrize(
    ("part", "extras"),
    [
        ("functions", ["functions"]),
        ("pipelines", ["pipelines"]),
        ("pipelines-gpu", ["pipelines", "models-gpu"]),
        ("dev", ["dev"]),
    ],
)
def test_a_lock_has_each_package_that_its_extras_ask_for(part, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = project["name"]
    asked, left = set(), [*project["dependencies"], *(f"{own}[{extra}]" for extra in extras)]
    while left:
        name, more = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", left.pop()).groups()
        if name == own:
            left += [one for x in more.split(",") for one in project["optional-dependencies"][x]]
        else:
            asked.add(name.lower().replace("_", "-"))
    locked = re.findall(r"^([a-z0-9-]+)", (ROOT / f"locks/{part}.txt").read_text(), re.MULTILINE)
    assert sorted(asked - {*locked}) == []


@pytest.mark.parametrize("name", ["Makefile", "infra/container/Dockerfile"])
def test_nothing_is_installed_without_its_hash(name):
    text = (ROOT / name).read_text().replace("\\\n", "")
    installs = [part for line in INSTALL.findall(text) for part in line.split("&&")]
    installs = [part for part in installs if "pip install" in part]
    assert len(installs) >= 3
    for install in installs:
        # What has no dependencies to install is this source tree, or a wheel that was built of it.
        assert "--require-hashes" in install or "--no-deps" in install, install
