"""Serve both of Google's providers until standard input ends.

usage: python -m provider FOLDER...

The types that Terraform files and tests below the folders name are served. One line is written to
standard output: what TF_REATTACH_PROVIDERS is to be set to.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from provider.bindings import PREFIXES, read
from provider.server import serve

NAMED = re.compile(r'"(google_\w+)"')


def main(folders: Sequence[str]) -> None:
    """Read the schemas, serve them, and say where."""
    types = sorted(set(named(folders)))
    with ProcessPoolExecutor(len(PREFIXES)) as pool:
        schemas = list(pool.map(read, PREFIXES, [types] * len(PREFIXES)))
    servers, attached = [], {}
    for schema in schemas:
        server, address = serve(schema)
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
    sys.stdin.read()  # ends when whoever started this does, however that happens
    for server in servers:
        server.stop(grace=None)


def named(folders: Sequence[str]) -> Iterator[str]:
    """Name the types in the files below some folders."""
    for folder in folders:
        for pattern in ("*.tf", "*.tftest.hcl", "*.py"):
            for path in Path(folder).rglob(pattern):
                yield from NAMED.findall(path.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
