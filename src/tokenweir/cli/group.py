"""The top of the command line: verbs in sections, and every error as words on standard error and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import typer
from typer.core import TyperGroup

from tokenweir.cli.console import fail, talk
from tokenweir.cli.options import wants_json
from tokenweir.errors import TokenweirError

_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells say it."""

_PIPE_CLOSED: Final = 141
"""128 + SIGPIPE, as shells say it."""

#: What a file or a terminal answers that does not take what is written to it.
_WRITE_FAULTS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EBADF}
)

#: What the parser's library says, and what is said here.
_PARSER_WORDS: Final[dict[str, str]] = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it must be a number",
    "Input should be greater than or equal to": "it must be at least",
    "Input should be less than or equal to": "it must be at most",
}

#: The sections of ``tokenweir --help``; a verb that stands in none is shown last.
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "Start here": ("demo", "init", "sanitize"),
    "Write a policy": ("lint", "plan", "explain", "diff", "coverage", "test", "schema", "config", "notice"),
    "Run the gateway": ("keys", "doctor", "preview", "run", "consent", "erase", "offsets", "replay"),
    "Turn tokens back": ("detokenize", "serve", "grants", "audit"),
}


class SectionGroup(TyperGroup):
    """A group whose help gives each command as much room as there is."""

    #: Titles of sections, and the names in each; what stands in none comes last.
    sections: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    last_section: ClassVar[str] = "Commands"

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - the base class gives them.
        """Write the commands in sections."""
        remaining = {name: command for name, command in self.commands.items() if not command.hidden}
        width = max(map(len, remaining))
        placed = {name for names in self.sections.values() for name in names}
        sections = [
            *self.sections.items(),
            (self.last_section, tuple(name for name in remaining if name not in placed)),
        ]
        for title, names in sections:
            shown = [name for name in names if name in remaining]
            rows = [(name.ljust(width), remaining[name].get_short_help_str(formatter.width)) for name in shown]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class VerbGroup(SectionGroup):
    """The group of all verbs."""

    sections = SECTIONS
    last_section = "More"

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer brings its own copy of click, whose types are private.
        """Run a verb; whatever goes wrong ends here."""
        try:
            return self._invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            _forget_stdout()
            raise typer.Exit(_PIPE_CLOSED) from None
        except OSError as error:
            if error.errno not in _WRITE_FAULTS:
                raise self._fault(error) from None
            _forget_stdout()
            talk(f"error: cannot write{_to(error)}: {error.strerror}", style="red")
            raise typer.Exit(1) from None
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "exit_code"):
                if hasattr(error, "message"):
                    error.message = _in_our_words(str(error.message))
                raise  # The parser's own: it knows how to show them.
            raise self._fault(error) from None

    def _invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as above.
        """Run a verb and write out all that it printed, so that a full disk is noticed here and not at exit."""
        try:
            return super().invoke(ctx)
        except TokenweirError as error:
            fail(error, as_json=wants_json(ctx))
        finally:
            sys.stdout.flush()

    @staticmethod
    def _fault(error: Exception) -> typer.Exit:
        """Say that nobody expected an exception, and return how to leave."""
        talk(f"error: {describe_fault(error)}", style="red")
        return typer.Exit(1)


def _in_our_words(message: str) -> str:
    """Return what the parser says of a value without the words of the library behind it."""
    for theirs, ours in _PARSER_WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _to(error: OSError) -> str:
    """Return the file that an error names; standard output has no name."""
    return f" {error.filename}" if isinstance(error.filename, str | Path) else ""


def describe_fault(error: BaseException) -> str:
    """Return the type and place of an exception that nobody expected, and not its text: a text may hold data."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"a fault in tokenweir: {type(error).__name__}{place}; please report it with these words"


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not complain about the pipe at exit."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(descriptor, sys.stdout.fileno())
    except OSError:
        return
    finally:
        os.close(descriptor)
