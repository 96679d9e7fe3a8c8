"""Planning and skipping: a backfill over 200,000 files whose results all exist.

It lists the catalogue, reads the ledger in batches, and finds nothing to do. The rate is compared
with listing alone.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

from bench.catalogue import create_memory_folder, write_empty_files, write_noop_graph
from bench.measure import measure_usage, report

FILES = 200_000


def finish(graph_path: str, catalogue: str, work: str) -> None:
    """Record every file as done, as a backfill would have."""
    from segue.adapters.connect import connect_ledger
    from segue.model.graph import read_graph
    from segue.model.ledger import Change
    from segue.model.media_file import parse_prefix
    from segue.model.record import Entry, State, evolve
    from segue.model.transitions import arrive
    from segue_pipelines.sources import Selection, list_files, split_into_chunks

    graph = read_graph(graph_path)
    fingerprint = graph.fingerprints["j1"]
    ledger = connect_ledger(f"sqlite:///{work}/ledger.db", graph.namespace)

    def build_change(media):
        now = datetime.now(UTC)
        record, _ = arrive(None, evolve(media, version="0" * 24), now)
        entry = Entry(
            job="j1",
            state=State.DONE,
            order=record.order,
            checksums={"json": "sha256:" + "0" * 64},
            attempts=1,
            started_at=now,
            finished_at=now,
            seconds=0.1,
            cpu_seconds=0.1,
        )
        record = evolve(record, results={fingerprint: entry})
        return Change(uri=media.uri, transition=lambda _found: (record, None))

    for chunk in split_into_chunks(list_files(Selection(prefix=parse_prefix(catalogue + "/")))):
        ledger.change([build_change(media) for media in chunk])
    ledger.close()


def run_case(graph: str, catalogue: str, work: str) -> None:
    """Time a listing alone and a whole run, in a separate process."""
    from bench.run import run_segue
    from segue.model.media_file import parse_prefix
    from segue_pipelines.sources import Selection, count_files

    finish(graph, catalogue, work)
    selection = Selection(prefix=parse_prefix(catalogue + "/"))
    started = time.perf_counter()
    count_files(selection, "", stop=lambda: False)
    listing_s = time.perf_counter() - started
    started, cpu_started = time.perf_counter(), time.process_time()
    totals = run_segue(graph, catalogue, work, ["j1"])
    run_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    assert totals.total("current") == totals.files == FILES, totals
    report(
        benchmark="planning",
        files=FILES,
        files_per_s=round(FILES / run_s),
        listing_files_per_s=round(FILES / listing_s),
        cpu_us_per_file=round(cpu_s / FILES * 1e6, 1),
        ratio=round(listing_s / run_s, 3),
    )


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        run_case(*sys.argv[2:5])
        return
    with create_memory_folder() as folder:
        write_empty_files(f"{folder}/catalogue", FILES)
        graph = write_noop_graph(folder, 1)
        arguments = ["-m", "bench.planning", "case", graph, f"{folder}/catalogue"]
        print(measure_usage([*arguments, f"{folder}/work"]).printed, end="")


if __name__ == "__main__":
    main()
