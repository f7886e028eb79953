"""``tokenweir demo``: the whole loop on built-in data, in a few seconds and without a broker."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import console, out, show, talk

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from tokenweir.app.demo import Played, Stage, Step
    from tokenweir.app.trace import FieldTrace

_WIDE: Final = 128
"""From this width on, before and after stand side by side."""

_FATES: Final = {"sanitized": "green", "withheld": "yellow", "rejected": "red"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(app, demo, "tokenweir demo", "tokenweir demo --kafka", "tokenweir demo --write my-policy")


def demo(
    kafka: Annotated[bool, typer.Option("--kafka", help="Send the events through the broker embedded in librdkafka.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Leave all files there, to edit and run again.")
    ] = None,
) -> None:
    """Show the whole loop on built-in events.

    Ten events of four people go through the engine for two audiences: what each field was, what it became and why,
    what happened to every record, and what to try next. No broker, no account.
    """
    from tokenweir.app.demo import Stage, play  # noqa: PLC0415 - the engine is slow to import; --help does not need it.

    now_ms = time.time_ns() // 1_000_000
    if write is not None:
        _write(write, now_ms)
        return
    stage = Stage()
    if kafka:
        from tokenweir.app.demokafka import EmbeddedKafka  # noqa: PLC0415 - as above.

        with EmbeddedKafka(stage) as broker:
            played = play(stage, now_ms, broker.handle)
            _show(stage, played)
            _show_kafka(broker.summary())
    else:
        played = play(stage, now_ms)
        _show(stage, played)
    _show_next()
