"""A function's overhead: its start against its clients' import, its work against the bare calls.

All cases alternate within one run. The start is the CPU of fresh processes that import an archive's
main module as Cloud Functions does. The work is the time on the official emulators: an arrival, by
itself and through functions-framework, against only the ledger's write and the queue's publish.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

from bench.catalogue import create_memory_folder, write_noop_graph
from bench.measure import ROOT, report
from segue_support import emulators

STARTS = 9
EVENTS = 400
CLOUD = {
    "SEGUE_GRAPH": "jobs.yaml",
    "SEGUE_LEDGER": "firestore://acme-audio",
    "SEGUE_QUEUE": "pubsub://acme-audio",
    "SEGUE_ARTIFACTS": "gs://acme-features",
}
IMPORT = """
import os, sys
start = os.times()
{statement}
end = os.times()
heavy = [m for m in ("apache_beam", "numpy", "librosa") if m in sys.modules]
print(end.user + end.system - start.user - start.system, *heavy)
"""


def measure_start() -> None:
    """Measure the import of an archive's main module, and of its clients alone."""
    statements = {
        "main": "import main",
        "firestore": "import google.cloud.firestore",
        "pubsub": "import google.cloud.pubsub",
    }
    cpu_s: dict[str, list[float]] = {name: [] for name in statements}
    with create_memory_folder() as folder:
        _unpack_archive(folder)
        for _ in range(STARTS):
            for name, statement in statements.items():
                used, *heavy = _time_import(folder, statement)
                assert not heavy, heavy
                cpu_s[name].append(float(used))
    main, *clients = (statistics.median(values) for values in cpu_s.values())
    report(
        benchmark="functions.start",
        main_cpu_s=round(main, 3),
        clients_cpu_s=round(sum(clients), 3),
        ratio=round(main / sum(clients), 2),
    )


def _unpack_archive(folder: str) -> None:
    """Unpack the archive of the arrival function, and compile it as its image is."""
    from segue.model.settings import Settings
    from segue_cli.function_archive import build_archive

    graph = write_noop_graph(folder, 3)
    build_archive("arrival", Settings(graph=graph)).write(f"{folder}/arrival.zip")
    with zipfile.ZipFile(f"{folder}/arrival.zip") as file:
        file.extractall(folder)
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)


def _time_import(folder: str, statement: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", IMPORT.format(statement=statement)],
        cwd=folder,
        env={**os.environ, **CLOUD, "K_SERVICE": "arrival"},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


def measure_work() -> None:
    """Measure the handling of arrivals, and their two calls alone."""
    from segue.log import configure
    from segue_functions import stack

    with contextlib.ExitStack() as entered:
        for emulator in (emulators.FIRESTORE, emulators.PUBSUB):
            if reason := emulators.describe_missing(emulator):
                report(benchmark="functions.work", skipped=reason)
                return
            os.environ[emulator.variable] = entered.enter_context(emulators.run_emulator(emulator))
            entered.callback(os.environ.pop, emulator.variable)
        folder = entered.enter_context(create_memory_folder())
        os.environ.update(CLOUD, SEGUE_GRAPH=write_noop_graph(folder, 3))
        nowhere = entered.enter_context(open(os.devnull, "w"))
        configure(as_json=True, stream=nowhere)
        entered.callback(stack.close)
        seconds = _alternate(_build_calls())
    median = {name: statistics.median(values) for name, values in seconds.items()}
    report(
        benchmark="functions.work",
        bare_ms=round(median["bare"] * 1e3, 2),
        handler_ms=round(median["handler"] * 1e3, 2),
        served_ms=round(median["served"] * 1e3, 2),
        ratio=round(median["handler"] / median["bare"], 3),
        ratio_with_framework=round(median["served"] / median["bare"], 3),
    )


def _alternate(calls: dict[str, Callable[[], Callable[[], object]]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for i in range(EVENTS + 20):
        names.append(names.pop(0))  # each comes first in turn
        for name in names:
            call = calls[name]()
            started = time.perf_counter()
            call()
            if i >= 20:  # the emulators' first calls are slow
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _build_calls() -> dict[str, Callable[[], Callable[[], object]]]:
    """Return the calls to compare; each prepares a new file outside the measured time."""
    import functions_framework
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    from segue.model.graph import SOURCE
    from segue.model.ledger import Change, Snapshot
    from segue.model.media_file import MediaFile
    from segue.model.message import Message
    from segue.model.queue import event_to_envelope, list_subscriptions, list_topics
    from segue.model.transitions import arrive
    from segue_functions import stack
    from segue_functions.arrival import handle_arrival
    from segue_support.cloud_events import build_object_event, to_binary
    from segue_support.pubsub_topics import make_topics

    services = stack.get_services()
    graph, queue = services.graph, services.queue
    make_topics(queue, list_topics(graph), list_subscriptions(graph))  # type: ignore[arg-type]
    app = functions_framework.create_app("arrival", f"{ROOT}/functions/segue_functions/arrival.py")
    numbers = count()

    def media() -> MediaFile:
        uri = f"gs://acme-audio/{next(numbers)}.wav"
        return MediaFile(uri=uri, version="5", order=5, size_bytes=10)

    def bare() -> Callable[[], object]:
        file = media()

        def call() -> None:
            now = datetime.now(UTC)
            services.ledger.change(
                [
                    Change(
                        uri=file.uri,
                        known=Snapshot(record=None),
                        transition=lambda found: arrive(found, file, now),
                    )
                ]
            )
            event = Message(uri=file.uri, version="5", order=5, trigger=SOURCE)
            queue.publish([event_to_envelope(event)])

        return call

    def handle() -> Callable[[], object]:
        sent = build_object_event("finalized", media())
        return lambda: handle_arrival(sent)

    def serve() -> Callable[[], object]:
        headers, body = to_binary(build_object_event("finalized", media()))
        environ = EnvironBuilder(method="POST", headers=headers, data=body).get_environ()

        def call() -> None:
            _, status, _ = run_wsgi_app(app, environ)
            assert status == "200 OK", status

        return call

    return {"bare": bare, "handler": handle, "served": serve}


def main() -> None:
    """Measure and print."""
    measure_start()
    measure_work()


if __name__ == "__main__":
    main()
