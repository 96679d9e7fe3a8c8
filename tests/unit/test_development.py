"""What CONTRIBUTING.md, the hooks and the workflow run exists, and needs nothing from elsewhere."""

from __future__ import annotations

import re

import yaml

from segue_support.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
PAGES = ("CONTRIBUTING.md", "README.md")


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
    [job] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    limit = re.search(r"timeout --kill-after=\d+ (\d+)m", (ROOT / ".ci/run").read_text())
    assert limit is not None
    assert job["timeout-minutes"] > int(limit[1])
