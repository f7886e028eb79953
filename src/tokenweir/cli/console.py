"""Where a verb's words go: data to standard output, talk to standard error, tables that suit whoever reads them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

import typer

from tokenweir.errors import FindingsError, TokenweirError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

#: The width of what is laid out for people but goes into a pipe.
PIPE_WIDTH: Final = 100

_GAP: Final = "  "


def out(text: str = "") -> None:
    """Print a line of data on standard output, as it is."""
    print(text)


def out_json(value: object) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def talk(text: str = "", *, style: str = "") -> None:
    """Say something to the person at the keyboard: on standard error, in colour only on a terminal."""
    if not style or not sys.stderr.isatty():
        print(text, file=sys.stderr)
    else:
        console(sys.stderr).print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(error: TokenweirError) -> NoReturn:
    """Say what is wrong on standard error and end with the error's exit code."""
    if isinstance(error, FindingsError):
        for finding in error.findings:
            talk(str(finding), style="red" if finding.severity == "error" else "yellow")
        talk(count_findings(error.findings))
    else:
        talk(f"error: {error}", style="red")
    raise typer.Exit(error.exit_code)


def count_findings(findings: Sequence[object]) -> str:
    """Return ``2 errors, 1 warning``, or ``no findings``."""
    errors = sum(getattr(finding, "severity", "") == "error" for finding in findings)
    parts = [(errors, "error"), (len(findings) - errors, "warning")]
    said = [f"{number} {word}{'' if number == 1 else 's'}" for number, word in parts if number]
    return ", ".join(said) or "no findings"


def console(stream: TextIO) -> Console:
    """Return a rich console on a stream; it honours NO_COLOR and COLUMNS, and in a pipe it is wide enough and plain."""
    from rich.console import Console  # noqa: PLC0415 - rich is slow to import, and --help does not need it.

    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False)


def show(*renderables: RenderableType) -> None:
    """Print rich renderables on standard output, in a pipe without the blanks that only fill lines."""
    target = console(sys.stdout)
    for renderable in renderables:
        if sys.stdout.isatty():
            target.print(renderable)
            continue
        with target.capture() as captured:
            target.print(renderable)
        for line in captured.get().splitlines():
            print(line.rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
    """Print a table on standard output: ruled on a terminal, aligned columns that ``grep`` and ``cut`` like in a pipe.

    ``styles`` are rich styles of the columns, for a terminal.
    """
    if sys.stdout.isatty():
        show(rich_table(columns, rows, styles=styles))
    else:
        for line in aligned([columns, *rows]):
            print(line)


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, styles: Sequence[str] = ()) -> Table:
    """Return a table for a terminal; no text in it is read as markup."""
    from rich import box  # noqa: PLC0415 - rich is slow to import, and --help does not need it.
    from rich.table import Table  # noqa: PLC0415 - as above.
    from rich.text import Text  # noqa: PLC0415 - as above.

    ruled = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        ruled.add_column(column, style=styles[index] if index < len(styles) else "", overflow="fold")
    for row in rows:
        ruled.add_row(*(Text(cell) for cell in row))
    return ruled


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns begin at the same place."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
