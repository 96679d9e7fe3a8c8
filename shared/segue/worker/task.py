"""The tasks that the child processes get, and the reports on them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from segue.model.media_file import MediaFile
from segue.model.transitions import Result


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The jobs to run on one version of a file."""

    task_id: int  # repeated in the reports; unique among unfinished tasks
    media: MediaFile
    run: tuple[str, ...]  # parents first
    inputs: Mapping[str, str] = {}  # parent job that is not in ``run`` → its artifact's URI
    force: tuple[str, ...] = ()  # jobs whose existing artifact is replaced


class Report(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The results of some of a task's jobs; each job is reported once."""

    task_id: int
    results: tuple[Result, ...]
    finished: bool  # all jobs of the task have been reported
