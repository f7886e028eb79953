"""``tokenweir run``: the gateway in the foreground."""

from __future__ import annotations

import os
import signal

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import fail, talk
from tokenweir.cli.options import ConfigOption, config_path
from tokenweir.errors import TokenweirError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        run,
        "tokenweir run --config tokenweir.yaml",
        "TOKENWEIR__GATEWAY__WORKERS=4 tokenweir run -c tokenweir.yaml",
    )


def run(config: ConfigOption = None) -> None:
    """Run the gateway until it is told to stop.

    SIGTERM or Ctrl-C finishes the transactions under way. Without a file, the configuration comes from TOKENWEIR__…
    variables alone. Exit codes: 0 stopped, 1 findings, 2 wrong usage, 3 refused: something that it needs is not fit.
    """
    from tokenweir.app.cluster import open_cluster  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.runtime.gateway import Gateway  # noqa: PLC0415 - as above.
    from tokenweir.runtime.supervisor import Supervisor  # noqa: PLC0415 - as above.
    from tokenweir.telemetry.logs import configure_logging, log_refusal  # noqa: PLC0415 - as above.

    found, workspace = open_cluster(config_path(config), os.environ)
    for finding in workspace.findings:
        talk(str(finding), style="yellow")
    configure_logging(found.logging.level, found.logging.format, process="supervisor")
    try:
        supervisor = Supervisor(Gateway.open(found))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        code = supervisor.run()
    except TokenweirError as error:
        try:
            fail(error)
        finally:
            # Whoever collects the log reads no line but those of its format; a person has read the one before.
            log_refusal(error)
    raise typer.Exit(code)
