"""Serve both of Google's providers until standard input ends.

usage: python -m provider PUBLISHED FOLDER...

PUBLISHED are the names of the options that a job tells Dataflow, separated by commas. It serves the
types that Terraform files and tests below the folders name, and writes one line to standard output:
the value for TF_REATTACH_PROVIDERS.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from provider.bindings import PREFIXES, read_schema
from provider.server import serve

TYPE = re.compile(r'"(google_\w+)"')


def main(published: str, *folders: str) -> None:
    """Read the schemas, serve them, and print where."""
    types = sorted(set(find_types(folders)))
    with ProcessPoolExecutor(len(PREFIXES)) as pool:
        schemas = list(pool.map(read_schema, PREFIXES, [types] * len(PREFIXES)))
    servers, attached = [], {}
    for schema in schemas:
        server, address = serve(schema, set(published.split(",")))
        servers.append(server)
        attached[schema.address] = {
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": {"Network": "tcp", "String": address},
        }
    sys.stdout.write(json.dumps(attached) + "\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends when the parent process does, even if it is killed
    for server in servers:
        server.stop(grace=None)


def find_types(folders: Sequence[str]) -> Iterator[str]:
    """Yield the types in the files below some folders."""
    for folder in folders:
        for pattern in ("*.tf", "*.tftest.hcl", "*.py"):
            for path in Path(folder).rglob(pattern):
                yield from TYPE.findall(path.read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
