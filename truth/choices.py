"""What the options of ``python -m truth`` choose: systems, and sounds of the corpus."""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from truth.caller import System
from truth.corpus import Item, read_items, write_corpus


def choose(
    given: argparse.Namespace, call: str, references: Sequence[System], **options: Any
) -> list[System]:
    """Return this Segue, another one if it is asked for, and the references that are asked for.

    Of Segue, a function is called.
    """
    systems = [System(name="Segue", python=given.python, call=call, **options)]
    if given.baseline:
        systems.append(System(name="baseline", python=given.baseline, call=call, **options))
    return systems + [system for system in references if system.name in given.references]


def find_items(given: argparse.Namespace) -> tuple[list[Item], Path]:
    """Return the sounds that are asked for, and their folder; make them if need be."""
    folder = given.corpus or given.cache / "corpus"
    if not (folder / "READY").exists():
        write_corpus(folder, given.cache / "packages")
    chosen = [
        item
        for item in read_items(folder)
        if item.set in given.sets and given.split in {item.split, "both"}
    ]
    return chosen, folder


def make_once(cache: Path, name: str, code: str, write: Callable[[Path], None]) -> Path:
    """Return a folder of the cache that a function has filled; another for other code.

    Parameters
    ----------
    cache : Path
    name : str
    code : str
        The file with the function.
    write : callable
        Gets the folder.
    """
    digest = hashlib.sha256(Path(code).read_bytes()).hexdigest()
    folder = cache / f"{name}-{digest[:12]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / name
            made.mkdir()
            write(made)
            os.replace(made, folder)
    return folder
