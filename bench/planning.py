"""Planning and skipping: a backfill over 200,000 files whose results are all there.

It lists the catalogue, reads the ledger in batches, and finds nothing to do. The rate is compared
with listing alone.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

from bench.catalogue import empty_files, memory_folder, noop_graph
from bench.measure import report, usage_of

FILES = 200_000


def finish(graph_path: str, catalogue: str, work: str) -> None:
    """Record every file as done, as a backfill would have."""
    from segue.adapters.connect import connect_ledger
    from segue.model.graph import load
    from segue.model.ledger import Change, Result, arrive, claim, settle
    from segue.model.location import prefix_uri
    from segue.model.record import State
    from segue_pipelines.sources import Selection, chunks, list_files

    graph, now = load(graph_path), datetime.now(UTC)
    ledger = connect_ledger(f"sqlite:///{work}/ledger.db")

    def done(media):
        result = Result(
            job="j1",
            state=State.DONE,
            artifact=f"file://{work}/artifacts/j1/{graph.fingerprints['j1']}/{media.name}/1.json",
            checksum="sha256:" + "0" * 64,
            seconds=0.1,
            cpu_seconds=0.1,
        )

        def transition(_found):
            record, _ = arrive(None, media, now)
            record = claim(record, graph, ("j1",), owner="bench", now=now, lease_s=60)
            return settle(record, generation=media.generation, owner="bench", results=[result])

        return Change(uri=media.uri, transition=transition)

    for chunk in chunks(list_files(Selection(prefix=prefix_uri(catalogue + "/")))):
        ledger.change([done(media) for media in chunk])
    ledger.close()


def case(graph: str, catalogue: str, work: str) -> None:
    """Time listing alone, and a whole run; called in a process of its own."""
    from bench.run import segue
    from segue.model.location import prefix_uri
    from segue_pipelines.sources import Selection, count_files

    finish(graph, catalogue, work)
    selection = Selection(prefix=prefix_uri(catalogue + "/"))
    started = time.perf_counter()
    count_files(selection, "", stop=lambda: False)
    listing_s = time.perf_counter() - started
    started = time.perf_counter()
    tally = segue(graph, catalogue, work, ["j1"])
    run_s = time.perf_counter() - started
    assert tally.total("current") == tally.files == FILES, tally
    report(
        benchmark="planning",
        files=FILES,
        files_per_s=round(FILES / run_s),
        listing_files_per_s=round(FILES / listing_s),
        ratio=round(listing_s / run_s, 3),
    )


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        case(*sys.argv[2:5])
        return
    with memory_folder() as folder:
        empty_files(f"{folder}/catalogue", FILES)
        graph = noop_graph(folder, 1)
        arguments = ["-m", "bench.planning", "case", graph, f"{folder}/catalogue"]
        print(usage_of([*arguments, f"{folder}/work"]).printed, end="")


if __name__ == "__main__":
    main()
