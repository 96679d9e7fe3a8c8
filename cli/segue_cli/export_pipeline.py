"""Exports results by a pipeline, to a folder or for BigQuery."""

from __future__ import annotations

import contextlib
import secrets
from datetime import datetime
from typing import TYPE_CHECKING

from segue.adapters.bigquery import ParquetFiles
from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError
from segue_cli.bigquery_export import Staged
from segue_cli.command import Context
from segue_cli.export_counts import ExportCounts
from segue_cli.pipeline_progress import configure_log

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def run_export_pipeline(
    context: Context,
    counts: ExportCounts,
    options: PipelineOptions,
    *,
    prefix: str,
    output: str,
    since: datetime | None = None,
    with_keys: bool = False,
) -> None:
    """Run the pipeline to its end, and count what it exported."""
    from segue_pipelines.export import ExportRun, execute

    run = ExportRun(
        graph=context.graph,
        references=tuple(counts.references),
        ledger=context.settings.ledger,
        prefix=prefix,
        output=output,
        since=since,
        with_keys=with_keys,
    )
    configure_log(options)
    totals = execute(run, options)
    counts.files, counts.rows, counts.unchanged = totals.files, totals.rows, totals.unchanged
    counts.results, counts.unreadable = totals.results, totals.unreadable


def stage_by_pipeline(
    context: Context,
    counts: ExportCounts,
    options: PipelineOptions,
    prefix: str,
    staging: str,
    since: datetime | None,
) -> Staged:
    """Let a pipeline write what is due, and the keys of everything, to a place of its own."""
    if not staging.startswith("gs://"):
        raise ConfigurationError(
            f"--staging is {staging!r}, from which BigQuery cannot load; name a gs:// prefix"
        )
    place = f"{staging.rstrip('/')}/{secrets.token_hex(8)}"
    run_export_pipeline(
        context,
        counts,
        options,
        prefix=prefix,
        output=place,
        since=since,
        with_keys=True,
    )
    return Staged(
        keys=ParquetFiles(uris=[f"{place}/keys-*.parquet"]),
        rows=ParquetFiles(uris=[f"{place}/rows-*.parquet"]),
        remove=lambda: remove_files(place),
    )


def remove_files(place: str) -> None:
    """Remove the files that a pipeline has written."""
    with contextlib.closing(connect_store(place)) as store:
        for found in list(store.list("")):
            store.delete(found.name)
