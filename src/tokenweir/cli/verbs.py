"""How a verb is added to the command line: its function, its name and examples that a test can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from tokenweir.cli.group import SectionGroup


def group() -> typer.Typer:
    """Return a group of verbs, to be added with a name and a help text."""
    return typer.Typer(cls=SectionGroup, no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer, function: Callable[..., Any], *examples: str, name: str | None = None) -> None:
    """Add a verb. Its docstring is its help, and the examples stand below the options, each on a line of its own."""
    # The mark \b keeps the parser from joining the lines of a paragraph.
    epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
    app.command(name=name, epilog=epilog if examples else None)(function)
