"""The runs to measure: a Segue backfill, and a bare Beam pipeline over the same files."""

from __future__ import annotations

from segue.model.graph import read_graph
from segue.model.location import parse_prefix
from segue.model.outcome import RunTotals
from segue_pipelines.backfill import BackfillRun, execute
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.sources import Selection, list_files


def run_segue(
    graph: str, catalogue: str, work: str, targets: list[str], *, dry_run: bool = False
) -> RunTotals:
    """Run a backfill with the embedded stack in a folder."""
    backfill = BackfillRun(
        graph=read_graph(graph),
        selection=Selection(prefix=parse_prefix(catalogue + "/")),
        targets=tuple(targets),
        ledger=f"sqlite:///{work}/ledger.db",
        artifacts=f"file://{work}/artifacts",
        dry_run=dry_run,
    )
    return execute(backfill, parse_pipeline_options())


def run_bare(catalogue: str, jobs: int) -> None:
    """List the same files, and map each through functions that do nothing, one per job."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        step = (
            pipeline
            | beam.Create([parse_prefix(catalogue + "/")], reshuffle=False)
            | "List" >> beam.FlatMap(lambda prefix: list_files(Selection(prefix=prefix)))
        )
        for i in range(jobs):
            step = step | f"Job {i}" >> beam.Map(lambda media: media)
