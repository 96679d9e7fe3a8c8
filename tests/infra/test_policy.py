"""checkov finds nothing in infra/ but what is excepted beside the resource, with a reason."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from rig import tools

pytestmark = pytest.mark.xdist_group("policy")

EXCEPTED = re.compile(r"#\s*checkov:skip=(CKV\w+):\s*(.*)")
FILES = {"terraform": "*.tf", "dockerfile": "Dockerfile"}


@pytest.fixture(scope="module", params=FILES)
def report(request, policy_tool) -> dict:
    """What checkov says of one kind of files, and what is excepted in them."""
    said = subprocess.run(
        [
            *(policy_tool, "--directory", str(tools.INFRA), "--framework", request.param),
            *("--output", "json", "--compact", "--skip-download", "--skip-path", "/tests/"),
        ],
        env=tools.clean_environ(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert said.returncode in {0, 1}, said.stderr
    excepted = {
        (f"/{path.relative_to(tools.INFRA)}", check): reason
        for path in tools.INFRA.rglob(FILES[request.param])
        for check, reason in EXCEPTED.findall(path.read_text())
    }
    return {**json.loads(said.stdout), "excepted": excepted}


def test_nothing_is_found_and_all_that_can_be_was_read(report):
    found = [
        f"{check['check_id']} {check['file_path']} {check['resource']}: {check['check_name']}"
        for check in report["results"]["failed_checks"]
    ]
    assert found == []
    assert report["results"]["parsing_errors"] == []
    assert report["summary"]["passed"] > 0


def test_every_exception_has_a_reason_and_is_needed(report):
    met = {(c["file_path"], c["check_id"]) for c in report["results"]["skipped_checks"]}
    assert met == set(report["excepted"])
    for place, reason in report["excepted"].items():
        assert len(reason.split()) >= 4, f"{place} is excepted without a reason"
