"""checkov finds nothing in infra/ but what is excepted beside the resource, with a reason."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from harness.terraform import INFRA, build_environ

pytestmark = pytest.mark.xdist_group("policy")

EXCEPTION = re.compile(r"#\s*checkov:skip=(CKV\w+):\s*(.*)")
FILES = {"terraform": "*.tf", "dockerfile": "Dockerfile"}


@pytest.fixture(scope="module")
def reports(policy_tool) -> dict[str, dict]:
    """The report of checkov on each kind of files."""
    result = subprocess.run(
        [
            *(policy_tool, "--directory", str(INFRA), "--framework", *FILES),
            *("--output", "json", "--compact", "--skip-download", "--skip-path", "/tests/"),
        ],
        env=build_environ(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode in {0, 1}, result.stderr
    return {report["check_type"]: report for report in json.loads(result.stdout)}


@pytest.mark.parametrize("kind", FILES)
def test_nothing_is_found_and_all_files_could_be_read(reports, kind):
    results = reports[kind]["results"]
    found = [
        f"{check['check_id']} {check['file_path']} {check['resource']}: {check['check_name']}"
        for check in results["failed_checks"]
    ]
    assert found == []
    assert results["parsing_errors"] == []
    assert reports[kind]["summary"]["passed"] > 0


@pytest.mark.parametrize("kind", FILES)
def test_every_exception_has_a_reason_and_is_needed(reports, kind):
    exceptions = {
        (f"/{path.relative_to(INFRA)}", check): reason
        for path in INFRA.rglob(FILES[kind])
        for check, reason in EXCEPTION.findall(path.read_text())
    }
    skipped = reports[kind]["results"]["skipped_checks"]
    assert {(c["file_path"], c["check_id"]) for c in skipped} == set(exceptions)
    for place, reason in exceptions.items():
        assert len(reason.split()) >= 4, f"{place} is excepted without a reason"
