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
    _check_console()


def _check_console() -> None:
    """The console's scripts come from npm, so no lock has them."""
    bom = json.loads((ROOT / "build" / "sbom" / "console.cdx.json").read_text())
    assert {one["purl"]: one["licenses"][0]["license"]["id"] for one in bom["components"]} == {
        "pkg:npm/%40dagrejs/dagre@3.1.3": "MIT",
        "pkg:npm/htmx.org@4.0.1": "0BSD",
        "pkg:npm/uplot@1.6.32": "MIT",
        "pkg:npm/wavesurfer.js@8.0.1": "BSD-3-Clause",
    }
    dagre, *_ = bom["components"]
    assert "pkg:npm/%40dagrejs/graphlib@4.0.6" in {one.get("purl") for one in dagre["components"]}


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
