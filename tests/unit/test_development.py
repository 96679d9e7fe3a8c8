"""What CONTRIBUTING.md, the hooks and the workflow run exists, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from segue_support.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
PAGES = ("CONTRIBUTING.md", "README.md")
WORKFLOWS = {path.stem: path.read_text() for path in (ROOT / ".github/workflows").iterdir()}
RELEASE = yaml.safe_load(WORKFLOWS["release"])["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_target_that_is_named_exists_and_is_in_the_help():
    named = {
        target
        for page in PAGES
        for block in re.findall(
            r"`([^`\n]+)`|^\$? ?(make .*)$", (ROOT / page).read_text(), re.MULTILINE
        )
        for target in re.findall(r"\bmake ([a-z]+)", " ".join(block))
    }
    assert named
    assert named <= TARGETS
    described = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert described == TARGETS


def test_every_hook_is_a_target_of_the_makefile():
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in configuration["repos"]] == ["local"]
    for hook in configuration["repos"][0]["hooks"]:
        make, target = hook["entry"].split()
        assert make == "make"
        assert target in TARGETS
        assert hook["language"] == "system"


def test_the_workflow_runs_what_anyone_can_run_and_ends():
    [job] = yaml.safe_load(WORKFLOWS["ci"])["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    limit = re.search(r"timeout --kill-after=\d+ (\d+)m", (ROOT / ".ci/run").read_text())
    assert limit is not None
    assert job["timeout-minutes"] > int(limit[1])


def test_a_release_is_published_once_all_tests_and_its_wheel_have_passed():
    assert RELEASE["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert (
        "workflow_call" in yaml.safe_load(WORKFLOWS["ci"])[True]
    )  # the key `on` is a YAML boolean
    assert set(RELEASE["publish"]["needs"]) == {"ci", "try"}
    assert RELEASE["try"]["needs"] == "build"
    [_, published] = RELEASE["publish"]["steps"]
    # By its commit: a tag that is moved would publish something else.
    assert re.fullmatch(r"pypa/gh-action-pypi-publish@[0-9a-f]{40}", published["uses"])
    assert {name for name, job in RELEASE.items() if job.get("needs") == "publish"} == {
        "announce",
        "pages",
    }


def test_a_release_needs_no_secret_and_only_its_own_jobs_may_write():
    assert "secrets." not in WORKFLOWS["release"]
    assert yaml.safe_load(WORKFLOWS["release"])["permissions"] == {"contents": "read"}
    allowed = {
        name: set(job["permissions"]) for name, job in RELEASE.items() if "permissions" in job
    }
    assert allowed == {
        "publish": {"id-token"},
        "announce": {"contents"},
        "pages": {"pages", "id-token"},
    }


def test_a_wheel_is_tried_by_its_name_on_all_pythons_that_it_names():
    script = (ROOT / ".ci/try-wheel").read_text()
    assert f'"{PROJECT["name"]}[all]"' in script
    least, beyond = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    pythons = [f"3.{minor}" for minor in range(int(least), int(beyond))]
    assert RELEASE["try"]["strategy"]["matrix"]["python"] == pythons
    assert RELEASE["try"]["steps"][-1]["run"] == ".ci/try-wheel python"


def test_a_release_hands_on_what_it_has_built():
    steps = RELEASE["build"]["steps"]
    made = {
        step["with"]["name"]: step["with"]["path"]
        for step in steps
        if "name" in step.get("with", {})
    }
    assert made == {"dist": "dist", "sbom": "build/sbom"}
    got = {
        step["with"]["name"]
        for job in RELEASE.values()
        for step in job.get("steps", ())
        if step.get("uses", "").startswith("actions/download-artifact@")
    }
    assert got == set(made)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_makes_what_there_is_and_names_versions_of_actions(name):
    assert set(re.findall(r"run: make ([a-z]+)", WORKFLOWS[name])) <= TARGETS
    used = re.findall(r"uses: ([a-z][\w/-]+)(@\S*)?", WORKFLOWS[name])
    assert used
    assert [
        action
        for action, version in used
        if not re.fullmatch(r"@v\d+(\.\d+)*|@[0-9a-f]{40}", version)
    ] == []
    everywhere = re.findall(r"uses: ([a-z][\w/-]+)(@\S*)", "".join(WORKFLOWS.values()))
    versions = dict(everywhere)
    assert [action for action, version in everywhere if versions[action] != version] == []


def test_contributing_says_what_pypi_has_to_trust():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"`{PROJECT['name']}`" in page
    assert "`release.yml`" in page
    assert f"`{RELEASE['publish']['environment']}`" in page
