"""``segue export``: write the results of jobs as one table."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from segue.errors import ConfigurationError
from segue.extras import require
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.media_file import parse_prefix
from segue.model.settings import Settings
from segue.reports.result_table import (
    ResultColumns,
    ResultRow,
    RowReader,
    read_ahead,
    split_batches,
)
from segue.reports.results import ArtifactReader, FileResults, check_reference, find_results
from segue.reports.row_filter import RowFilter
from segue.stack import load_graph
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import prefix_option
from segue_cli.table_files import BINARY, WRITERS, find_format, open_output
from segue_cli.views import text

if TYPE_CHECKING:
    from rich.console import RenderableType

Batch = list[Mapping[str, Any]]
NAMED = 20  # of the artifacts that cannot be read


def complete_reference(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a job, or an output of a job with several, of the graph that is selected."""
    try:
        graph = load_graph(Settings.load(graph=ctx.params.get("graph")))
    except ConfigurationError:
        return []
    return [
        CompletionItem(reference, help=(graph.jobs.get(job) or graph.foreign[job]).description)
        for job in (*graph.jobs, *graph.foreign)
        for output in graph.find_outputs(job)
        if (reference := f"{job}.{output}" if output else job).startswith(incomplete)
    ]


@command(
    settings=("graph", "artifacts", "ledger"),
    examples=(
        "segue export beats -o beats.parquet",
        "segue export beats loudness key --prefix gs://acme-audio/masters/ -o features.csv",
        "segue export beats -o fast.parquet --where 'beats.tempo_bpm > 120'",
        "segue export pitch.summary --graph melody > pitch.jsonl",
        "segue export beats loudness --dry-run",
    ),
)
@click.argument(
    "jobs",
    nargs=-1,
    required=True,
    metavar="JOB...",
    help="The jobs; of one with several outputs, an output, as JOB.OUTPUT; of another namespace "
    "that the graph needs, NAMESPACE/JOB.  [required]",
    shell_complete=complete_reference,
)
@prefix_option
@click.option(
    "--where",
    metavar="CONDITION",
    help="Only rows whose columns meet a condition, in SQLite's language, such as "
    "'beats.tempo_bpm > 120'.",
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="The file to write, whose name ends in .parquet, .csv, .jsonl or .arrow. It is replaced "
    "once the new one is complete.  [default: standard output]",
    shell_complete=complete_path,
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(WRITERS)),
    help="The format.  [default: that of the file's name; jsonl for standard output]",
)
@click.option("--dry-run", is_flag=True, help="Only count the results; read and write none.")
def export(
    context: Context,
    jobs: tuple[str, ...],
    prefix: str | None,
    where: str | None,
    output: str | None,
    form: str | None,
    dry_run: bool,
) -> ExitCode:
    """Write the current results of jobs as a table: one row per file.

    The columns are uri, version, fingerprint and finished_at, and one for each field of the result;
    lists stay lists, and sound, images and MIDI are the URI of the artifact. With several jobs, a
    file has a row if any of them has a result, and each column but uri and version begins with its
    job, such as beats.tempo_bpm. Only current results are written, those that 'segue status' counts
    as done.

    The types of Parquet and Arrow are those that a job declares, else those that hold the values of
    all files. A file whose artifact cannot be read is named, and lacks the columns of that job.
    """
    references = list(dict.fromkeys(check_reference(context.graph, job) for job in jobs))
    form = find_format(output, form)
    if dry_run and where is not None:
        raise ConfigurationError(
            "--dry-run reads no results, and --where has to; leave one of them out"
        )
    if not dry_run:
        _check_output(context, output, form)
    counts = ExportCounts(context.graph, references, context.output.note)
    with context.open() as stack:
        files = find_results(
            stack.ledger,
            stack.graph,
            references,
            ArtifactReader(stack.graph.artifacts),
            parse_prefix(prefix) if prefix else "",
        )
        columns = ResultColumns(stack.graph, references)
        total = None if prefix else partial(count_files, stack.ledger)
        with _show_progress(context, counts, total, is_shown=output is not None or dry_run):
            if dry_run:
                counts.count(files)
            else:
                batches = split_batches(counts.read(files))
                if where is not None:
                    batches = counts.filter(batches, RowFilter(where, references, columns))
                _write(batches, columns, form, output)
    if context.output.as_json:
        found = {"output": output, "format": form, "dry_run": dry_run, "columns": columns.names}
        context.output.write_json({**found, **counts.to_json()})
    elif output is None and not dry_run:
        context.output.note(_summarise(counts, "standard output"))
    else:
        context.output.print(_summarise(counts, None if dry_run else output))
    return ExitCode.FAILURES if counts.unreadable.total() else ExitCode.OK


def _check_output(context: Context, output: str | None, form: str) -> None:
    if output is None and context.output.as_json:
        raise ConfigurationError(
            "--json writes a summary to standard output, where the rows go; name a file with "
            "--output"
        )
    if output is None and form != "jsonl" and sys.stdout.isatty():
        # Only JSON escapes the control characters that strangers may have written into tags.
        raise ConfigurationError(
            f"{form} is not for a terminal; name a file with --output, or use --format jsonl"
        )
    if form in BINARY:
        require(f"the format {form}", "audio")


class ExportCounts:
    """How many files, rows and results there are, and which artifacts cannot be read."""

    def __init__(
        self, graph: Graph, references: Sequence[str], note: Callable[[str], None]
    ) -> None:
        self.files = self.rows = self.filtered = 0
        self.results: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.faults: list[dict[str, str]] = []  # the first ones
        self._reader = RowReader(references)
        self.references = references
        self._graph, self._note = graph, note

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


def count_files(ledger: Ledger) -> int:
    """Count the files of a ledger that exist."""
    return ledger.count({}).files


def _write(batches: Iterable[Batch], columns: ResultColumns, form: str, output: str | None) -> None:
    with open_output(output) as file:
        writer = WRITERS[form](file, columns)
        try:
            for batch in batches:
                writer.write(batch)
            writer.close()
        except BaseException:
            writer.abandon()
            raise


@contextlib.contextmanager
def _show_progress(
    context: Context,
    counts: ExportCounts,
    count_total: Callable[[], int] | None,
    *,
    is_shown: bool,
) -> Iterator[None]:
    """Show a bar on standard error, unless the rows may go to the same terminal."""
    console = context.output.stderr
    if not is_shown or not console.is_terminal:
        yield
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class ExportBar(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            for task in self.tasks:
                rate = f"{counts.files / (task.elapsed or 1.0):,.0f} files/s"
                self.update(task.id, completed=counts.files, rate=rate if counts.files else "")
            yield from super().get_renderables()

    bar = ExportBar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    )
    bar.add_task("export", total=count_total() if count_total else None, rate="")
    with bar:
        yield


def _summarise(counts: ExportCounts, written: str | None) -> str:
    """Return the counts for people; ``written`` is where the rows are, None for nowhere."""
    rows = text.format_count(counts.rows - counts.filtered, "row")
    head = f"{rows} to write" if written is None else f"{rows} written to {written}"
    lines = [f"{head}; {text.format_count(counts.files, 'file')} in the ledger."]
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
