"""The entry of the ``tokenweir`` command."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line."""
    from tokenweir.cli import app  # noqa: PLC0415 - an interrupted import ends as quietly as an interrupted verb.

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its escape instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="tokenweir")


if __name__ == "__main__":
    main()
