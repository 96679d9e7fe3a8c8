"""A separate process that uses a queue in SQLite, for the queues' contract tests.

``hold`` pulls a number of envelopes, prints their bodies as JSON, and waits to be killed. ``share``
pulls and acknowledges until none arrives for a second, and prints what it got. ``publish`` prints
``ready``, then publishes one large set of envelopes after another, each with its set's number.
"""

from __future__ import annotations

import json
import sys
from itertools import count

from segue.adapters.sqlite_queue import SqliteQueue
from segue.model.queue import Envelope


def main(mode: str, path: str, topic: str, number: str) -> None:
    queue = SqliteQueue(path, deadline_s=3600)
    if mode == "hold":
        held = queue.pull([topic], limit=int(number), wait_s=60)
        print(json.dumps([d.data.decode() for d in held]), flush=True)
        sys.stdin.read()
    elif mode == "share":
        print("ready", flush=True)
        sys.stdin.readline()
        mine: list[str] = []
        while pulled := queue.pull([topic], limit=int(number), wait_s=1):
            queue.acknowledge(pulled)
            mine += [d.data.decode() for d in pulled]
        print(json.dumps(mine), flush=True)
    else:
        print("ready", flush=True)
        for batch in count():
            queue.publish([Envelope(topic=topic, data=str(batch).encode())] * int(number))
    queue.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
