"""Runs docs/results.ipynb, the example notebook, as a reader would.

python -m segue_support.notebook --output FILE   # write it, with what its cells show, to a file
python -m segue_support.notebook --write         # or to where it is

It needs pandas, which is not in the environment: put a folder with it
on ``PYTHONPATH``, such as the one that the tests leave in ``.pytest_cache/d/frames``.

The music is that of ``segue demo``, in a home folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from segue_cli.demo_catalogue import make_catalogue
from segue_support.paths import ROOT

PAGE = ROOT / "docs/results.ipynb"


def run_notebook(home: str) -> Any:
    """Run all cells in a home folder with music; return the notebook with what they show.

    Raises
    ------
    CellExecutionError
        If a cell raises.
    """
    make_catalogue(os.path.join(home, "Music"))
    notebook = nbformat.read(PAGE, as_version=4)  # type: ignore[no-untyped-call]
    kept = {name: os.environ.get(name) for name in ("HOME", "MPLBACKEND", "XDG_CACHE_HOME")}
    os.environ["XDG_CACHE_HOME"] = os.path.expanduser("~/.cache")  # what is compiled there, stays
    os.environ["HOME"] = home  # of the kernel
    os.environ.pop("MPLBACKEND", None)
    try:
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")
        kernel.connection_file = os.path.join(home, "kernel.json")
        place = {"metadata": {"path": home}}
        NotebookClient(notebook, km=kernel, timeout=300, resources=place).execute()
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return notebook


def main() -> None:
    """Run the notebook, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="the file to write")
    parser.add_argument("--write", dest="output", action="store_const", const=PAGE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        notebook = run_notebook(home)
        text = nbformat.writes(notebook).replace(home, "/home/you")  # type: ignore[no-untyped-call]
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
