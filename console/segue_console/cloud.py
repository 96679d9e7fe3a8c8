"""Serves the console in the cloud, behind Identity-Aware Proxy: it only reads.

Usage: ``python -m segue_console.cloud``, on Cloud Run. ``PORT`` is where it listens,
``SEGUE_CONSOLE_AUDIENCE`` what the proxy signs for, and the settings are as everywhere.
"""

from __future__ import annotations

import os

import uvicorn

from segue.errors import ConfigurationError
from segue.log import configure
from segue.model.settings import Settings
from segue_console.app import build_app
from segue_console.namespace import open_namespaces
from segue_console.plans import Plans
from segue_console.security import ProxyAccess
from segue_console.waveforms import Waveforms

AUDIENCE = "SEGUE_CONSOLE_AUDIENCE"
END_S = 5


def main() -> None:
    """Serve until the container is stopped."""
    configure(as_json=True)
    audience = os.environ.get(AUDIENCE)
    if not audience:
        raise ConfigurationError(
            f"{AUDIENCE} is not set, so nobody could be let in; deploy the console with Terraform"
        )
    with open_namespaces([Settings.load()]) as namespaces:
        waveforms, plans = Waveforms(), Plans()
        app = build_app(
            namespaces,
            waveforms=waveforms,
            plans=plans,
            access=ProxyAccess(audience),
            hosts=None,
        )
        try:
            uvicorn.run(
                app,
                host="0.0.0.0",  # noqa: S104 - of the container, whose only caller is the proxy
                port=int(os.environ.get("PORT", "8080")),
                access_log=False,
                log_config=None,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=END_S,
            )
        finally:
            for namespace in namespaces.values():
                namespace.live.stop()
            waveforms.close()
            plans.close()


if __name__ == "__main__":
    main()
