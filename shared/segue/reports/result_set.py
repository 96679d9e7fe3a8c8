"""The results of one job as a collection: what ``segue.results`` returns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segue.adapters.connect import open_ledger_to_read
from segue.extras import require, require_package
from segue.model.graph import Graph
from segue.model.media_file import resolve_prefix
from segue.reports.results import ArtifactReader, FileResult, FileResults, find_results

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The current results of a job, one for each file that has one, in the order of their URIs.

    Each loop reads the ledger anew, a page at a time, and yields `FileResult`; results that were
    finished meanwhile may be among them. Records that cannot be read are logged and left out. If
    the ledger has no file below the prefix, a loop warns of it, or, if that is a local path that
    does not exist, raises ``ConfigurationError``.

    >>> import segue
    >>> for result in segue.results("beats", prefix="~/Music"):  # doctest: +SKIP
    ...     print(result.uri, result.value["tempo_bpm"])
    """

    graph: Graph = field(repr=False)
    ledger: str
    reference: str  # job or job.output
    prefix: str  # of the files' URIs

    def __iter__(self) -> Iterator[FileResult]:
        """Stream the results."""
        for file in self._find():
            yield from file.results.values()

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the results as batches of Arrow of at most 1,000 files, in bounded memory.

        The columns are ``uri``, ``version``, ``fingerprint`` and ``finished_at``, and one for each
        field of the result; ``segue.reports.result_table`` describes them. There is at least one
        batch.

        Raises
        ------
        MissingInput
            If an artifact is missing, or is not what the job wrote.
        ConfigurationError
            If a value does not fit the type of its column.
        MissingExtra
            If pyarrow is not installed.
        """
        require("a table of results", "audio")
        from segue.reports.result_table import ArrowColumns, ResultColumns, read_rows, split_batches

        arrow = ArrowColumns(ResultColumns(self.graph, [self.reference]))
        is_empty = True
        for rows in split_batches(read_rows(self.graph, self._find(), [self.reference])):
            is_empty = False
            yield arrow.build(rows)
        if is_empty:
            yield arrow.build([])

    def to_arrow(self) -> pa.Table:
        """Return the results as one pyarrow.Table; columns and errors as of `to_batches`."""
        batches = list(self.to_batches())
        import pyarrow as pa

        return pa.Table.from_batches(batches)

    def to_pandas(self) -> Any:
        """Return the results as one pandas.DataFrame; columns and errors as of `to_batches`.

        Lists become arrays, records and maps dicts.

        Raises
        ------
        MissingPackage
            If pandas is not installed.
        """
        require_package("to_pandas()", "pandas", "use to_arrow()")
        return self.to_arrow().to_pandas(maps_as_pydicts="strict")

    def _find(self) -> Iterator[FileResults]:
        reader = ArtifactReader(self.graph.artifacts)
        with closing(open_ledger_to_read(self.ledger, self.graph.namespace)) as ledger:
            is_empty = True
            for file in find_results(ledger, self.graph, [self.reference], reader, self.prefix):
                is_empty = False
                yield file
        if is_empty and self.prefix:
            resolve_prefix(self.prefix)
            warnings.warn(
                f"the ledger {self.ledger} has no file below {self.prefix}, so there are no "
                "results; check the prefix, or compute them with segue.backfill",
                stacklevel=2,
            )
