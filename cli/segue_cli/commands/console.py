"""``segue console``: a web page on which to see and hear a catalogue."""

from __future__ import annotations

import os
import webbrowser

import click

from segue.errors import ConfigurationError
from segue.model.media_file import parse_location
from segue_cli.command import Context, command, complete_path
from segue_cli.commands.up import PORT, load_settings, show_address
from segue_cli.local.signals import Signals


@command(
    requires=("console",),
    settings=("graph", "catalogue", "artifacts", "models", "ledger", "queue", "price", "vcpus"),
    examples=(
        "segue console",
        "segue console --allow-changes --port 9000",
        "segue console platform/jobs.yaml rhythm/jobs.yaml --no-browser",
    ),
)
@click.argument(
    "places",
    nargs=-1,
    metavar="[FOLDER|GRAPH]...",
    help="The folder with the media, which overrides --catalogue; and the files of the graphs to "
    "show, if there are several, or instead of --graph.",
    shell_complete=complete_path,
)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=PORT,
    metavar="N",
    help="The port; 0 picks a free one.",
)
@click.option("--allow-changes", is_flag=True, help="Let the page request, retry and cancel.")
@click.option("--no-browser", is_flag=True, help="Only print the address; open no browser.")
def console(
    context: Context, places: tuple[str, ...], port: int, allow_changes: bool, no_browser: bool
) -> None:
    """Show a catalogue and its results in a web page: see them, and hear them.

    The page shows the graph with the state of each job, finds files, plays them beside what was
    computed of them, and shows runs and failures. It reads the same ledger as the other commands,
    and changes nothing unless --allow-changes is given. It can be reached from this machine only,
    with the address that is printed, which has a new token at each start. Ctrl-C stops it.
    """
    from segue_console.namespace import open_namespaces
    from segue_console.server import serve_console

    settings = load_settings(context.settings, places)
    for one in settings:
        _check_catalogue(one.catalogue)
    with (
        Signals() as signals,
        open_namespaces(settings) as namespaces,
        serve_console(namespaces, port=port, allow_changes=allow_changes) as server,
    ):
        show_address(context.output, server.url)
        context.output.note("Ctrl-C stops it.")
        if not no_browser and context.output.stdout.is_terminal:
            webbrowser.open(server.create_single_use_url())
        while not signals.wait(1.0):
            pass


def _check_catalogue(catalogue: str | None) -> None:
    """Raise an error if there is no such folder; without one, the page shows what is recorded."""
    if catalogue is None or not (location := parse_location(catalogue)).startswith("file://"):
        return
    if not os.path.isdir(location.removeprefix("file://")):
        raise ConfigurationError(
            f"there is no folder {catalogue!r} with media, and it is not the file of a graph; "
            "check the path"
        )
