"""Counts what is exported, and what is not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from segue import text
from segue.model.graph import Graph
from segue.reports.result_table import ResultRow, RowReader, read_ahead
from segue.reports.results import FileResults
from segue.reports.row_filter import RowFilter

Batch = list[Mapping[str, Any]]
NAMED = 20  # of the artifacts that cannot be read


class ExportCounts:
    """How many files, rows and results there are, and which artifacts cannot be read."""

    def __init__(self, graph: Graph, reader: RowReader, note: Callable[[str], None]) -> None:
        self._graph, self._reader, self._note = graph, reader, note
        self.references = reader.references
        self.reset()

    def reset(self) -> None:
        """Begin to count."""
        self.files = self.rows = self.filtered = self.unchanged = 0
        self.results: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.faults: list[dict[str, str]] = []  # the first ones

    def count(self, files: Iterable[FileResults]) -> None:
        """Count the files, and read no artifact."""
        for file in files:
            self.files += 1
            self.rows += bool(file.results)
            self.results.update(file.results.keys())

    def read(self, files: Iterable[FileResults]) -> Iterator[ResultRow]:
        """Yield the rows of files, counting; name each artifact that cannot be read."""
        for file, row in read_ahead(self._graph, files, self._reader.read):
            self.files += 1
            for reference, error in row.faults.items():
                self._add_fault(file.uri, reference, error)
            readable = file.results.keys() - row.faults.keys()
            if readable:
                self.rows += 1
                self.results.update(readable)
                yield row

    def pass_over(self, file: FileResults) -> None:
        """Count a file whose row is where the rows go already."""
        self.files += 1
        self.unchanged += 1
        self.results.update(file.results.keys())

    def filter(self, batches: Iterable[Batch], where: RowFilter) -> Iterator[Batch]:
        """Yield the rows that meet a condition, and count those that do not."""
        for batch in batches:
            selected = where.select(batch)
            self.filtered += len(batch) - len(selected)
            if selected:
                yield selected

    def _add_fault(self, uri: str, reference: str, error: str) -> None:
        self.unreadable[reference] += 1
        if self.unreadable.total() <= NAMED:
            self.faults.append({"uri": uri, "job": reference, "error": error})
            self._note(f"left out: {error}")

    def count_missing(self, reference: str) -> int:
        """Return the number of files without a current result of a job."""
        return self.files - self.results[reference] - self.unreadable[reference]

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "files": self.files,
            "rows": self.rows - self.filtered,
            "filtered": self.filtered,
            "jobs": {
                name: {
                    "results": self.results[name],
                    "missing": self.count_missing(name),
                    "unreadable": self.unreadable[name],
                }
                for name in self.references
            },
            "unreadable": self.unreadable.total(),
            "unreadable_artifacts": self.faults,
        }


def summarise(counts: ExportCounts, prefix: str, written: str | None) -> str:
    """Return the counts for people; ``written`` is where the rows are, None for nowhere."""
    rows = text.format_count(counts.rows - counts.filtered, "row")
    head = f"{rows} to write" if written is None else f"{rows} written to {written}"
    below = f" below {prefix}" if prefix else ""
    lines = [f"{head}; {text.format_count(counts.files, 'file')} in the ledger{below}."]
    if counts.unchanged:
        lines.append(f"{text.format_count(counts.unchanged, 'row')} unchanged there.")
    lines += [
        f"{name}: no current result for {text.format_count(missing, 'file')}."
        for name in counts.references
        if (missing := counts.count_missing(name))
    ]
    if counts.filtered:
        lines.append(f"{text.format_count(counts.filtered, 'row')} left out by --where.")
    if unreadable := counts.unreadable.total():
        lines.append(f"{text.format_count(unreadable, 'artifact')} cannot be read.")
    return "\n".join(lines)
