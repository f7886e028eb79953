"""How a verb is added to the command line: its function, its name and examples that a test can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand

from tokenweir.cli.group import SectionGroup


class PlainCommand(TyperCommand):
    """A verb whose help names its arguments and has no words of the framework beside them, such as ``<list[str]>``."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - whatever Typer gives.
        super().__init__(*arguments, **named)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument) and not parameter.type_descriptor.is_choice:
                # An instance's own attribute hides the method of its class, which Typer gives no way to choose.
                parameter.display_type = _nothing  # type: ignore[method-assign]


def _nothing(ctx: Any) -> str:  # noqa: ANN401, ARG001 - Typer brings its own copy of click, whose types are private.
    return ""


def group() -> typer.Typer:
    """Return a group of verbs, to be added with a name and a help text."""
    return typer.Typer(cls=SectionGroup, no_args_is_help=True, rich_markup_mode=None)


def add(app: typer.Typer, function: Callable[..., Any], *examples: str, name: str | None = None) -> None:
    """Add a verb. Its docstring is its help, and the examples stand below the options, each on a line of its own."""
    # The mark \b keeps the parser from joining the lines of a paragraph.
    epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
    app.command(name=name, cls=PlainCommand, epilog=epilog if examples else None)(function)
