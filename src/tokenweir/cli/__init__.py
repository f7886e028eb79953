"""The command line, one module per verb."""

from __future__ import annotations

import importlib
from typing import Annotated, Final

import typer

from tokenweir import __version__
from tokenweir.cli.console import out
from tokenweir.cli.group import VerbGroup

#: The modules with verbs; each has ``register(app)``. They import what they work with only when they are called.
_MODULES: Final = (
    "demo",
    "sanitize",
    "lint",
    "plan",
    "explain",
    "schema",
    "configschema",
    "keys",
    "doctor",
    "preview",
    "run",
    "consent",
    "erase",
    "offsets",
    "replay",
    "detokenize",
    "serve",
    "grants",
    "audit",
    "report",
    "version",
)

app = typer.Typer(
    name="tokenweir",
    cls=VerbGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        out(f"tokenweir {__version__}")
        raise typer.Exit


@app.callback()
def tokenweir(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Decide field by field what may leave a Kafka topic: tokens, consent, sanitized topics.

    Data goes to standard output, talk to standard error.
    Exit codes: 0 done, 1 findings or failure, 2 wrong usage, 3 refused for safety.
    """


for _name in _MODULES:
    importlib.import_module(f"tokenweir.cli.{_name}").register(app)
