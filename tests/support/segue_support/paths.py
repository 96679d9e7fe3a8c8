"""The paths of the source tree."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
GRAPH = ROOT / "shared" / "segue" / "features" / "jobs.yaml"
