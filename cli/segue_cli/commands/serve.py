"""``segue serve``: serve the Cloud Functions on this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets

import click

from segue.errors import ConfigurationError
from segue_cli.command import Context, command

FOLDER = ".segue"


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
    for results to /request. Each start makes a new token, which callers have to send, and writes
    it to .segue/serve-PORT.header, which only you can read. To record a file, and notify its jobs,
    run for example

    \b
        curl http://127.0.0.1:8080/arrival -H @.segue/serve-8080.header \\
          -H 'Content-Type: application/cloudevents+json' -d '{
          "specversion": "1.0", "id": "1", "source": "//storage.googleapis.com/",
          "type": "google.cloud.storage.object.v1.finalized",
          "data": {"bucket": "acme-audio", "name": "song.flac", "generation": "1"}}'

    A local file has an empty bucket, its path without the first slash as its name, and needs no
    generation: whatever is told of it, the file is looked at. Results are computed by 'segue
    stream' or 'segue up', which do not need this server. Web pages are refused. Ctrl-C stops the
    server after the requests under way.
    """
    from segue.log import configure
    from segue_cli.local.programs import export_settings
    from segue_functions import server

    if not _is_loopback(host):
        context.output.note(
            f"Warning: whoever reaches {host} and knows the token can record files and request "
            "results; the token is sent unencrypted."
        )
    configure(as_json=True if context.output.as_json else None)
    token = secrets.token_urlsafe()
    with contextlib.ExitStack() as opened:
        opened.enter_context(export_settings(context.settings))

        def save_token(_host: str, actual_port: int) -> None:
            path = os.path.join(FOLDER, f"serve-{actual_port}.header")
            _write_secret(path, f"Authorization: Bearer {token}\n")
            opened.callback(_remove, path)
            context.output.note(f"Send the header in {path} with each request.")

        server.serve(host, port, token=token, on_start=save_token)


def _write_secret(path: str, text: str) -> None:
    """Write a file that only its owner can read, whoever could read the one before."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _remove(path)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{path!r} cannot be written ({error.strerror}); start the server in another folder"
        ) from error


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
