"""Where a verb's words go: data to standard output, talk to standard error, tables that suit whoever reads them."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

import typer

from tokenweir.errors import Finding, FindingsError, PreflightError, TokenweirError
from tokenweir.words import copyable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

#: The width of what is laid out for people but goes into a pipe.
PIPE_WIDTH: Final = 100

#: Controls, and what has no shape of its own but changes how text around it is shown, such as the order of writing.
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_GAP: Final = "  "

#: What stands between two columns of a ruled table.
_RULED_GAP: Final = 3
_RULED_EDGES: Final = 2


def out(text: str = "") -> None:
    """Print a line of data on standard output, as it is."""
    print(text)


def out_json(value: object) -> None:
    """Print one JSON document on standard output."""
    print(
        _spelled_out(json.dumps(value, indent=2, ensure_ascii=False), "\n", lambda steering: json.dumps(steering)[1:-1])
    )


def harmless(text: str, kept: str = "") -> str:
    """Return text with every character spelled out that steers a terminal, but for those to keep.

    Names of group members, notices and evidence of consent, and metadata of offsets are what somebody else wrote.
    """
    return _spelled_out(text, kept, lambda steering: steering.encode("unicode_escape").decode())


def _spelled_out(text: str, kept: str, spell: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        spell(character) if unicodedata.category(character) in _STEERING and character not in kept else character
        for character in text
    )


def talk(text: str = "", *, style: str = "") -> None:
    """Say something to the person at the keyboard: on standard error, in colour only on a terminal."""
    text = harmless(copyable(text), "\n\t")
    if not style or not sys.stderr.isatty():
        print(text, file=sys.stderr)
    else:
        console(sys.stderr).print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(error: TokenweirError, *, as_json: bool = False) -> NoReturn:
    """Say what is wrong on standard error and end with the error's exit code.

    With ``as_json`` findings are also the verb's data: one JSON document, as ``lint --format json`` prints it.
    """
    if isinstance(error, FindingsError):
        if as_json:
            from tokenweir.app import renderings  # noqa: PLC0415 - slow to import; --help does not need it.

            out(renderings.as_json(error.findings))
        show_findings(error.findings)
    else:
        for problem in error.problems if isinstance(error, PreflightError) else [str(error)]:
            talk(f"error: {problem}", style="red")
    raise typer.Exit(error.exit_code)


def show_findings(findings: Sequence[Finding]) -> None:
    """Say findings and how many they are on standard error."""
    for finding in findings:
        talk(str(finding), style="red" if finding.severity == "error" else "yellow")
    talk(count_findings(findings))


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

    On a terminal in which names would be broken each row is a block of lines. ``styles`` are rich styles of the
    columns, for a terminal.
    """
    rows = [[harmless(copyable(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        lines = aligned([columns, *rows])
    elif widths := fitting_widths(columns, rows, console(sys.stdout).width):
        show(rich_table(columns, rows, widths, styles=styles))
        return
    else:
        lines = blocks(columns, rows)
    for line in lines:
        print(line)


def rich_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int], *, styles: Sequence[str] = ()
) -> Table:
    """Return a table for a terminal; no text in it is read as markup."""
    from rich import box  # noqa: PLC0415 - rich is slow to import, and --help does not need it.
    from rich.table import Table  # noqa: PLC0415 - as above.
    from rich.text import Text  # noqa: PLC0415 - as above.

    ruled = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        ruled.add_column(column, style=styles[index] if index < len(styles) else "", overflow="fold", width=width)
    for row in rows:
        ruled.add_row(*(Text(cell) for cell in row))
    return ruled


def fitting_widths(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the widths of columns in which no word is broken, none where there is no room for that."""
    cells = [[column, *(row[index] for row in rows)] for index, column in enumerate(columns)]
    widths = [max(len(word) for cell in each for word in cell.split() or [""]) for each in cells]
    wanted = [max(map(len, each)) - width for each, width in zip(cells, widths, strict=True)]
    spare = room - sum(widths) - _RULED_GAP * (len(columns) - 1) - _RULED_EDGES
    if spare < 0:
        return []
    # The columns that want least are served first, so that all others share what those leave.
    for served, index in enumerate(sorted(range(len(columns)), key=wanted.__getitem__)):
        more = min(wanted[index], spare // (len(columns) - served))
        widths[index] += more
        spare -= more
    return widths


def blocks(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows one below the other: the first cell, and below it the name and the value of every other cell."""
    return [
        line
        for row in rows
        for line in (
            row[0],
            *(f"  {column}: {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell),
        )
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns begin at the same place."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
