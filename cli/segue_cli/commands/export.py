"""``segue export``: write the results of jobs as one table."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from segue.adapters.bigquery import BigQueryTable
from segue.errors import ConfigurationError
from segue.extras import require
from segue.model.ledger import Ledger
from segue.model.media_file import parse_prefix
from segue.model.settings import Settings
from segue.reports.result_table import ResultColumns, RowReader, split_batches
from segue.reports.results import ArtifactReader, FileResults, check_reference, find_results
from segue.reports.row_filter import RowFilter
from segue.reports.table_keys import TableKeys, clean_name
from segue.stack import Stack, load_graph
from segue_cli.bigquery_export import Staged, TableUpdate, select_due, stage_files
from segue_cli.command import Context, check_prefix, command, complete_path, take_dash
from segue_cli.exit_code import ExitCode
from segue_cli.export_counts import Batch, ExportCounts, summarise
from segue_cli.export_pipeline import run_export_pipeline, stage_by_pipeline
from segue_cli.parameters import parse_beam_options, prefix_option
from segue_cli.table_files import BINARY, WRITERS, find_format, open_output

if TYPE_CHECKING:
    from rich.console import RenderableType


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
        "segue export beats key --to bigquery://acme/music.features",
        "segue export beats -o gs://acme-tables/beats --runner DataflowRunner --project acme",
    ),
    extra_options=True,
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
    callback=take_dash,
    help="The file to write, whose name ends in .parquet, .csv, .jsonl or .arrow. It is replaced "
    "once the new one is complete.  [default: standard output, as with -]",
    shell_complete=complete_path,
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(WRITERS)),
    metavar="|".join(WRITERS),
    help="The format.  [default: that of the file's name; jsonl for standard output]",
)
@click.option(
    "--to",
    metavar="URL",
    help="Bring a table up to date instead, bigquery://project/dataset.table: only results that it "
    "lacks are read, and rows without a current result are removed.",
)
@click.option(
    "--staging",
    metavar="URL",
    help="With --to and options of Beam: the gs:// prefix for the files that are loaded; they are "
    "removed at the end.",
)
@click.option("--dry-run", is_flag=True, help="Only count the results; read and write none.")
def export(context: Context, jobs: tuple[str, ...], prefix: str | None, **given: Any) -> ExitCode:
    """Write the current results of jobs as a table: one row per file.

    The columns are uri, version, fingerprint and finished_at, and one for each field of the result;
    lists stay lists, and sound, images and MIDI are the URI of the artifact. With several jobs, a
    file has a row if any of them has a result, and each column but uri and version begins with its
    job, such as beats.tempo_bpm. Only current results are written, those that 'segue status' counts
    as done.

    Unknown options after the jobs are passed to Beam, such as --runner. Then, and if the output
    begins with gs://, a pipeline reads the ledger, and the output is a folder of Parquet files.

    The types of Parquet and Arrow are those that a job declares, else those that hold the values of
    all files. A file whose artifact cannot be read is named, and lacks the columns of that job.
    """
    # Click takes options that it does not know, and their values, for more jobs.
    first = next((n for n, word in enumerate(jobs) if word.startswith("-")), len(jobs))
    jobs, beam = jobs[:first], jobs[first:]
    if not jobs:
        raise ConfigurationError(f"no job is named before {beam[0]!r}; name the jobs first")
    references = list(dict.fromkeys(check_reference(context.graph, job) for job in jobs))
    root = parse_prefix(prefix) if prefix else ""
    wanted = ExportOptions(**given, beam=beam)
    if wanted.to is not None:
        return _update_table(context, references, root, wanted, wanted.to)
    if wanted.staging is not None:
        raise ConfigurationError("--staging belongs to --to; leave it out")
    if wanted.is_for_pipeline:
        return _run_pipeline(context, references, root, wanted)
    return _write_here(context, references, root, wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What the options say about how an export is written."""

    where: str | None
    output: str | None
    form: str | None
    to: str | None
    staging: str | None
    dry_run: bool
    beam: Sequence[str]  # the options of Beam

    @property
    def is_for_pipeline(self) -> bool:
        """Whether a pipeline writes it."""
        return bool(self.beam) or (self.output is not None and self.output.startswith("gs://"))

    def check_table(self) -> None:
        """Refuse options that do not go with a table of BigQuery."""
        others = {"--where": self.where, "--output": self.output, "--format": self.form}
        for name, value in others.items():
            if value is not None:
                raise ConfigurationError(
                    f"--to brings all columns of all rows to a table, and excludes {name}; leave "
                    "one of them out"
                )
        if bool(self.beam) != (self.staging is not None):
            raise ConfigurationError(
                "--staging and options of Beam belong together: name the gs:// prefix for the "
                "files that a pipeline writes, or leave both out"
            )

    def check_pipeline(self) -> None:
        """Refuse options that do not go with a pipeline."""
        is_parquet = self.form in (None, "parquet")
        if self.output is not None and self.output.rpartition(".")[2].lower() in WRITERS:
            raise ConfigurationError(
                f"a pipeline writes a folder of Parquet files, and {self.output!r} is named like a "
                "file; name a folder, or leave out the options of Beam"
            )
        if self.output is None or self.where is not None or self.dry_run or not is_parquet:
            raise ConfigurationError(
                "a pipeline writes all rows as Parquet: name a folder or gs:// prefix with "
                "--output, and leave out --where, --dry-run and other formats; or leave out the "
                "options of Beam"
            )


def _write_here(
    context: Context, references: Sequence[str], prefix: str, wanted: ExportOptions
) -> ExitCode:
    where, output, dry_run = wanted.where, wanted.output, wanted.dry_run
    form = find_format(output, wanted.form)
    if dry_run and where is not None:
        raise ConfigurationError(
            "--dry-run reads no results, and --where has to; leave one of them out"
        )
    if not dry_run:
        _check_output(context, output, form)
    counts = ExportCounts(context.graph, RowReader(references), context.output.note)
    with context.open() as stack:
        check_prefix(stack.ledger, prefix)
        files = _find_results(stack, references, prefix)
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
        context.output.note(summarise(counts, prefix, "standard output"))
    else:
        context.output.print(summarise(counts, prefix, None if dry_run else output))
    return ExitCode.FAILURES if counts.unreadable.total() else ExitCode.OK


def _find_results(stack: Stack, references: Sequence[str], prefix: str) -> Iterator[FileResults]:
    reader = ArtifactReader(stack.graph.artifacts)
    return find_results(stack.ledger, stack.graph, references, reader, prefix)


def _run_pipeline(
    context: Context, references: Sequence[str], prefix: str, wanted: ExportOptions
) -> ExitCode:
    wanted.check_pipeline()
    output = str(wanted.output)
    require("an export by a pipeline", "pipelines")
    counts = ExportCounts(context.graph, RowReader(references), context.output.note)
    run_export_pipeline(
        context, counts, parse_beam_options(wanted.beam), prefix=prefix, output=output
    )
    if context.output.as_json:
        context.output.write_json({"output": output, "format": "parquet", **counts.to_json()})
    else:
        context.output.print(summarise(counts, prefix, output))
    return ExitCode.FAILURES if counts.unreadable.total() else ExitCode.OK


def _update_table(
    context: Context, references: Sequence[str], prefix: str, wanted: ExportOptions, url: str
) -> ExitCode:
    wanted.check_table()
    staging, dry_run = wanted.staging, wanted.dry_run
    require("--to bigquery://", "pipelines")
    counts = ExportCounts(context.graph, RowReader(references, clean_name), context.output.note)
    options = parse_beam_options(wanted.beam) if staging is not None else None
    with contextlib.ExitStack() as opened:
        table = opened.enter_context(contextlib.closing(BigQueryTable(url)))
        update = TableUpdate(table, references, prefix)
        since = update.find_since()
        stack = opened.enter_context(context.open())
        if since is not None:
            update.check_ledger(stack.ledger)
        if dry_run or options is None or staging is None:
            here = _StageHere(context, stack, counts, update.keys, prefix)
            if dry_run:
                here.count(since)
            else:
                folder = tempfile.TemporaryDirectory(prefix="segue-export-")
                update.run(since, partial(here.stage, opened.enter_context(folder)))
        else:
            update.run(since, partial(stage_by_pipeline, context, counts, options, prefix, staging))
    if context.output.as_json:
        found = {"to": url, "since": since.isoformat() if since else None, "dry_run": dry_run}
        context.output.write_json({**found, "unchanged": counts.unchanged, **counts.to_json()})
    else:
        context.output.print(summarise(counts, prefix, None if dry_run else url))
    return ExitCode.FAILURES if counts.unreadable.total() else ExitCode.OK


class _StageHere:
    """Reads in this process what a table lacks."""

    def __init__(
        self, context: Context, stack: Stack, counts: ExportCounts, keys: TableKeys, prefix: str
    ) -> None:
        self._context, self._stack, self._counts, self._keys = context, stack, counts, keys
        self._prefix = prefix
        self._total = None if prefix else partial(count_files, stack.ledger)

    def count(self, since: datetime | None) -> None:
        """Count what is due."""
        with _show_progress(self._context, self._counts, self._total, is_shown=True):
            self._counts.count(select_due(self._find(), since, self._counts.pass_over))

    def stage(self, folder: str, since: datetime | None) -> Staged:
        """Write what is due, and the keys of everything."""
        self._counts.reset()
        columns = ResultColumns(self._stack.graph, self._counts.references, clean_name)
        with _show_progress(self._context, self._counts, self._total, is_shown=True):
            return stage_files(self._find(), since, folder, self._counts, columns, self._keys)

    def _find(self) -> Iterator[FileResults]:
        return _find_results(self._stack, self._counts.references, self._prefix)


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
