"""A separate process that uses a queue in SQLite, for the queues' contract tests.

``hold`` pulls a number of envelopes, prints their bodies as JSON, and waits to be killed. ``share``
pulls and acknowledges until none arrives for a second, and prints what it got. ``publish`` prints
``ready``, then publishes one large set of envelopes after another, each with its set's number.
``tick`` uses any queue: it publishes sets of the present time, prints ``ready`` after the first,
and all times as JSON once its input has ended.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from itertools import count

from segue.adapters.connect import connect_queue
from segue.adapters.sqlite_queue import SqliteQueue
from segue.model.queue import Envelope


def main(mode: str, place: str, name: str, number: str) -> None:
    if mode == "tick":
        tick(place, name, int(number))
        return
    queue = SqliteQueue(place, deadline_s=3600)
    if mode == "hold":
        held = queue.pull([name], limit=int(number), wait_s=60)
        print(json.dumps([d.data.decode() for d in held]), flush=True)
        sys.stdin.read()
    elif mode == "share":
        print("ready", flush=True)
        sys.stdin.readline()
        mine: list[str] = []
        while pulled := queue.pull([name], limit=int(number), wait_s=1):
            queue.acknowledge(pulled)
            mine += [d.data.decode() for d in pulled]
        print(json.dumps(mine), flush=True)
    else:
        print("ready", flush=True)
        for batch in count():
            queue.publish([Envelope(topic=name, data=str(batch).encode())] * int(number))
    queue.close()


def tick(url: str, topic: str, number: int) -> None:
    queue = connect_queue(url)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    times: list[str] = []
    is_last = False
    while not is_last:
        is_last = ended.is_set()  # one set at least is published after the input has ended
        times.append(str(time.monotonic_ns()))
        queue.publish([Envelope(topic=topic, data=times[-1].encode())] * number)
        if len(times) == 1:
            print("ready", flush=True)
    print(json.dumps(times))
    queue.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
