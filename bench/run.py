"""The run to measure: a Segue backfill."""

from __future__ import annotations

from segue.model.graph import read_graph
from segue.model.media_file import parse_prefix
from segue.model.outcome import RunTotals
from segue_pipelines.backfill import BackfillRun, execute
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.sources import Selection


def run_segue(graph: str, catalogue: str, work: str, targets: list[str]) -> RunTotals:
    """Run a backfill with the embedded stack in a folder."""
    backfill = BackfillRun(
        graph=read_graph(graph),
        selection=Selection(prefix=parse_prefix(catalogue + "/")),
        targets=tuple(targets),
        ledger=f"sqlite:///{work}/ledger.db",
        artifacts=f"file://{work}/artifacts",
    )
    return execute(backfill, parse_pipeline_options())
