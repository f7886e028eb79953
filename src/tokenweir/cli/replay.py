"""``tokenweir replay``: what was rejected, through the same path once more."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.asking import have_typed
from tokenweir.cli.console import out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption, config_path
from tokenweir.cli.subjects import shown_time
from tokenweir.words import counted

if TYPE_CHECKING:
    from tokenweir.app.replay import Survey
    from tokenweir.runtime.replay import End, Outcome, Replay
    from tokenweir.runtime.replayletters import Counts

_WORDS: Final = ("sanitized", "withheld", "rejected", "gone", "put_back")
_TELL_EVERY_SECONDS: Final = 1.0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        replay,
        "tokenweir replay interactions --dry-run",
        "tokenweir replay interactions --reason schema_unknown --audience crm --yes",
        "tokenweir replay interactions --partition 3 --from 1000 --to 1999 --yes --format json",
    )


def replay(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream whose dead letters are replayed.")],
    *,
    config: ConfigOption = None,
    reason: Annotated[
        list[str] | None, typer.Option("--reason", metavar="REASON", help="Only letters with this reason; repeatable.")
    ] = None,
    audience: Annotated[
        str | None, typer.Option("--audience", metavar="AUDIENCE", help="Only letters for this output.")
    ] = None,
    partition: Annotated[
        int | None, typer.Option("--partition", metavar="N", min=0, help="Only records of this source partition.")
    ] = None,
    from_: Annotated[
        int | None, typer.Option("--from", metavar="OFFSET", min=0, help="Only at or past this source offset.")
    ] = None,
    to: Annotated[
        int | None, typer.Option("--to", metavar="OFFSET", min=0, help="Only at or before this source offset.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many letters; later ones stay unread.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the letters and write nothing.")] = False,
    from_beginning: Annotated[
        bool,
        typer.Option("--from-beginning", help="The broker knows of no earlier replay, and indeed there was none."),
    ] = False,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run rejected records through policy and consent as they are now.

    Each dead letter is read once, from where the last replay stopped. The source record of a chosen one is read again
    and goes to the output that the letter names: sanitized, withheld, or as a new letter if it is rejected again.
    Letters that are not chosen stand at the end of the dead-letter topic again. Each letter counts exactly once,
    whatever crashes; interrupt it at any time, and start it again to go on. Exit codes: 0 done, 1 it could not go on,
    2 wrong usage, or nobody to ask and no --yes, 3 refused, 130 interrupted.
    """
    from tokenweir.app.cluster import cluster_faults, open_cluster  # noqa: PLC0415 - slow; --help does not need it.
    from tokenweir.app.replay import choice_of, new_replay, survey  # noqa: PLC0415 - as above.

    found_config, workspace = open_cluster(config_path(config), os.environ)
    policy = workspace.policy.policy
    choice = choice_of(
        policy,
        stream,
        reasons=reason or [],
        audience=audience,
        partition=partition,
        first_offset=from_,
        last_offset=to,
    )
    with cluster_faults(found_config):
        found = survey(found_config, policy, stream, choice, from_beginning=from_beginning)
    if found.expired:
        talk(f"up to {found.expired:,} letters expired before any replay", style="yellow")
    if dry_run:
        _show_survey(stream, found, format_)
        return
    if not found.chosen:
        talk(_nothing_chosen(stream, found))
        if format_ is Format.JSON:
            _show_counts(stream, Counter(), found.topic, "done", 0, format_)
        return
    if not yes:
        _ask(stream, found, limit)
    progress = _progress(found.chosen.total())
    begun = new_replay(found_config, stream, choice, found, limit=limit, on_progress=progress)
    outcome = _run(begun)
    _show_counts(stream, outcome.counts, found.topic, outcome.end.value, outcome.uncertain, format_)
    _end(stream, outcome)


def _nothing_chosen(stream: str, found: Survey) -> str:
    """Say why there is nothing to do: there are no letters, or all of them stay."""
    number = found.kept.total()
    if not number:
        return f"{found.topic} has no letters of '{stream}' to replay"
    return f"none of {counted(number, 'letter')} of '{stream}' in {found.topic} match{'es' if number == 1 else ''}"


def _ask(stream: str, found: Survey, limit: int | None) -> None:
    """Have the name of the stream typed before anything is published."""
    number = found.chosen.total() if limit is None else min(limit, found.chosen.total())
    warning = f"{number:,} letters of {found.topic} will be replayed, and what is published cannot be taken back"
    have_typed("stream", stream, warning=warning, undone="nothing was published")


def _run(begun: Replay) -> Outcome:
    """Run a replay with the logs of a running gateway, so that the first Ctrl-C or SIGTERM ends it in good order."""
    from tokenweir.telemetry.logs import configure_logging  # noqa: PLC0415 - slow to import; --help does not need it.

    configure_logging(begun.logging.level, begun.logging.format, process="replay")
    with _stopped_by_signals(begun.stop):
        return begun.run()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let signals end what runs, and have their old meaning afterwards."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(total: int) -> Callable[[Counts], None]:
    """Return what shows how far it is: on a terminal only, and at most once a second."""
    if not sys.stderr.isatty():
        return lambda _counts: None
    told_at = [0.0]

    def tell(counts: Counts) -> None:
        now = time.monotonic()
        if now - told_at[0] >= _TELL_EVERY_SECONDS:
            told_at[0] = now
            done = sum(number for kind, number in counts.items() if kind.handled in _WORDS[:-1])
            talk(f"{done:,} of {total:,} letters replayed, {counts.total():,} read")

    return tell


def _end(stream: str, outcome: Outcome) -> None:
    """Say what is left to say, and end with the exit code."""
    if outcome.uncertain:
        talk(f"{outcome.uncertain:,} more letters may have been replayed or not: the next replay knows", style="yellow")
    code, words = _ends(stream)[outcome.end]
    if words:
        talk(words, style="yellow")
    if code:
        raise typer.Exit(code)


def _ends(stream: str) -> dict[End, tuple[int, str]]:
    """Return exit code and words for each end."""
    from tokenweir.runtime.replay import End  # noqa: PLC0415 - slow to import; --help does not need it.

    go_on = f"start 'tokenweir replay {stream}' again to go on"
    return {
        End.DONE: (0, ""),
        End.INTERRUPTED: (130, f"interrupted; {go_on}"),
        End.TAKEN_OVER: (3, f"another replay of '{stream}' was started and goes on from here"),
        End.NO_CONSENT: (3, f"there is no fresh consent: the gateway on this state directory has stopped; {go_on}"),
        End.REFUSED: (3, f"it cannot go on as it is; repair that, then {go_on}"),
        End.FAILED: (1, f"it failed again and again; {go_on}"),
    }


# What is shown.


def _show_survey(stream: str, found: Survey, format_: Format) -> None:
    total = found.chosen.total()
    kept, chosen = found.kept.total(), sorted(found.chosen.items(), key=lambda entry: (-entry[1], entry[0]))
    if format_ is Format.JSON:
        out_json(
            {
                "stream": stream,
                "topic": found.topic,
                "group": found.group,
                "from": {str(number): offset for number, offset in sorted(found.starts.items())},
                "to": {str(number): offset for number, offset in sorted(found.ends.items())},
                "read": found.read,
                "chosen": total,
                "not_chosen": kept,
                "foreign": found.foreign,
                "expired": found.expired,
                "source_records_present": found.present,
                "oldest": None if found.oldest_ms is None else shown_time(found.oldest_ms),
                "newest": None if found.newest_ms is None else shown_time(found.newest_ms),
                "letters": [{**kind._asdict(), "letters": number} for kind, number in chosen],
            }
        )
        return
    if chosen:
        table(
            ["audience", "reason", "schema id", "letters"],
            [[kind.audience, kind.reason, _schema(kind.schema_id), f"{number:,}"] for kind, number in chosen],
        )
    foreign = f", {found.foreign:,} are of other streams" if found.foreign else ""
    out(f"{found.read:,} letters in {found.topic}: {total:,} chosen, {kept:,} not{foreign}")
    if total:
        out(f"their records are of {shown_time(found.oldest_ms)} to {shown_time(found.newest_ms)}")
        out(f"{found.present:,} source records are still there")


def _schema(schema_id: int) -> str:
    return "" if schema_id < 0 else str(schema_id)


def _show_counts(  # noqa: PLR0917 - what there is to show
    stream: str, counts: Counts, topic: str, end: str, uncertain: int, format_: Format
) -> None:
    sums = Counter[str]()
    rows: dict[tuple[str, str], Counter[str]] = {}
    for kind, number in counts.items():
        sums[kind.handled.value] += number
        rows.setdefault((kind.audience, kind.reason), Counter())[kind.handled.value] += number
    shown = {place: row for place, row in sorted(rows.items()) if any(row[word] for word in _WORDS)}
    chosen = sum(sums[word] for word in _WORDS[:-1])
    if format_ is Format.JSON:
        out_json(
            {
                "stream": stream,
                "topic": topic,
                "end": end,
                "read": counts.total(),
                "chosen": chosen,
                **{word: sums[word] for word in (*_WORDS, "foreign")},
                "uncertain": uncertain,
                "letters": [
                    {"audience": audience or None, "reason": reason, **{word: row[word] for word in _WORDS}}
                    for (audience, reason), row in shown.items()
                ],
            }
        )
        return
    lines = [
        [audience or "(no such output)", reason, *(f"{row[word]:,}" for word in _WORDS)]
        for (audience, reason), row in shown.items()
    ]
    lines.append(["all", f"{counts.total():,} read, {chosen:,} chosen", *(f"{sums[word]:,}" for word in _WORDS)])
    table(["audience", "reason", "sanitized", "withheld", "rejected again", "gone", "put back"], lines)
