"""Log lines: one event per line on standard error, as JSON or text, without any part of a record.

Three kinds of lines come out. Our own events have a constant sentence and declared fields. The Kafka client library
speaks in its own words, which are about connections and protocol and never contain records. Everything else that
reaches Python's logging, and every exception, is reduced to who spoke, the exception's type and the places in the code:
texts that others compose may contain what they worked on.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from tokenweir.errors import TokenweirError
from tokenweir.telemetry.events import EVENTS, FIELD_TYPES, Event

#: The logger that the Kafka clients are given.
KAFKA_LOGGER_NAME: Final = "tokenweir.kafka"

_LOGGER: Final = logging.getLogger("tokenweir")
_ID: Final = re.compile(r"[!-~]{0,256}")
_CLIENT_TEXT_CHARACTERS: Final = 500
_FRAMES: Final = 40

Format = Literal["json", "text"]
Field = str | int | float


def log(event: Event, *, error: BaseException | None = None, **fields: Field | None) -> None:
    """Log one event.

    Args:
        event: What happened.
        error: The exception behind it, of which only the type and the places in the code are logged.
        fields: Ids and numbers that the event declares; None is left out. What is not declared, has another type, or
            is no id of printable ASCII without spaces is not logged; its name then stands in ``refused``.
    """
    declared = EVENTS[event]
    if _LOGGER.isEnabledFor(declared.level):
        _LOGGER.log(
            declared.level,
            event.value,
            extra={"tokenweir": _allowed(event, fields), "tokenweir_error": error},
        )


def log_refusal(refusal: TokenweirError) -> None:
    """Log that the gateway does not run, with the text of an error of our own: such texts hold no value or key."""
    if _LOGGER.isEnabledFor(EVENTS[Event.GATEWAY_REFUSED].level):
        said = "; ".join(line.strip() for line in str(refusal).splitlines() if line.strip())
        problem = "".join(character if character.isprintable() else " " for character in said)
        line = {"exit_code": refusal.exit_code, "problem": problem}
        _LOGGER.error(Event.GATEWAY_REFUSED.value, extra={"tokenweir": line})


def configure_logging(
    level: str = "info", form: Format = "json", *, process: str = "", stream: TextIO | None = None
) -> None:
    """Make this the only way that anything is logged in this process; calling it again replaces the settings.

    Uncaught exceptions, of threads and destructors too, become events instead of the interpreter's own report, which
    would print their texts.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``, for our own events and the Kafka client.
        form: ``json`` for machines, ``text`` for people.
        process: The name of this process, on every line.
        stream: Where lines go; standard error if None.
    """
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter(process) if form == "json" else _TextFormatter(process))
    root = logging.getLogger()
    for other in list(root.handlers):
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda failure: _uncaught(None, failure.exc_value, None)
    threading.excepthook = lambda failure: _uncaught(None, failure.exc_value, None)


@contextmanager
def crash_guard(exit_code: int = 1) -> Iterator[None]:
    """Turn any exception that escapes into an event and an exit code.

    For the main function of a child process: multiprocessing prints the text of what escapes from it.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - nothing may reach the interpreter's own report.
        log(Event.EXCEPTION_RAISED, error=error)
        raise SystemExit(exit_code) from None


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return the type of an exception, the types of what caused it, and the places in the code, innermost last."""
    causes = []
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        causes.append(_type_name(cause))
        cause = cause.__cause__ or cause.__context__
    places = [f"{_short(frame.f_code.co_filename)}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    description: dict[str, Any] = {"error_type": _type_name(error), "frames": places[-_FRAMES:]}
    return description | ({"caused_by": causes} if causes else {})


def _allowed(event: Event, fields: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields that may stand in the line, and the names of those that may not."""
    declared = EVENTS[event].fields
    allowed: dict[str, Any] = {}
    refused = []
    for name, value in fields.items():
        if value is None:
            continue
        if name in declared and _fits(FIELD_TYPES[name], value):
            allowed[name] = round(value, 6) if isinstance(value, float) else value
        else:
            refused.append(name)
    return allowed | ({"refused": refused} if refused else {})


def _fits(wanted: type[Field], value: object) -> bool:
    """Tell whether a value has the type of its field; of a text also that it is an id."""
    if isinstance(value, bool):
        return False
    if wanted is str:
        return isinstance(value, str) and _ID.fullmatch(value) is not None
    if wanted is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, int)


def _type_name(error: BaseException) -> str:
    """Return the name of an exception's class with its module, without the noise of builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _short(filename: str) -> str:
    """Return a source file's path from its package on, so that a line does not tell how the machine is laid out."""
    for root in ("site-packages/", "/src/", "/lib/"):
        _, found, rest = filename.rpartition(root)
        if found:
            return rest
    return filename.rpartition("/")[2]


def _uncaught(_kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
    """Log what nobody caught."""
    log(Event.EXCEPTION_RAISED, error=error)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; a line that cannot be written is lost, because the standard report would print its arguments."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the base class's.
        """Do nothing."""


class _EventFormatter(logging.Formatter):
    """Reduces a log record to what may be shown."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def _reduced(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the line as a mapping: time, level, event and text first, then the fields, then the exception."""
        own = getattr(record, "tokenweir", None)
        fields: dict[str, Any]
        if own is not None and record.name == _LOGGER.name:
            event = Event(record.msg)
            text, fields = EVENTS[event].sentence, dict(own)
        elif record.name == KAFKA_LOGGER_NAME:
            event = Event.KAFKA_CLIENT
            text, fields = _one_line(record.getMessage()), {}
        else:
            event = Event.FOREIGN_LOG
            place = f"{_short(record.pathname)}:{record.lineno}"
            text, fields = EVENTS[event].sentence, {"logger": _one_line(record.name), "place": place}
        error = getattr(record, "tokenweir_error", None) or (record.exc_info[1] if record.exc_info else None)
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": event.value,
            "text": text,
            "process": self._process,
        }
        return line | fields | (describe_error(error) if error is not None else {})


class _JsonFormatter(_EventFormatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._reduced(record), separators=(",", ":"))


class _TextFormatter(_EventFormatter):
    """One line for people: time, level, sentence, and the rest as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = self._reduced(record)
        head = f"{line.pop('time')} {line.pop('level').upper():<7} {line.pop('event')}: {line.pop('text')}"
        return " ".join([head, *(f"{name}={_word(value)}" for name, value in line.items() if value != "")])


def _word(value: object) -> str:
    """Return a field's value for a text line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _one_line(text: str) -> str:
    """Return text of the Kafka client as one line of printable characters and bounded length."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable[:_CLIENT_TEXT_CHARACTERS]
