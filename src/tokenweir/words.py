"""Words for people."""

from __future__ import annotations

import re
import shlex
from typing import Final

#: A command in quotes, in brackets, or alone on a line, of a verb that takes a configuration.
_COMMAND: Final = re.compile(
    r"(?P<open>['`(]|^[ ]*)(?P<command>tokenweir "
    r"(?:keys|doctor|preview|run|consent|erase|offsets|replay|report|schema|plan)\b"
    r"[^'`(),\n]*?)(?P<close>['`),]|$)",
    re.MULTILINE,
)
_NAMES_ONE: Final = re.compile(r" (?:--config|-c|--keys)\b")

_named = [""]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 topic``, ``1,234 topics``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def remember_config(path: str) -> None:
    """Note the configuration that the command line names, "" for none, for the commands that are proposed later."""
    _named[0] = path


def named_config() -> str:
    """Return the configuration that the command line names, "" where it names none."""
    return _named[0]


def copyable(text: str) -> str:
    """Return text whose commands name the configuration too, so that they do what is meant when they are copied."""
    if not _named[0] or "tokenweir " not in text:
        return text
    return _COMMAND.sub(_with_config, text)


def _with_config(found: re.Match[str]) -> str:
    command = found["command"]
    if not _NAMES_ONE.search(command):
        command = f"{command} --config {shlex.quote(_named[0])}"
    return f"{found['open']}{command}{found['close']}"
