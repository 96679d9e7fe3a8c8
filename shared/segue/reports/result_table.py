"""Turns results into a table: one row for each file, one column for each field of a result.

=====================  =========================================================================
column                 value
=====================  =========================================================================
``uri``                of the media file
``version``            of its content
``fingerprint``        of the result
``finished_at``        when it was computed, in UTC
fields of JSON         one column each; ``value`` for JSON that is no object
arrays                 one column each, as lists
``rows``               of a table, as a list of records
``artifact``           the URI of any other artifact: sound, images, MIDI
=====================  =========================================================================

With several jobs, a column begins with the job, such as ``beats.tempo_bpm`` and
``beats.fingerprint``. A field that has the name of one of the first four columns gets ``_`` at its
end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from segue.codec import decode
from segue.codec.encoded import describe
from segue.codec.table_times import limit_times
from segue.errors import ConfigurationError, MissingInput, PermanentError
from segue.model.artifact import split_output
from segue.model.graph import Graph
from segue.model.job_code import find_callable, make_importable
from segue.model.result_schema import build_result_schema
from segue.reports.results import ARRAYS, FileResult, FileResults

if TYPE_CHECKING:
    import pyarrow as pa

JSON = "application/json"
TABLE = "application/vnd.apache.parquet"
FIXED = ("uri", "version", "fingerprint", "finished_at")
OF_FILE, OF_RESULT = FIXED[:2], FIXED[2:]
# A batch ends with whichever comes first. Values of Python take about ten times their bytes.
MAX_ROWS = 1_000
MAX_BYTES = 8 * 2**20
# A bucket takes tens of milliseconds for each artifact, and is asked for so many at once.
THREADS = 16
REMEDY = (
    "annotate what the job returns with the type that each field has in all results, or write "
    ".jsonl, whose rows need no types"
)

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "timestamp"}  # which is no type of JSON
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One row: the results of one file."""

    cells: Mapping[str, Any]  # by column; a job without a current result has none
    size_bytes: int  # of the artifacts
    faults: Mapping[str, str]  # by reference, why the artifact cannot be read


class RowReader:
    """Reads the artifacts of files as rows."""

    def __init__(self, references: Sequence[str], clean: Callable[[str], str] = str) -> None:
        """``clean`` makes a column's name one that is allowed where the table goes."""
        self.references = references
        self._is_alone = len(references) == 1
        self._clean = clean

    def name_column(self, reference: str, field: str) -> str:
        """Return the name of the column of a field, or of what the ledger says of a result."""
        return self._clean(field if self._is_alone else f"{reference}.{field}")

    def split_column(self, column: str) -> tuple[str, str]:
        """Return the reference that a column belongs to, ``files`` if to none, and its field."""
        if column in OF_FILE:
            return "files", column
        for reference in self.references:
            if self._is_alone or column.startswith(f"{reference}."):
                return reference, column if self._is_alone else column[len(reference) + 1 :]
        raise KeyError(column)

    def name_field(self, reference: str, field: str) -> str:
        """Return the name of the column of a field of a result."""
        return self.name_column(reference, f"{field}_" if field in FIXED else field)

    def read(self, file: FileResults) -> ResultRow:
        """Read the artifacts of a file; one that cannot be read is a fault, and has no cells.

        Raises ``Unavailable`` if the bucket cannot be reached.
        """
        cells: dict[str, Any] = {"uri": file.uri, "version": file.version}
        faults: dict[str, str] = {}
        size_bytes = 0
        for reference, result in file.results.items():
            try:
                fields, size = read_fields(result)
            except PermanentError as error:
                faults[reference] = str(error)
                continue
            size_bytes += size
            for name in OF_RESULT:
                cells[self.name_column(reference, name)] = getattr(result, name)
            for name, value in fields.items():
                column = self.name_field(reference, name)
                if column in cells:
                    raise ConfigurationError(
                        f"{file.uri}: {name!r} of {reference!r} would be the column {column!r}, "
                        "which another field is already; export the jobs one by one"
                    )
                cells[column] = value
        return ResultRow(cells=cells, size_bytes=size_bytes, faults=faults)


def read_fields(result: FileResult) -> tuple[dict[str, Any], int]:
    """Return the fields of a result, and the bytes that were read."""
    if result.content_type not in (JSON, TABLE, *ARRAYS):
        return {"artifact": result.artifact}, 0
    data = result.read()
    value = decode(result.content_type, data)
    if result.content_type == TABLE:
        value = {"rows": limit_times(value).to_pylist()}
    elif result.content_type in ARRAYS:
        value = {name: array.tolist() for name, array in value.items()}
    elif not isinstance(value, dict):
        value = {"value": value}
    return value, len(data)


def read_ahead(
    graph: Graph, files: Iterable[FileResults], read: Callable[[FileResults], T]
) -> Iterator[tuple[FileResults, T]]:
    """Yield files in their order with what is read of them, several at once from a bucket.

    So many files more than those that were taken are in memory at most.
    """
    locations = [graph.artifacts, *(other.artifacts for other in graph.imports.values())]
    if not any(location.startswith("gs://") for location in locations):
        for file in files:
            yield file, read(file)
        return
    ahead: deque[tuple[FileResults, Future[T]]] = deque()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="artifacts")
    try:
        for file in files:
            ahead.append((file, threads.submit(read, file)))
            if len(ahead) > THREADS:
                done, row = ahead.popleft()
                yield done, row.result()
        while ahead:
            done, row = ahead.popleft()
            yield done, row.result()
    finally:
        threads.shutdown(cancel_futures=True)


def read_rows(
    graph: Graph, files: Iterable[FileResults], references: Sequence[str]
) -> Iterator[ResultRow]:
    """Yield the rows of all files that have a result; raise ``MissingInput`` for a fault."""
    some = (file for file in files if file.results)
    for _, row in read_ahead(graph, some, RowReader(references).read):
        for fault in row.faults.values():
            raise MissingInput(fault)
        yield row


class ResultColumns:
    """The columns of a table: those that the jobs declare, and those of the first rows.

    ``declared`` has the JSON schema of each declared column's values, by name.
    """

    def __init__(
        self, graph: Graph, references: Sequence[str], clean: Callable[[str], str] = str
    ) -> None:
        namer = RowReader(references, clean)
        self.names: list[str] = ["uri", "version"]
        self.declared: dict[str, Schema] = {"uri": TEXT, "version": TEXT}
        for reference in references:
            own = {namer.name_column(reference, name): name for name in OF_RESULT}
            self.names += own
            self.declared |= {c: TIME if n == "finished_at" else TEXT for c, n in own.items()}
            if graph.find_content_type(reference) not in (JSON, TABLE, *ARRAYS):
                self.names.append(namer.name_field(reference, "artifact"))
                self.declared[self.names[-1]] = TEXT
            schema = find_schema(graph, reference)
            for field, part in schema.get("properties", {}).items():
                name = namer.name_field(reference, field)
                self.names.append(name)
                self.declared[name] = {**part, "$defs": schema.get("$defs", {})}

    def learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the columns of some rows."""
        self.names = list(dict.fromkeys([*self.names, *(name for row in rows for name in row)]))

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise ``TypeMismatch`` if a row has a cell without a column."""
        for name in row.keys() - self.names:
            raise TypeMismatch(
                f"{row['uri']}: {name!r} is a field that no file before it had, and that the job "
                f"does not declare; {REMEDY}"
            )


def find_schema(graph: Graph, reference: str) -> Schema:
    """Return the JSON schema of a job's result; an empty one if there is none.

    The code of the job may not be installed where its results are read.
    """
    job, output = split_output(reference)
    if graph.find_content_type(reference) != JSON or job not in graph.jobs:
        return {}
    make_importable(graph)
    try:
        target = find_callable(graph.jobs[job].run)
    except ConfigurationError:
        return {}
    schema = build_result_schema(target) or {}
    if not output:
        return schema
    records: dict[str, Schema] = schema.get("$defs", {})
    part = schema.get("properties", {}).get(output, {})
    return {**records.get(part.get("$ref", "").rpartition("/")[2], {}), "$defs": records}


def split_batches(rows: Iterable[ResultRow]) -> Iterator[list[Mapping[str, Any]]]:
    """Split rows into batches of bounded size."""
    batch: list[Mapping[str, Any]] = []
    size_bytes = 0
    for row in rows:
        batch.append(row.cells)
        size_bytes += row.size_bytes
        if len(batch) >= MAX_ROWS or size_bytes >= MAX_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


class TypeMismatch(ConfigurationError):
    """A cell fits no column, or not the type of its column; the message names file and field."""


class ArrowColumns:
    """Builds batches of Arrow, all with the types of the first.

    A column has the type that its job declares, else the one that its first values share. With
    ``widens``, a later batch adds the columns that it needs, and widens types that no job declares:
    nulls to any type, integers to fractions, and records by fields. It has other types then.
    """

    def __init__(
        self, columns: ResultColumns, *, widens: bool = False, schema: pa.Schema | None = None
    ) -> None:
        self._columns, self._widens = columns, widens
        self._schema = schema
        if schema is not None:
            columns.names = list(schema.names)

    @property
    def schema(self) -> pa.Schema:
        """The types, which are known once the first batch is built."""
        return self._schema if self._schema is not None else self.build([]).schema

    def build(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        """Build a batch of rows; raise ``TypeMismatch`` if a value does not fit its column."""
        if self._schema is None:
            self._columns.learn(rows)
            return self._build(rows)
        try:
            return self._build(rows)
        except TypeMismatch as mismatch:
            if not self._widens:
                raise
            self._widen(rows, mismatch)
            return self._build(rows)

    def _widen(self, rows: Sequence[Mapping[str, Any]], mismatch: TypeMismatch) -> None:
        import pyarrow as pa

        assert self._schema is not None
        self._columns.learn(rows)
        before, self._schema = self._schema, None
        names = [name for name in self._columns.names if name not in self._columns.declared]
        needed = pa.schema([(name, self._build_column(name, rows).type) for name in names])
        try:
            united = pa.unify_schemas([before, needed], promote_options="permissive")
        except pa.ArrowTypeError:
            raise mismatch from None
        self._schema = pa.schema([united.field(name) for name in self._columns.names])

    def _build(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        import pyarrow as pa

        for row in rows:
            self._columns.check(row)
        arrays = [self._build_column(name, rows) for name in self._columns.names]
        if self._schema is None:
            self._schema = pa.schema(
                [(n, a.type) for n, a in zip(self._columns.names, arrays, strict=True)]
            )
        return pa.record_batch(arrays, schema=self._schema)

    def _build_column(self, name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
        import pyarrow as pa

        type_errors = (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            pa.ArrowNotImplementedError,
            OverflowError,
        )
        wanted = self._find_type(name)
        values = []
        for row in rows:
            try:
                value = row.get(name)
                values.append(value if wanted is None else _convert(value, wanted))
            except _Unfit as error:
                raise _build_type_mismatch(row, name, wanted, str(error.args[0])) from error
        try:
            array = pa.array(values, wanted)
            if wanted is None and (filled := _drop_empty(array.type)) != array.type:
                array = pa.array([_convert(value, filled) for value in values], filled)
        except type_errors as error:
            for row, value in zip(rows, values, strict=True):
                if not _fits(value, wanted, type_errors):
                    raise _build_type_mismatch(
                        row, name, wanted, describe(row.get(name))
                    ) from error
            raise TypeMismatch(
                f"{name!r} has values of several types, from {rows[0]['uri']} on: {error}; {REMEDY}"
            ) from error
        return array

    def _find_type(self, name: str) -> pa.DataType | None:
        """Return the type of a column; None: that of its values."""
        if self._schema is not None:
            return self._schema.field(name).type
        part = self._columns.declared.get(name)
        return None if part is None else find_arrow_type(part, part.get("$defs", {}))


def find_arrow_type(part: Schema, records: Mapping[str, Schema]) -> pa.DataType | None:
    """Return the type of the values that a JSON schema describes; None if it is no single one.

    Objects of declared fields are structs, others maps.
    """
    import pyarrow as pa

    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        inner = {key: one for key, one in records.items() if key != name}
        return find_arrow_type(records[name], inner) if name in records else None
    if "anyOf" in part:
        return _find_common_type([one for one in part["anyOf"] if one != {"type": "null"}], records)
    if "enum" in part:
        return pa.string() if all(isinstance(one, str) for one in part["enum"]) else None
    match part.get("type"):
        case "array":
            return _find_list_type(part, records)
        case "object":
            return _find_object_type(part, records)
        case str(kind):
            return {
                "integer": pa.int64(),
                "number": pa.float64(),
                "boolean": pa.bool_(),
                "string": pa.string(),
                "timestamp": pa.timestamp("us", "UTC"),
            }.get(kind)
    return None


def _find_common_type(parts: Sequence[Schema], records: Mapping[str, Schema]) -> pa.DataType | None:
    import pyarrow as pa

    found = [find_arrow_type(one, records) for one in parts]
    if found and all(one in (pa.int64(), pa.float64()) for one in found):
        return pa.float64() if pa.float64() in found else pa.int64()
    return found[0] if found and all(one == found[0] for one in found) else None


def _find_list_type(part: Schema, records: Mapping[str, Schema]) -> pa.DataType | None:
    import pyarrow as pa

    parts = [*part.get("prefixItems", ()), *filter(None, [part.get("items")])]
    item = _find_common_type(parts, records)
    return None if item is None else pa.list_(item)


def _find_object_type(part: Schema, records: Mapping[str, Schema]) -> pa.DataType | None:
    import pyarrow as pa

    if part.get("properties"):
        fields = [(name, find_arrow_type(one, records)) for name, one in part["properties"].items()]
        return None if any(kind is None for _, kind in fields) else pa.struct(fields)
    value = find_arrow_type(part.get("additionalProperties") or {}, records)
    return None if value is None else pa.map_(pa.string(), value)


class _Unfit(Exception):
    """A value does not fit the type of its column; the argument describes it."""


def drop_nulls(schema: pa.Schema) -> pa.Schema:
    """Return the columns whose type is known: that of nulls alone is not."""
    import pyarrow as pa

    return pa.schema([field for field in schema if not pa.types.is_null(field.type)])


def _drop_empty(kind: pa.DataType) -> pa.DataType:
    """Return a type with nulls for objects without any key, which Parquet cannot hold."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_drop_empty(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [(one.name, _drop_empty(one.type)) for one in kind]
        return pa.struct(fields) if fields else pa.null()
    return kind


def _convert(value: Any, wanted: pa.DataType) -> Any:
    """Return a value as Arrow takes it: a map as pairs, and an object without keys as a null.

    Raises ``_Unfit`` for what Arrow would change without a word: it splits a text into a list,
    drops a key that a struct has not, and the fraction of a number in a column of integers.
    """
    import pyarrow as pa

    if value is None or (value == {} and pa.types.is_null(wanted)):
        return None
    if pa.types.is_list(wanted):
        return _convert_list(value, wanted.value_type)
    if pa.types.is_map(wanted) or pa.types.is_struct(wanted):
        return _convert_object(value, wanted)
    if pa.types.is_integer(wanted) and isinstance(value, float) and not value.is_integer():
        raise _Unfit(describe(value))
    return value


def _convert_list(value: Any, item: pa.DataType) -> list[Any]:
    import pyarrow as pa

    if not isinstance(value, list):
        raise _Unfit(describe(value))
    is_checked = pa.types.is_nested(item) or pa.types.is_integer(item) or pa.types.is_null(item)
    return [_convert(one, item) for one in value] if is_checked else value


def _convert_object(value: Any, wanted: pa.DataType) -> Any:
    import pyarrow as pa

    if not isinstance(value, dict):
        raise _Unfit(describe(value))
    if pa.types.is_map(wanted):
        return [(key, _convert(one, wanted.item_type)) for key, one in value.items()]
    for key in value:
        if wanted.get_field_index(key) < 0:
            raise _Unfit(f"an object with the key {key!r}")
    return {key: _convert(one, wanted.field(key).type) for key, one in value.items()}


def _fits(value: Any, wanted: pa.DataType | None, type_errors: tuple[type[Exception], ...]) -> bool:
    import pyarrow as pa

    try:
        pa.array([value], wanted)
    except type_errors:
        return False
    return True


def _build_type_mismatch(
    row: Mapping[str, Any], name: str, wanted: pa.DataType | None, what: str
) -> TypeMismatch:
    kind = "any type of a column" if wanted is None else f"the type of the column, {wanted}"
    return TypeMismatch(f"{row['uri']}: {name!r} is {what}, which does not fit {kind}; {REMEDY}")
