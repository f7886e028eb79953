"""What the pages that are made have in common."""
# ruff: noqa: INP001 - a part of scripts, in no package.

from __future__ import annotations

from collections.abc import Iterable

NOTE = "<!-- Made by tools/generate.py from the code; changes here are lost. -->\n"


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
