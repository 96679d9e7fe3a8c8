"""What is asked of the child processes, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from segue.model.ledger import Result
from segue.model.media_file import MediaFile


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The jobs to run on one version of a file."""

    ticket: int  # comes back in the reports; no two tasks under way have the same
    media: MediaFile
    run: tuple[str, ...]  # parents first
    inputs: Mapping[str, str] = {}  # parent job that is not in ``run`` → its artifact's URI
    force: tuple[str, ...] = ()  # jobs whose artifact is replaced if there is one


class Report(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of some of a task's jobs; each job is told of once."""

    ticket: int
    results: tuple[Result, ...]
    finished: bool  # all jobs of the task have been told of
