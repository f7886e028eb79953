"""``tokenweir consent``: decisions of data subjects, read from and written to the consent topic."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption, config_path
from tokenweir.errors import InvalidValueError, RefusedError, UsageError

if TYPE_CHECKING:
    from tokenweir.app.consentwriter import Answered
    from tokenweir.config import Config
    from tokenweir.core.consent import ConsentKey, SourceState, SubjectConsent
    from tokenweir.core.policy.models import Policy

SubjectArgument = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="type:id, or type:id#source. Other characters are percent-encoded.")
]
SourceOption = Annotated[
    str, typer.Option("--source", "-s", metavar="NAME", help="Who speaks, such as web. Default: the bare key.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(no_args_is_help=True, help="Set, look up and import decisions of data subjects.")
    verbs.add(
        group,
        set_,
        "tokenweir consent set customer:0000012345 email_marketing=allow --expires 2027-12-31T00:00:00Z",
        "tokenweir consent set customer:0000012345 '*=deny' --source web",
        name="set",
    )
    verbs.add(group, get, "tokenweir consent get customer:0000012345 --format json")
    verbs.add(
        group,
        import_,
        "tokenweir consent import decisions.jsonl",
        "zcat decisions.jsonl.gz | tokenweir consent import -",
        name="import",
    )
    app.add_typer(group, name="consent")


def set_(
    subject: SubjectArgument,
    decisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PURPOSE=allow|deny...", help="Decisions; '*=deny' denies all, PURPOSE@RECIPIENT=deny one."
        ),
    ] = None,
    *,
    config: ConfigOption = None,
    source: SourceOption = "",
    minor: Annotated[bool | None, typer.Option("--minor/--not-minor", help="Whether the subject is a minor.")] = None,
    jurisdiction: Annotated[
        str | None, typer.Option("--jurisdiction", metavar="CODE", help="Whose law applies, such as US-CA.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="When the allows of this call end, as RFC 3339.")
    ] = None,
    notice: Annotated[
        str | None, typer.Option("--notice", metavar="TEXT", help="Which notice the subject was shown.")
    ] = None,
    evidence: Annotated[
        str | None, typer.Option("--evidence", metavar="TEXT", help="Where the decision is documented.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Merge decisions into what one source says of a subject.

    Decisions that are not mentioned stay as they are, with their dates. The record is written to the consent topic
    and acknowledged by all its replicas before this ends; a gateway applies it within a moment.
    """
    from tokenweir.app.consentwriter import Change, ConsentTopic, decisions_of  # noqa: PLC0415 - slow to import.

    found, policy = _open(config)
    key = _key(subject, source, policy)
    words = decisions_of(decisions or [], policy)
    if not words and minor is None and jurisdiction is None:
        raise UsageError("nothing to set: give decisions, --minor, --not-minor or --jurisdiction")
    now_ms = time.time_ns() // 1_000_000
    expires_at_ms = _expiry(expires, words, now_ms)
    change = Change(words, expires_at_ms, notice, evidence, minor, jurisdiction)
    topic = ConsentTopic(found)
    try:
        state, place = topic.change(key, change, now_ms)
    except InvalidValueError as error:
        raise UsageError(f"this would not be a valid state: {error}") from None
    if format_ is Format.JSON:
        out_json(
            {
                "subject": _key_text(key),
                "topic": topic.name,
                "partition": place.partition,
                "offset": place.offset,
                "state": _plain_state(state),
            }
        )
        return
    out(f"{_key_text(key)}: written to {topic.name}, partition {place.partition}, offset {place.offset}")


def get(
    subject: SubjectArgument,
    config: ConfigOption = None,
    source: SourceOption = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what every source says of a subject, and the answer for every purpose.

    With --source only that one's state is looked up, and the answers are what it alone would give. Legal bases, minors
    and the time of an event are not part of an answer.
    """
    from tokenweir.app.consentwriter import ConsentTopic, answers  # noqa: PLC0415 - slow to import.
    from tokenweir.core.consent import DENIED, UNKNOWN, SubjectConsent  # noqa: PLC0415 - as above.

    settings, policy = _open(config)
    key = _key(subject, source, policy)
    topic = ConsentTopic(settings)
    if key.source:
        state = topic.state(key)
        consent = UNKNOWN if state is None else SubjectConsent({key.source: state})
    else:
        found = topic.read(lambda other: other == key.subject, on_progress=_progress("records read"))
        consent = found.subjects.get(key.subject, UNKNOWN)
        if found.unreadable:
            talk("the topic holds keys that cannot be read: until they are acknowledged, every subject is denied")
            consent = DENIED
    found_answers = answers(consent, policy, time.time_ns() // 1_000_000)
    if format_ is Format.JSON:
        out_json(_plain_answer(key, consent, found_answers))
        return
    _show_answer(consent, found_answers)


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    config: ConfigOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write whole states from JSON lines: {"subject": "customer:1#web", ...the value of a consent record}.

    All lines are checked first: one that cannot be used refuses the whole file. Each line replaces what its source
    said; "decisions": null forgets it, unless that would forget a deny.
    """
    from tokenweir.app.consentwriter import ConsentTopic, states_in  # noqa: PLC0415 - slow to import.

    text = _text_of(file)
    settings, policy = _open(config)
    states, lines = states_in(text, file, time.time_ns() // 1_000_000, policy)
    forgotten = sum(state is None for state in states.values())
    topic = ConsentTopic(settings)
    if forgotten and not yes:
        _ask(f"{_counted(forgotten, 'state')} will be forgotten", topic.name, file)
    written = topic.import_states(states, _progress("records written"))
    if format_ is Format.JSON:
        out_json({"topic": topic.name, "lines": lines, "written": written, "forgotten": forgotten})
        return
    forgets = f", {_counted(forgotten, 'tombstone')} among them" if forgotten else ""
    out(f"{_counted(lines, 'line')} read, {_counted(written, 'record')} written to {topic.name}{forgets}")


def _open(config: Path | None) -> tuple[Config, Policy]:
    from tokenweir.app.cluster import open_cluster  # noqa: PLC0415 - slow to import.

    found, workspace = open_cluster(config_path(config), os.environ)
    return found, workspace.policy.policy


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _key(text: str, source: str, policy: Policy) -> ConsentKey:
    from tokenweir.app.consentwriter import subject_of  # noqa: PLC0415 - slow to import.
    from tokenweir.core.consent import ConsentKey, ConsentKeyError, format_key  # noqa: PLC0415 - as above.

    key, changed = subject_of(text, policy)
    if source and key.source and source != key.source:
        raise UsageError("the subject and --source name two sources")
    key = ConsentKey(key.subject, source or key.source)
    try:
        format_key(key.subject, key.source)
    except ConsentKeyError as error:
        raise UsageError(str(error)) from None
    if changed:
        talk(f"the id was put into its canonical form: {key.subject.canonical}")
    return key


def _key_text(key: ConsentKey) -> str:
    return f"{key.subject.canonical}#{key.source}" if key.source else key.subject.canonical


def _expiry(text: str | None, words: Mapping[str, str], now_ms: int) -> int | None:
    from tokenweir.core.timestamps import parse_date_time  # noqa: PLC0415 - slow to import.

    if text is None:
        return None
    if "allow" not in words.values():
        raise UsageError("--expires is for allows: a deny never expires")
    try:
        expires_at_ms = parse_date_time(text)
    except InvalidValueError:
        raise UsageError("--expires is no RFC 3339 time, such as 2027-12-31T00:00:00Z") from None
    if expires_at_ms <= now_ms:
        raise UsageError("--expires lies in the past")
    return expires_at_ms


def _text_of(file: str) -> str:
    from tokenweir.errors import FileFormatError  # noqa: PLC0415 - needed here only.
    from tokenweir.runtime.sources import read_text  # noqa: PLC0415 - slow to import.

    if file != "-":
        return read_text(Path(file))
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError("-: not UTF-8") from None


def _ask(warning: str, name: str, file: str) -> None:
    """Have a name typed before something that cannot be taken back."""
    if file == "-" or not sys.stdin.isatty():
        raise RefusedError(f"{warning}, which cannot be taken back: say --yes")
    talk(f"{warning}, which cannot be taken back", style="yellow")
    if typer.prompt(f"type the name of the topic ({name}) to go on", err=True) != name:
        raise RefusedError("another name was typed; nothing was written")


def _progress(what: str) -> Callable[[int], None]:
    """Return what shows a growing number, on a terminal only."""
    if not sys.stderr.isatty():
        return lambda _number: None
    return lambda number: talk(f"{number:,} {what}")


def _time(time_ms: int | None) -> str:
    from tokenweir.core.timestamps import format_date_time  # noqa: PLC0415 - slow to import.

    return "" if time_ms is None else format_date_time(time_ms)


def _plain_state(state: SourceState) -> dict[str, object]:
    """Return a state as JSON; one that cannot be read says only that."""
    if state.undecodable:
        return {"undecodable": True}
    return {
        "decided_at": _time(state.decided_at_ms),
        "jurisdiction": state.jurisdiction,
        "minor": state.minor,
        "decisions": {
            name: {
                "decision": decision.decision,
                "decided_at": _time(decision.decided_at_ms),
                "expires_at": _time(decision.expires_at_ms) or None,
                "notice": decision.notice,
                "evidence": decision.evidence,
            }
            for name, decision in sorted(state.decisions.items())
        },
    }


def _plain_answer(key: ConsentKey, consent: SubjectConsent, found: list[Answered]) -> dict[str, object]:
    return {
        "subject": key.subject.canonical,
        "minor": consent.minor,
        "undecodable": consent.undecodable,
        "answers": {
            each.purpose: {
                "answer": each.verdict.value,
                "since": _time(each.since_ms) or None,
                "expires": _time(each.expires_at_ms) or None,
            }
            for each in found
        },
        "denied_recipients": sorted(consent.recipient_denials),
        "sources": {source: _plain_state(state) for source, state in sorted(consent.states.items())},
    }


def _show_answer(consent: SubjectConsent, found: list[Answered]) -> None:
    table(
        ["purpose", "answer", "since", "expires"],
        [[each.purpose, each.verdict.value, _time(each.since_ms), _time(each.expires_at_ms)] for each in found],
    )
    if consent.states:
        out()
        table(["source", "name", "decision", "decided at", "expires", "notice", "evidence"], _source_rows(consent))
    else:
        talk("the consent topic says nothing of this subject")
    if consent.minor:
        talk("the subject is marked as a minor")


def _source_rows(consent: SubjectConsent) -> list[list[str]]:
    rows = []
    for source, state in sorted(consent.states.items()):
        name = f"(misplaced in partition {source.split('!')[1]})" if source.startswith("!") else source or "(bare key)"
        if state.undecodable:
            rows.append([name, "*", "deny", "", "", "", "cannot be read"])
        rows += [
            [
                name,
                purpose,
                decision.decision,
                _time(decision.decided_at_ms),
                _time(decision.expires_at_ms),
                decision.notice or "",
                decision.evidence or "",
            ]
            for purpose, decision in sorted(state.decisions.items())
        ]
    return rows
