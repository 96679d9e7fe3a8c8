"""Writes ``fingerprints.json``: what each job of ``fingerprints.yaml`` hashes to.

Run it only to add a job. A value that changes makes every artifact in every bucket stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from segue.model.graph import read_graph

HERE = Path(__file__).parent


def fingerprints() -> dict[str, str]:
    """Return the fingerprint of each job of the golden graph."""
    return dict(read_graph(str(HERE / "fingerprints.yaml"), {}).fingerprints)


def main() -> None:
    text = json.dumps(fingerprints(), indent=2) + "\n"
    sys.stdout.write(text)
    (HERE / "fingerprints.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
