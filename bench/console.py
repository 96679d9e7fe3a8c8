"""The pages of the console, with many files against few.

Each page is asked for by HTTP, from a server in another thread, and the time of the first byte to
the last is taken: the fastest of several answers, and, of the first page, the very first answer.
``--files`` is the number of files of the large ledger; the small one has a thousandth of them.
"""

from __future__ import annotations

import argparse
import http.client
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from bench.catalogue import create_memory_folder

FILES = 1_000_000
BATCH = 5_000
TRIES = 15
VERSION = "0" * 24


def write_ledger(folder: str, files: int) -> str:
    """Write a ledger as backfills would have: most results are done, one in 50 failed."""
    from segue.adapters.connect import connect_ledger
    from segue.model.graph import Graph
    from segue.model.ledger import Change
    from segue.model.record import Entry, Failure, Record, State
    from segue.model.settings import Settings
    from segue.stack import load_graph

    graph: Graph = load_graph(Settings.load())
    url = f"sqlite:///{folder}/ledger.db"
    ledger = connect_ledger(url, graph.namespace)
    began = datetime(2026, 1, 2, tzinfo=UTC)
    error = Failure(kind="timeout", type="JobTimeout", message="it took longer than 120 s")

    def build(number: int) -> Record:
        results = {}
        for place, job in enumerate(graph.jobs):
            if (number + place) % 11 == 0:
                continue  # missing
            is_failed = (number + 7 * place) % 50 == 0
            results[graph.fingerprints[job]] = Entry(
                job=job,
                state=State.FAILED if is_failed else State.DONE,
                order=1,
                attempts=1,
                error=error if is_failed else None,
                checksums={} if is_failed else {"json": "sha256:" + "0" * 64},
                finished_at=began + timedelta(seconds=number),
                seconds=0.5 + number % 7,
                cpu_seconds=0.4 + number % 5,
            )
        uri = f"file://{folder}/music/{number // 1000:04}/{number:07}.wav"
        return Record(uri=uri, version=VERSION, order=1, arrived_at=began, results=results)

    for start in range(0, files, BATCH):
        records = [build(number) for number in range(start, min(start + BATCH, files))]
        ledger.change(
            [Change(uri=r.uri, transition=lambda _, record=r: (record, None)) for r in records]
        )
    ledger.close()
    return url


def measure(folder: str, url: str, files: int) -> Iterator[tuple[str, float]]:
    """Yield how many seconds each page takes."""
    from segue.model.settings import Settings
    from segue_console.namespace import open_namespaces
    from segue_console.server import serve_console

    middle = files // 2
    uri = quote(f"file://{folder}/music/{middle // 1000:04}/{middle:07}.wav")
    pages = {
        "catalogue, first answer": ("/default/", 1),
        "catalogue": ("/default/", TRIES),
        "files": ("/default/files", TRIES),
        "files that failed": ("/default/files?job=beats&state=failed", TRIES),
        "files that are missing": ("/default/files?job=beats&state=missing", TRIES),
        "a file": (f"/default/file?uri={uri}", TRIES),
        "a job": ("/default/jobs/beats", TRIES),
        "a job's sample": ("/default/jobs/beats/sample", 3),
        "failures": ("/default/failures", TRIES),
        "runs": ("/default/runs", TRIES),
    }
    with (
        open_namespaces([Settings.load(ledger=url)]) as namespaces,
        serve_console(namespaces, port=0, allow_changes=False) as server,
    ):
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(address.netloc)
        connection.request("GET", f"/?{address.query}")
        answer = connection.getresponse()
        answer.read()
        cookie = str(answer.getheader("set-cookie")).partition(";")[0]
        for name, (path, tries) in pages.items():
            yield name, min(_get(connection, path, cookie) for _ in range(tries))


def _get(connection: http.client.HTTPConnection, path: str, cookie: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}")
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    files = parser.parse_args().files
    found = {}
    for count in (max(files // 1000, 1), files):
        with create_memory_folder() as folder:
            os.chdir(folder)
            url = write_ledger(folder, count)
            found[count] = dict(measure(folder, url, count))
    few, many = found.values()
    print(f"{'page':26} {min(found):>12,} {max(found):>12,} files  ratio")
    for name, few_s in few.items():
        ratio = many[name] / few_s
        print(f"{name:26} {1e3 * few_s:9.1f} ms {1e3 * many[name]:9.1f} ms  {ratio:10.2f}")


if __name__ == "__main__":
    main()
