"""``segue publish``: publish what other teams may use of a graph."""

from __future__ import annotations

from contextlib import closing

import click

from segue.errors import ConfigurationError
from segue.registry.publication import build_manifest, compare_publication, open_registry
from segue.registry.publication import publish as publish_manifest
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.views.output import build_table


@command(
    settings=("graph", "registry", "ledger", "queue", "artifacts", "catalogue"),
    examples=("segue publish --dry-run", "segue publish"),
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and publish nothing.")
@click.option(
    "--break",
    "break_pins",
    is_flag=True,
    help="Publish even if this takes away results that other teams are locked to.",
)
def publish(context: Context, dry_run: bool, break_pins: bool) -> ExitCode | None:
    """Publish what other teams may use of this graph.

    The manifest in the registry names the jobs with 'publish: true', their fingerprints, and where
    their results are; and what this graph itself is locked to. A fingerprint that another team is
    locked to is not taken away unless --break is given. With --dry-run, the exit code is 3 if the
    publication would be refused.
    """
    graph = context.graph
    if graph.registry is None:
        raise ConfigurationError(
            "no registry is set; write 'registry:' in the graph, or set SEGUE_REGISTRY"
        )
    manifest = build_manifest(graph, context.settings)
    with closing(open_registry(graph.registry)) as registry:
        if dry_run:
            publication = compare_publication(registry, manifest)
        else:
            publication = publish_manifest(registry, manifest, break_pins=break_pins)
    before = publication.previous.jobs if publication.previous is not None else {}
    refused = bool(publication.broken) and not break_pins
    if context.output.as_json:
        context.output.write_json(
            {
                "namespace": manifest.namespace,
                "registry": graph.registry,
                "changed": publication.is_changed,
                "jobs": {name: job.fingerprint for name, job in manifest.jobs.items()},
                "previous": {name: job.fingerprint for name, job in before.items()},
                "pins": manifest.pins,
                "broken": [
                    {"namespace": b.namespace, "job": b.job, "fingerprint": b.fingerprint}
                    for b in publication.broken
                ],
            }
        )
        return ExitCode.FAILURES if refused else None
    rows = build_table("job", "fingerprint", "before", "change")
    for name in dict.fromkeys((*manifest.jobs, *before)):
        new, old = manifest.jobs.get(name), before.get(name)
        change = "same" if new == old else "changed"
        if old is None or new is None:
            change = "new" if old is None else "removed"
        rows.add_row(name, new.fingerprint if new else "", old.fingerprint if old else "", change)
    if rows.row_count:
        context.output.print(rows)
    for pin in publication.broken:
        who = f"{pin.namespace} ({pin.contact})" if pin.contact else pin.namespace
        context.output.note(f"{who} is locked to {pin.job} {pin.fingerprint}.")
    if dry_run:
        context.output.note("Nothing was published." + (" It would be refused." * refused))
    elif publication.is_changed:
        context.output.note(f"Published {manifest.namespace} to {graph.registry}.")
    else:
        context.output.note("The registry has this already.")
    return ExitCode.FAILURES if refused else None
