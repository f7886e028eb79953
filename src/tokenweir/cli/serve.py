"""``tokenweir serve``: the HTTP API that turns tokens back into values."""

from __future__ import annotations

import importlib.util

import typer

from tokenweir.cli import verbs
from tokenweir.cli.detokenize import open_granted
from tokenweir.cli.options import ConfigOption
from tokenweir.errors import RefusedError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(app, serve, "tokenweir serve --config tokenweir.yaml")


def serve(config: ConfigOption = None) -> None:
    """Serve the HTTP API that turns tokens back into values, in the foreground.

    Who calls is known by an access token of OpenID Connect (`serve.oidc`), by a client certificate
    (`serve.tls.client_ca`), or by both; what they may ask stands in the grants file. Every request is in the audit log
    before it is answered. Needs the extra `serve`: pip install 'tokenweir[serve]'.
    """
    missing = [name for name in ("fastapi", "uvicorn", "joserfc") if importlib.util.find_spec(name) is None]
    if missing:
        raise RefusedError(f"{', '.join(missing)} is not installed: pip install 'tokenweir[serve]'")
    from tokenweir.api import server  # noqa: PLC0415 - slow to import; and it needs the extra.
    from tokenweir.telemetry.logs import configure_logging  # noqa: PLC0415 - slow to import.

    workspace = open_granted(config)
    if workspace.config is not None:
        configure_logging(workspace.config.logging.level, workspace.config.logging.format, process="serve")
    server.serve(workspace)
