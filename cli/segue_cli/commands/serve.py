"""``segue serve``: serve the Cloud Functions on this machine."""

from __future__ import annotations

import ipaddress

import click

from segue_cli.command import Context, command


@command(
    requires=("functions",),
    settings=("graph", "catalogue", "artifacts", "ledger", "queue", "on_deletion"),
    examples=("segue serve", "segue serve --port 9000 --catalogue ~/Music"),
)
@click.option(
    "--host", default="127.0.0.1", metavar="ADDRESS", help="The address on which to listen."
)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=8080,
    metavar="N",
    help="The port; 0 picks a free one.",
)
def serve(context: Context, host: str, port: int) -> None:
    """Serve the Cloud Functions on this machine, to post events by hand.

    Each function is at its name: POST CloudEvents to /arrival, /deletion and /sweep, and requests
    for results to /request. To record a file, and notify its jobs, run for example

    \b
        curl http://127.0.0.1:8080/arrival -H 'Content-Type: application/cloudevents+json' -d '{
          "specversion": "1.0", "id": "1", "source": "//storage.googleapis.com/",
          "type": "google.cloud.storage.object.v1.finalized",
          "data": {"bucket": "acme-audio", "name": "song.flac", "generation": "1"}}'

    A local file has an empty bucket, its path without the first slash as its name, and its change
    time in nanoseconds as its generation. Results are computed by 'segue stream' or 'segue up',
    which do not need this server. There is no authentication, but web pages are refused. Ctrl-C
    stops the server after the requests under way.
    """
    from segue.log import configure
    from segue_cli.local.programs import export_settings
    from segue_functions import server

    if not _is_loopback(host):
        context.output.note(
            f"Warning: whoever reaches {host} can record files and request results; there is no "
            "authentication."
        )
    configure(as_json=True if context.output.as_json else None)
    with export_settings(context.settings):
        server.serve(host, port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
