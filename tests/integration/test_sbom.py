"""``make sbom`` lists what is deployed; the tool itself validates what it writes."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from segue_support.paths import ROOT

TOOL = ROOT / ".venv-sbom" / ".ready"


def test_each_locked_package_is_listed_with_its_version_and_hashes():
    if not TOOL.exists():
        pytest.skip("the SBOM's tool is not installed: run 'make sbom'")
    subprocess.run(["make", "--silent", "sbom"], cwd=ROOT, check=True, capture_output=True)
    for part in ("functions", "pipelines", "pipelines-gpu"):
        _check(part)


def _check(part: str) -> None:
    bom = json.loads((ROOT / "build" / "sbom" / f"{part}.cdx.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["name"] == "segue-features"
    lock = (ROOT / "locks" / f"{part}.txt").read_text()
    locked = {
        f"{name}@{version}": set(re.findall(r"sha256:(\w+)", hashes))
        for name, version, hashes in re.findall(
            r"^([a-z0-9-]+)\S*==(\S+)((?:.*\n    --hash.*)+)", lock, re.MULTILINE
        )
    }
    listed = {
        f"{one['name']}@{one['version']}": {
            hash_["content"]
            for reference in one["externalReferences"]
            for hash_ in reference["hashes"]
        }
        for one in bom["components"]
    }
    assert listed == locked
