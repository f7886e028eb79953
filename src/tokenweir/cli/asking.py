"""What is typed before something is done that cannot be taken back."""

from __future__ import annotations

import sys

import typer

from tokenweir.cli.console import talk
from tokenweir.errors import RefusedError, UsageError


def have_typed(
    what: str, name: str, *, warning: str = "", undone: str = "nothing was written", stdin_is_taken: bool = False
) -> None:
    """Have a person type the name of what is about to change.

    Args:
        what: What it is, such as "stream".
        name: Its name.
        warning: What will happen, as half a sentence; said first.
        undone: What a refusal ends with.
        stdin_is_taken: Whether standard input was read as a file, so that no answer can come from there.

    Raises:
        UsageError: Nobody can be asked: ``--yes`` is missing.
        RefusedError: Something else was typed.
    """
    if stdin_is_taken or not can_ask():
        raise UsageError(f"{warning and f'{warning}; '}{undone}: there is no terminal to ask at; say --yes")
    if warning:
        talk(warning, style="yellow")
    if typer.prompt(f"type the name of the {what} ({name}) to go on", err=True) != name:
        raise RefusedError(f"another name was typed; {undone}")


def can_ask() -> bool:
    """Whether there is a terminal at which somebody may sit."""
    return sys.stdin.isatty()
