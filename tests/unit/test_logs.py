"""Log lines carry events, ids and numbers, and never a part of what was processed."""

from __future__ import annotations

import ast
import io
import json
import logging
import multiprocessing
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenweir
from tokenweir.telemetry.events import EVENTS, FIELD_TYPES, Event
from tokenweir.telemetry.logs import KAFKA_LOGGER_NAME, configure_logging, crash_guard, describe_error, log

CANARY = "canary-4711"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Log to a buffer, and put everything back that configuring changes in the process."""
    root, own = logging.getLogger(), logging.getLogger("tokenweir")
    kept = root.handlers[:], root.level, own.level
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    buffer = io.StringIO()
    configure_logging("debug", "json", process="test", stream=buffer)
    yield buffer
    logging.captureWarnings(capture=False)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    root.handlers[:], root.level, own.level = kept
    own.setLevel(kept[2])


def parsed(buffer: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines so far as objects."""
    return [json.loads(line) for line in buffer.getvalue().splitlines()]


def fail(value: str) -> None:
    """Raise with a value in the text, in the cause, in the notes and in the locals of every frame."""
    secret = value
    try:
        int(secret)
    except ValueError as error:
        wrapped = KeyError(secret)
        wrapped.add_note(secret)
        raise wrapped from error


def test_every_event_is_declared() -> None:
    """The list of events is closed, and every field of an event has a type."""
    assert set(EVENTS) == set(Event)
    assert {name for event in EVENTS.values() for name in event.fields} == set(FIELD_TYPES)
    for declared in EVENTS.values():
        assert declared.sentence.endswith(".")
        assert "\n" not in declared.sentence


def test_every_call_in_the_source_uses_declared_fields() -> None:
    """A field that its event does not declare would not be logged; no call in the package has one."""
    for path in Path(tokenweir.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(
                    func=ast.Name("log") | ast.Attribute(attr="_log"),
                    args=[ast.Attribute(value=ast.Name("Event"), attr=event)],
                    keywords=keywords,
                ):
                    given = {keyword.arg for keyword in keywords if keyword.arg} - {"error"}
                    assert given <= EVENTS[Event[event]].fields, (path, call.lineno)


def test_a_line_has_its_fixed_fields(lines: io.StringIO) -> None:
    """Time, level, event, text and process come first, then the fields; None is left out."""
    log(Event.PROCESS_STARTED, kind="worker", stream="clicks", slot=0, pid=None)
    [line] = parsed(lines)
    assert list(line) == ["time", "level", "event", "text", "process", "kind", "stream", "slot"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "event": "process_started",
        "text": "A process has started.",
        "process": "test",
        "kind": "worker",
        "stream": "clicks",
        "slot": 0,
    }


@pytest.mark.parametrize(
    "value", [f"{CANARY} with spaces", f"{CANARY}\nnext line", f"{CANARY}ä", "x" * 300, 5, True, 1.5, b"x", [CANARY]]
)
def test_what_is_no_id_is_refused(lines: io.StringIO, value: object) -> None:
    """Free text, another type and an undeclared name do not get into a line, and the line says so."""
    log(Event.PARTITION_PAUSED, stream=value, partition=3, other=CANARY)  # type: ignore[arg-type]  # the mistake
    [line] = parsed(lines)
    assert line["refused"] == ["stream", "other"]
    assert line["partition"] == 3
    assert CANARY not in lines.getvalue()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "5", True])
def test_numbers_are_numbers(lines: io.StringIO, value: object) -> None:
    """No text, truth value or infinity stands where a number is declared, so every line is valid JSON."""
    log(Event.CONSENT_STALE, seconds=value, partition=value)  # type: ignore[arg-type]  # the mistake
    [line] = parsed(lines)
    assert line["refused"] == ["seconds", "partition"]


def test_an_exception_never_reaches_the_line(lines: io.StringIO) -> None:
    """Only types and places of an exception are logged: not its text, cause, notes, locals, nor source lines."""
    try:
        fail(CANARY)
    except KeyError as error:
        log(Event.EXCEPTION_RAISED, error=error)
        logging.getLogger("library").exception("failed on %s", CANARY)
        logging.getLogger("tokenweir.adapters.registry").exception("failed on " + CANARY, stack_info=True)  # noqa: G003 - what a careless caller does
        logging.getLogger(KAFKA_LOGGER_NAME).exception("FAIL")
    text = lines.getvalue()
    assert CANARY not in text
    assert "secret" not in text
    own, library, careless, kafka = parsed(lines)
    for line in (own, library, careless, kafka):
        assert line["error_type"] == "KeyError"
        assert line["caused_by"] == ["ValueError"]
        assert [re.sub(r"\d+$", "N", frame) for frame in line["frames"]] == ["test_logs.py:N", "test_logs.py:N"]
    assert library["event"] == careless["event"] == "foreign_log"
    assert library["logger"] == "library"
    assert re.fullmatch(r"test_logs\.py:\d+", library["place"])


def test_foreign_lines_lose_their_text(lines: io.StringIO) -> None:
    """Other libraries may put what they work on into messages, logger arguments and warnings."""
    logging.getLogger("httpx2").warning("POST https://user:%s@registry/", CANARY)
    logging.getLogger("httpx2").info("below the level of other libraries %s", CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(CANARY, stacklevel=1)
    assert [line["event"] for line in parsed(lines)] == ["foreign_log", "foreign_log"]
    assert CANARY not in lines.getvalue()


def test_the_kafka_client_speaks_in_its_own_words(lines: io.StringIO) -> None:
    """Messages of librdkafka are about connections; they come out on one line of bounded length."""
    logging.getLogger(KAFKA_LOGGER_NAME).warning("FAIL [thrd:broker]: %s\nsecond\x1b[0m %s", "refused", "x" * 5000)
    [line] = parsed(lines)
    assert line["event"] == "kafka_client"
    assert line["level"] == "warning"
    assert line["text"].startswith("FAIL [thrd:broker]: refused second [0m xxx")
    assert len(line["text"]) == 500


def test_a_broken_log_call_says_nothing(lines: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """Logging's own report of a line that cannot be formatted would print the arguments."""
    configure_logging(stream=lines)  # Once more, because pytest has added handlers that do report.
    logging.getLogger(KAFKA_LOGGER_NAME).warning("%d", CANARY)
    assert lines.getvalue() == ""
    assert CANARY not in capsys.readouterr().err


def test_level_is_kept(lines: io.StringIO) -> None:
    """Events below the configured level are not written."""
    configure_logging("warning", "json", stream=lines)
    log(Event.PROCESS_STARTED, kind="worker")
    log(Event.PARTITIONS_LOST, stream="clicks")
    assert [line["event"] for line in parsed(lines)] == ["partitions_lost"]


def test_text_form(lines: io.StringIO) -> None:
    """People read a sentence and name=value, on one line."""
    configure_logging("info", "text", process="worker-clicks-0", stream=lines)
    try:
        fail(CANARY)
    except KeyError as error:
        log(Event.CONSENT_STALE, error=error, topic="consent", partition=3, seconds=5.25)
    line = lines.getvalue()
    assert re.fullmatch(
        r"\S+Z ERROR   consent_stale: The consent state is too old; processing waits\. process=worker-clicks-0 "
        r"topic=consent partition=3 seconds=5\.25 error_type=KeyError frames=test_logs\.py:\d+,test_logs\.py:\d+ "
        r"caused_by=ValueError\n",
        line,
    )


def test_causes_that_form_a_circle_end() -> None:
    """An exception that is in its own chain of causes is described once."""
    one, other = KeyError(CANARY), ValueError(CANARY)
    one.__cause__, other.__cause__ = other, one
    assert describe_error(one) == {"error_type": "KeyError", "frames": [], "caused_by": ["ValueError"]}


UNCAUGHT = f"""
import sys, threading
from tokenweir.telemetry.logs import configure_logging
configure_logging("info", "json", process="test")
class Leaky:
    def __del__(self):
        raise ValueError({CANARY!r})
def work():
    raise ValueError({CANARY!r})
thread = threading.Thread(target=work); thread.start(); thread.join()
Leaky()
work()
"""


def test_uncaught_exceptions_are_events() -> None:
    """Main thread, other threads and destructors: the interpreter's own report never prints their texts."""
    run = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert CANARY not in run.stderr
    assert [json.loads(line)["event"] for line in run.stderr.splitlines()] == ["exception_raised"] * 3


def crash(value: str) -> None:
    """The main function of a child process that fails."""
    configure_logging("info", "json", process="child")
    with crash_guard(exit_code=5):
        fail(value)


def test_a_child_process_crashes_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """Multiprocessing prints what escapes from a child; the guard leaves it nothing but an exit code."""
    child = multiprocessing.get_context("spawn").Process(target=crash, args=(CANARY,))
    child.start()
    child.join(60)
    assert child.exitcode == 5
    error = capfd.readouterr().err
    assert CANARY not in error
    assert json.loads(error)["error_type"] == "KeyError"
