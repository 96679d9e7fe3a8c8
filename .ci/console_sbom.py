"""Writes what the console's pages hold of others, by ``vendor.json``, as CycloneDX.

Usage: ``python .ci/console_sbom.py OUTPUT``, in the environment of ``make sbom``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

MANIFEST = Path(__file__).parents[1] / "console/segue_console/static/vendor/vendor.json"


def describe_package(package: dict[str, Any]) -> dict[str, Any]:
    """Return a package as a component, with its files and what it bundles below it."""
    files = [
        {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": file["sha256"]}]}
        for name, file in package["files"].items()
    ]
    bundled = [describe_component(*one) for one in package.get("bundles", {}).items()]
    return {
        **describe_component(package["name"], package["version"], below=[*files, *bundled]),
        "licenses": [{"license": {"id": package["licence"]}}],
    }


def describe_component(name: str, version: str, below: Sequence[Any] = ()) -> dict[str, Any]:
    """Return a component of npm's."""
    purl = f"pkg:npm/{quote(name)}@{version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**found, "components": list(below)} if below else found


def main() -> None:
    """Write the list, once it is known to be valid."""
    packages = json.loads(MANIFEST.read_text())["packages"]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "segue-features"}},
        "components": [describe_package(package) for package in packages],
    }
    text = json.dumps(document, indent=2, sort_keys=True)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise SystemExit(f"the list is not valid: {fault}")
    Path(sys.argv[1]).write_text(f"{text}\n")


if __name__ == "__main__":
    main()
