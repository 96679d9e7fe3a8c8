"""What is measured: a Segue backfill, and a bare Beam pipeline over the same files."""

from __future__ import annotations

from segue.model.graph import load
from segue.model.location import prefix_uri
from segue.model.outcome import Tally
from segue_pipelines.backfill import Backfill, execute
from segue_pipelines.options import pipeline_options
from segue_pipelines.sources import Selection, list_files


def segue(
    graph: str, catalogue: str, work: str, targets: list[str], *, dry_run: bool = False
) -> Tally:
    """Run a backfill with the embedded stack in a folder."""
    backfill = Backfill(
        graph=load(graph),
        selection=Selection(prefix=prefix_uri(catalogue + "/")),
        targets=tuple(targets),
        ledger=f"sqlite:///{work}/ledger.db",
        artifacts=f"file://{work}/artifacts",
        dry_run=dry_run,
    )
    return execute(backfill, pipeline_options())


def bare(catalogue: str, jobs: int) -> None:
    """List the same files, and map each through as many functions that do nothing."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        step = (
            pipeline
            | beam.Create([prefix_uri(catalogue + "/")], reshuffle=False)
            | "List" >> beam.FlatMap(lambda prefix: list_files(Selection(prefix=prefix)))
        )
        for i in range(jobs):
            step = step | f"Job {i}" >> beam.Map(lambda media: media)
