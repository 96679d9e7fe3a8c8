"""Export of the results of a job as Parquet, against reading the same JSON files by hand.

The results are those of the job beats for a minute of music. By hand means: walk the folder, read
each file with the module json, and write Parquet, without asking which results are current, and
without comparing a checksum. ``--files`` is the number of results.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from bench.catalogue import create_memory_folder
from bench.measure import measure_usage, report

FILES = 100_000
VALUES = 500  # different ones; each is linked to by many names
BEATS = 120
BY_HAND_ROWS = 10_000  # of a row group
JOB = "beats"
VERSION = "0" * 24


def build_value(number: int) -> dict[str, Any]:
    """Return what beats finds in a minute of music."""
    times = [round(0.1 + 0.5 * beat + number * 1e-6, 6) for beat in range(BEATS)]
    return {
        "tempo_bpm": 120.0 + number / 100,
        "confidence": 0.9,
        "beat_times_s": times,
        "beat_confidences": [0.9] * BEATS,
        "reason": None,
    }


def write_results(folder: str, files: int) -> None:
    """Write a ledger and artifacts as a backfill would have."""
    from segue.adapters.connect import connect_ledger
    from segue.codec import encode
    from segue.model.artifact import compute_checksum
    from segue.model.ledger import Change
    from segue.model.record import Entry, Record, State
    from segue.model.settings import Settings
    from segue.stack import load_graph

    graph = load_graph(Settings.load())
    fingerprint = graph.fingerprints[JOB]
    values = [encode("application/json", build_value(number)).data for number in range(VALUES)]
    for number, data in enumerate(values):
        with open(f"{folder}/{number}.json", "wb") as file:
            file.write(data)
    checksums = [{"json": compute_checksum(data)} for data in values]
    now = datetime(2026, 1, 2, tzinfo=UTC)
    ledger = connect_ledger(f"sqlite:///{folder}/ledger.db", graph.namespace)

    def build_change(number: int) -> Change[None]:
        name = f"music/{number // 1000:04}/{number:07}.wav"
        path = f"{folder}/artifacts/{JOB}/{fingerprint}/{name}"
        os.makedirs(path)
        os.link(f"{folder}/{number % VALUES}.json", f"{path}/{VERSION}.json")
        entry = Entry(
            job=JOB,
            state=State.DONE,
            order=1,
            checksums=checksums[number % VALUES],
            attempts=1,
            started_at=now,
            finished_at=now,
            seconds=0.1,
            cpu_seconds=0.1,
        )
        record = Record(
            uri=f"file:///{name}",
            version=VERSION,
            order=1,
            arrived_at=now,
            results={fingerprint: entry},
        )
        return Change(uri=record.uri, transition=lambda _found: (record, None))

    for first in range(0, files, 1000):
        ledger.change([build_change(n) for n in range(first, min(first + 1000, files))])
    ledger.close()


def read_by_hand(folder: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of all artifacts."""
    for path, _, names in os.walk(f"{folder}/artifacts"):
        for name in names:
            with open(f"{path}/{name}", "rb") as file:
                yield {"path": path, **json.load(file)}


def export_by_hand(folder: str) -> None:
    """Write the rows of all artifacts as Parquet, a row group at a time."""
    import itertools

    import pyarrow as pa
    from pyarrow import parquet

    rows = read_by_hand(folder)
    schema = pa.Table.from_pylist([{"path": "", **build_value(0), "reason": ""}]).schema
    with parquet.ParquetWriter(f"{folder}/by-hand.parquet", schema, compression="zstd") as writer:
        while batch := list(itertools.islice(rows, BY_HAND_ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema))


def measure(folder: str, files: int) -> None:
    """Measure both, and print them."""
    from pyarrow import parquet

    os.environ["SEGUE_ARTIFACTS"] = f"{folder}/artifacts"
    write = f"from bench.export import write_results; write_results({folder!r}, {files})"
    measure_usage(["-c", write])
    ledger = f"sqlite:///{folder}/ledger.db"
    whole = measure_usage(
        ["-m", "segue_cli", "export", JOB, "--ledger", ledger, "-o", f"{folder}/export.parquet"]
    )
    by_hand = measure_usage(
        ["-c", f"from bench.export import export_by_hand; export_by_hand({folder!r})"]
    )
    for name in ("export", "by-hand"):
        assert parquet.ParquetFile(f"{folder}/{name}.parquet").metadata.num_rows == files, name
    report(
        benchmark="export",
        files=files,
        results_per_cpu_s=round(files / whole.cpu_s),
        by_hand_per_cpu_s=round(files / by_hand.cpu_s),
        peak_mib=round(whole.peak_mib),
        by_hand_peak_mib=round(by_hand.peak_mib),
        ratio=round(whole.cpu_s / by_hand.cpu_s, 2),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    files = parser.parse_args().files
    with create_memory_folder() as folder:
        measure(folder, files)


if __name__ == "__main__":
    main()
