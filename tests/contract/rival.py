"""A separate process that claims one job of some files, for the ledgers' contract tests.

It reads the files, prints ``ready``, and waits for a line, so that rivals start together; then it
claims, and prints the URIs that it won as JSON. With ``hold`` it waits to be killed.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_ledger
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.planner import plan
from segue.model.transitions import claim

if TYPE_CHECKING:
    from segue.model.record import Record

GRAPH = parse_graph(
    """
    jobs:
      beats: {run: "features:beats", needs: {media: source}, writes: application/json}
    """
)


def main(url: str, owner: str, mode: str, *uris: str) -> None:
    ledger = connect_ledger(url)
    snapshots = ledger.read(uris)  # stale as soon as another rival is faster
    print("ready", flush=True)
    sys.stdin.readline()
    now = datetime.now(UTC)

    def transition(record: Record | None) -> tuple[Record | None, bool]:
        if not plan(GRAPH, record, {}, ["beats"], now).run:
            return None, False
        return claim(record, GRAPH, ["beats"], owner=owner, now=now, lease_s=3600), True

    changes = [
        Change(uri=u, transition=transition, known=s) for u, s in zip(uris, snapshots, strict=True)
    ]
    won = [u for u, c in zip(uris, ledger.change(changes), strict=True) if c.answer]
    print(json.dumps(won), flush=True)
    if mode == "hold":
        sys.stdin.read()
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
