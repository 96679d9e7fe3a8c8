"""``segue request``: request results from the streaming pipelines."""

from __future__ import annotations

import click
import msgspec

from segue import text
from segue.errors import ConfigurationError
from segue.ingest.exclusions import describe_passed_over
from segue.ingest.request_client import build_request, open_requests, send_request
from segue.ingest.requests import load_request
from segue.model.criteria import Criteria
from segue_cli.command import Context, check_prefix, command, complete_path
from segue_cli.commands.watch import follow
from segue_cli.criteria_options import add_criteria_options
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import (
    all_option,
    force_option,
    select_targets,
    target_option,
    timeout_option,
)


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue request song.flac --job beats",
        "segue request --prefix gs://acme-audio/masters/2026/ --job energy --watch",
        "segue request song.flac --job beats --force",
    ),
)
@click.argument(
    "files",
    nargs=-1,
    metavar="[FILE]...",
    help="Paths, URIs (gs://bucket/name), or paths relative to the catalogue.",
    shell_complete=complete_path,
)
@click.option(
    "--prefix",
    metavar="PREFIX",
    help="All files below a folder or gs:// prefix.",
    shell_complete=complete_path,
)
@add_criteria_options
@target_option
@all_option
@force_option
@click.option(
    "--parents", is_flag=True, help="With --force, also recompute the jobs they depend on."
)
@click.option("--watch", is_flag=True, help="Follow the request until it is done.")
@timeout_option
def request(
    context: Context,
    *,
    files: tuple[str, ...],
    prefix: str | None,
    jobs: tuple[str, ...],
    everything: bool,
    force: bool,
    parents: bool,
    watch: bool,
    timeout: float | None,
    criteria: Criteria,
) -> ExitCode:
    """Request results for files or a prefix from the streaming pipelines.

    Missing results of the named jobs, and of the jobs they depend on, are computed. Files that are
    not in the ledger yet are recorded first. The command prints an id, with which 'segue watch'
    follows the request. Requests have a topic of their own and do not delay arrivals. For a whole
    catalogue, 'segue backfill' is cheaper. The options that select among the files of a prefix do
    not compute probes first: request these before.
    """
    new_request = msgspec.structs.replace(
        build_request(context.graph, list(files), prefix),
        jobs=select_targets(context.graph, jobs, everything=everything),
        force=force,
        parents=parents,
        **msgspec.structs.asdict(criteria),
    )
    if criteria != Criteria() and prefix is None:
        raise ConfigurationError(
            "options that select files need --prefix; leave them out, or name a folder with it"
        )
    if parents and not force:
        raise ConfigurationError(
            "--parents has no effect without --force; add it or leave both out"
        )
    with context.open(create=True) as stack, open_requests(stack) as requests:
        check_prefix(stack.ledger, new_request.prefix or "")
        receipt = send_request(requests, new_request)
        is_followed = watch and receipt.files > 0
        if not context.output.as_json:
            for uri, reason in receipt.ignored.items():
                context.output.note(f"Ignored: {uri}: {reason}.")
            count = text.format_count(receipt.files, "file")
            for line in describe_passed_over(receipt):
                context.output.note(line)
            context.output.print(
                f"Requested {', '.join(receipt.targets)} for {count}: {receipt.request}"
            )
            if receipt.files and not watch:
                context.output.print(f"To follow it: segue watch {receipt.request}")
        elif is_followed:  # the result comes at the end, and names the request, too
            context.output.note(f"To follow it: segue watch {receipt.request}")
        else:
            context.output.write_json(msgspec.to_builtins(receipt))
        is_incomplete = bool(receipt.ignored or receipt.without_probe)
        if not is_followed:
            return ExitCode.FAILURES if is_incomplete or not receipt.files else ExitCode.OK
        run = load_request(stack.artifacts, receipt.request)
        left = tuple(uri for uri in run.selection.files if uri not in receipt.ignored)
        selection = msgspec.structs.replace(run.selection, files=left)
        run = msgspec.structs.replace(run, selection=selection)
        code = follow(context, stack, run, timeout)
        return ExitCode.FAILURES if is_incomplete and code == ExitCode.OK else code
