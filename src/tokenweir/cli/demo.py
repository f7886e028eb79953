"""``tokenweir demo``: the whole loop on built-in data, in a few seconds and without a broker."""

from __future__ import annotations

import os
import shlex
import shutil
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
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Send the events through the broker embedded in librdkafka.")
    ] = False,
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
        from tokenweir.core.outcome import Fate  # noqa: PLC0415 - as above.

        with EmbeddedKafka(stage) as broker:
            played = play(stage, now_ms, broker.handle)
            _show(stage, played)
            _show_kafka(broker.summary([counts[Fate.SANITIZED] for counts in played.counts.values()]))
    else:
        played = play(stage, now_ms)
        _show(stage, played)
    _show_next()


def _show(stage: Stage, played: Played) -> None:
    """Print the whole demo."""
    _show_head(stage)
    _heading("1  What happens")
    show(_story_table(played))
    _heading("2  Field by field")
    for step in played.steps:
        if step.fields:
            _show_fields(step, list(played.audiences))
    _heading("3  What became of the records")
    show(_fates_table(played))
    for reason, number in sorted(played.rejections.items()):
        out(f"rejected {number} x {reason}: dead letters say where and why, and hold no data")
    out("Each record has exactly one fate for each audience.")


def _show_head(stage: Stage) -> None:
    show(_styled("tokenweir demo", "bold"))
    out("Events of customers come in on one topic. Each audience gets a topic of its own.")
    out("The policy and the consent of each person decide, field by field, what is in it.")
    out()
    rows = [
        [audience, title, ", ".join(stage.policy.audiences[audience].purposes), output.topic]
        for (audience, title), output in zip(stage.audiences.items(), stage.version.compiled.plan.outputs, strict=True)
    ]
    show(_grid(["audience", "who", "purposes", "gets topic"], rows, ["bold", "", "", "cyan"]))


def _heading(text: str) -> None:
    out()
    show(_styled(text, "bold underline"))
    out()


def _story_table(played: Played) -> Table:
    """Return what happened, in order: decisions and events, each event with its fates."""
    grid = _grid(["", "time", "who", "what", *played.audiences, "why"], [], ["dim", "dim", "bold"])
    for step in played.steps:
        number = str(step.event.number) if step.event is not None else ""
        at = datetime.fromtimestamp(step.at_ms // 1000, UTC)
        recent = step.event is not None or time.time() - at.timestamp() < _DAY_SECONDS
        shown = f"{at:%H:%M}" if recent else f"{at:%d %b}"
        if step.event is None:
            said = _styled(f"{step.what}", "italic magenta")
            grid.add_row("", shown, step.who, said, *([""] * len(played.audiences)), _styled("consent", "magenta"))
        else:
            fates = [_styled(fate, _FATES[fate]) for fate in step.fates.values()]
            grid.add_row(number, shown, step.who, _styled(step.what), *fates, _styled(step.why, "dim"))
    return grid


_DAY_SECONDS: Final = 86_400


def _show_fields(step: Step, audiences: list[str]) -> None:
    number = 0 if step.event is None else step.event.number
    show(_styled(f"Event {number}: {step.who} {step.what}.", "bold"))
    for audience in audiences:
        out(f"  For {audience} the record {step.because[audience]}.")
    out()
    # What is said above of a record that does not leave need not be said again of every field.
    leaving = [audience for audience in audiences if step.fates[audience] == "sanitized"]
    wide = console(sys.stdout).width >= _WIDE
    show(_side_by_side(step.fields, leaving) if wide else _stacked(step.fields, leaving))
    out()


def _side_by_side(fields: list[FieldTrace], audiences: list[str]) -> Table:
    """Return a table with a row for each field: before, and after for each audience."""
    grid = _grid(["field\nclass", "before", *audiences, "why: treatment · purpose · decision"], [], [])
    grid.show_lines = True
    for field in fields:
        why = "\n".join(f"{', '.join(names)}: {said}" for (_, said), names in _alike(field, audiences).items())
        grid.add_row(
            _name_and_class(field),
            _styled(field.before),
            *(_after(field, audience) for audience in audiences),
            _styled(why, "dim"),
        )
    return grid


def _stacked(fields: list[FieldTrace], audiences: list[str]) -> Table:
    """Return a table with a row for each field and audience, for screens where nothing fits side by side."""
    grid = _grid(["field", "", "before -> after", "class; treatment · purpose · decision"], [], ["", "dim"])
    for field in fields:
        grid.add_row(_styled(field.path, "bold"), "before", _styled(field.before), _styled(field.class_name, "cyan"))
        for (_, why), names in _alike(field, audiences).items():
            grid.add_row("", ", ".join(names), _after(field, names[0]), _styled(why, "dim"))
    return grid


def _alike(field: FieldTrace, audiences: list[str]) -> dict[tuple[str, str], list[str]]:
    """Return the audiences by what became of a field and why, so that what is alike is said once."""
    alike: dict[tuple[str, str], list[str]] = {}
    for audience in audiences:
        traced = field.audiences[audience]
        alike.setdefault((traced.after, traced.why), []).append(audience)
    return alike


def _name_and_class(field: FieldTrace) -> Text:
    return _styled(field.path, "bold").append(f"\n{field.class_name}", "cyan")


def _after(field: FieldTrace, audience: str) -> Text:
    after = field.audiences[audience].after
    return _styled(after, "" if after == field.before else "green" if after != "-" else "yellow")


def _fates_table(played: Played) -> Table:
    from tokenweir.core.outcome import Fate  # noqa: PLC0415 - the engine is slow to import; --help does not need it.

    rows = [
        [audience, str(counts.total()), *(str(counts[fate]) for fate in Fate)]
        for audience, counts in played.counts.items()
    ]
    return _grid(["audience", "records", *(fate.value for fate in Fate)], rows, ["bold", "", *_FATES.values()])


def _grid(columns: list[str], rows: list[list[str]], styles: list[str]) -> Table:
    """Return a table without rules around it, whose cells wrap."""
    from rich import box  # noqa: PLC0415 - rich is slow to import, and --help does not need it.
    from rich.table import Table  # noqa: PLC0415 - as above.

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    for index, column in enumerate(columns):
        grid.add_column(column, style=styles[index] if index < len(styles) else "", overflow="fold")
    for row in rows:
        grid.add_row(*(_styled(cell) for cell in row))
    return grid


def _styled(text: str, style: str = "") -> Text:
    from rich.text import Text  # noqa: PLC0415 - rich is slow to import, and --help does not need it.

    return Text(text, style=style)


def _show_kafka(lines: list[str]) -> None:
    _heading("And this was Kafka")
    for line in lines:
        out(line)
    out()
    out("The broker is the mock that librdkafka brings along. It shows the path: framed")
    out("records from a raw topic, transactions, a reader of committed records. It keeps")
    out("no offsets of transactions, so it proves nothing about exactly-once: that is")
    out("what the integration tests do, on a real broker.")


def _show_next() -> None:
    _heading("4  What to try next")
    directory = Path("tokenweir-demo")
    rows = [[f"{_program()} demo --write {directory}", "leave all of this as files"], *_next_commands(directory)]
    rows.append([f"{_program()} demo --kafka", "the same through the embedded broker"])
    _show_commands(rows)


def _write(directory: Path, now_ms: int) -> None:
    from tokenweir.app import demodata  # noqa: PLC0415 - slow to import; --help does not need it.

    for name in demodata.write(directory, now_ms, os.urandom(16)):
        out(str(directory / name))
    talk()
    talk("What to try next, before and after you change a line of the policy or of the consent:")
    talk()
    for command, what in _next_commands(directory):
        talk(f"  # {what}")
        talk(f"  {command}")


def _next_commands(directory: Path) -> list[list[str]]:
    """Return commands on the written files that work as they stand, each with what it does."""
    program = _program()

    def file(name: str) -> str:
        return shlex.quote(str(directory / name))

    config = f"-c {file('tokenweir.yaml')}"
    policy = f"-p {file('policy.yaml')} --consent {file('consent.jsonl')}"
    return [
        [f"{program} lint {config}", "is everything right"],
        [f"{program} plan {config}", "what becomes of each field"],
        [f"{program} explain interactions email {config}", "and why"],
        [
            f"{program} sanitize {file('events.avro')} -s interactions {policy} -o {file('out')}/",
            "Avro files",
        ],
        [f"{program} sanitize {file('web.jsonl')} -s web -a crm {policy}", "JSON lines, to the screen"],
    ]


def _show_commands(rows: list[list[str]]) -> None:
    for command, what in rows:
        show(_styled(f"  # {what}", "dim"))
        out(f"  {command}")


def _program() -> str:
    """Return how this program was called, so that a command that is shown can be run as it stands."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tokenweir"
    if shutil.which("tokenweir") or called.name != "tokenweir":
        return "tokenweir"
    return shlex.quote(str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called))
