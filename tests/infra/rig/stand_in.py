"""The stand-in provider's process, for as long as the tests run."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from rig.tools import HERE, clean_environ, program


@contextlib.contextmanager
def serving(folders: Sequence[Path]) -> Iterator[str]:
    """Serve the types that the files below some folders name; yields TF_REATTACH_PROVIDERS."""
    process = subprocess.Popen(
        [program("python"), "-m", "provider", *map(str, folders)],
        env={**clean_environ(), "PYTHONPATH": str(HERE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in provider ended with {process.wait()}; see above")
        assert len(json.loads(line)) == 2
        yield line
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()
