"""The entry of the ``tokenweir`` command."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line."""
    from tokenweir.cli import app  # noqa: PLC0415 - an interrupted import ends as quietly as an interrupted verb.
    from tokenweir.runtime.hardening import protect_memory  # noqa: PLC0415 - as above.

    # Here and for all verbs: most of them open keys or read records, and the supervisor is one of them.
    protect_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its escape instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="tokenweir")


if __name__ == "__main__":
    main()
