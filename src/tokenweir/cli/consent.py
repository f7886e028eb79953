"""``tokenweir consent``: decisions of data subjects, read from and written to the consent topic."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import enforcement, verbs
from tokenweir.cli.asking import have_typed
from tokenweir.cli.console import harmless, out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption
from tokenweir.cli.subjects import (
    SourceOption,
    SubjectArgument,
    key_of,
    key_text,
    open_policy,
    plain_blocks,
    plain_state,
    shown_time,
    tell_blocks,
    tell_misplaced,
)
from tokenweir.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from tokenweir.app.consentanswers import Answered
    from tokenweir.core.consent import ConsentKey, SubjectConsent
    from tokenweir.core.policy.models import Policy

_ASKING_BASES: Final = frozenset({"consent", "opt_out", "legitimate_interest"})
"""Bases for which the decisions of the person count."""
_MORE: Final = 1


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(no_args_is_help=True, help="Set, withdraw, look up and import decisions of data subjects.")
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
    verbs.add(group, acknowledge, "tokenweir consent acknowledge 3 17", "tokenweir consent acknowledge 3 17 --yes")
    enforcement.register(group)
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
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.consentarguments import decisions_of  # noqa: PLC0415 - as above.
    from tokenweir.app.consentwriter import Change, ConsentTopic  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import seal_if_open  # noqa: PLC0415 - as above.

    found, loaded = open_policy(config)
    policy = loaded.policy
    key = key_of(subject, source, policy)
    words = decisions_of(decisions or [], policy)
    if not words and minor is None and jurisdiction is None:
        raise UsageError("nothing to set: give decisions, --minor, --not-minor or --jurisdiction")
    now_ms = time.time_ns() // 1_000_000
    expires_at_ms = _expiry(expires, words, now_ms)
    change = Change(words, expires_at_ms, notice, evidence, minor, jurisdiction)
    with cluster_faults(found):
        topic = ConsentTopic(found, seal_if_open(found))
    try:
        with cluster_faults(found):
            written = topic.change(key, change, now_ms, _progress("records read"))
    except InvalidValueError as error:
        raise UsageError(f"this would not be a valid state: {error}") from None
    place = written.place
    if format_ is Format.JSON:
        out_json(
            {
                "subject": key_text(key),
                "topic": topic.name,
                "partition": place.partition,
                "offset": place.offset,
                "state": plain_state(written.state),
                "misplaced_in": list(written.misplaced),
                **plain_blocks(written.blocks),
            }
        )
    else:
        out(f"{key_text(key)}: written to {topic.name}, partition {place.partition}, offset {place.offset}")
    tell_misplaced(written.misplaced)
    tell_blocks(written.blocks)


def get(
    subject: SubjectArgument,
    config: ConfigOption = None,
    source: SourceOption = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what is decided of a subject.

    What every source says, and the answer for every purpose. With --source only that one's state is looked up, and
    the answers are what it alone would give. Legal bases and the time of an event are not part of an answer.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.consentanswers import answers  # noqa: PLC0415 - slow to import.
    from tokenweir.app.consentwriter import ConsentTopic  # noqa: PLC0415 - as above.
    from tokenweir.core.consent import (  # noqa: PLC0415 - as above.
        DENIED,
        UNKNOWN,
        SubjectConsent,
        misplaced_partitions,
    )
    from tokenweir.runtime.blocks import Blocks  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import seal_if_open  # noqa: PLC0415 - as above.

    settings, loaded = open_policy(config)
    policy = loaded.policy
    key = key_of(subject, source, policy)
    with cluster_faults(settings):
        topic = ConsentTopic(settings, seal_if_open(settings))
    blocks, misplaced = Blocks(), list[int]()
    if key.source:
        with cluster_faults(settings):
            state = topic.state(key)
        consent = UNKNOWN if state is None else SubjectConsent({key.source: state})
    else:
        with cluster_faults(settings):
            found = topic.read(lambda other: other == key.subject, on_progress=_progress("records read"))
        consent = found.consent(key.subject)
        blocks, misplaced = found.blocks, misplaced_partitions(consent)
        if found.erased and found.hasher is None:
            talk("people were erased; whether this is one of them is not known here: the keys cannot be opened")
        if blocks.offsets:
            consent = DENIED
    found_answers = answers(consent, policy, time.time_ns() // 1_000_000)
    if format_ is Format.JSON:
        plain = _plain_answer(key, consent, found_answers)
        out_json(plain if key.source else {**plain, "misplaced_in": misplaced, **plain_blocks(blocks)})
    else:
        _show_answer(consent, found_answers, policy)
    tell_misplaced(misplaced)
    tell_blocks(blocks)


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    config: ConfigOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write whole states from JSON lines.

    A line is {"subject": "customer:1#web", ...the value of a consent record}. All lines are checked first: one that
    cannot be used refuses the whole file. Each line replaces what its source said; "decisions": null forgets it,
    unless that would forget a deny. Lines that are older than what their source says now refuse the whole file too.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.consentwriter import ConsentTopic, states_in  # noqa: PLC0415 - slow to import.
    from tokenweir.runtime.gateway import seal_if_open  # noqa: PLC0415 - as above.

    text = _text_of(file)
    settings, loaded = open_policy(config)
    policy = loaded.policy
    states, lines = states_in(text, file, time.time_ns() // 1_000_000, policy)
    forgotten = sum(line.state is None for line in states.values())
    with cluster_faults(settings):
        topic = ConsentTopic(settings, seal_if_open(settings))
    if forgotten and not yes:
        warning = f"{_counted(forgotten, 'state')} will be forgotten, which cannot be taken back"
        have_typed("topic", topic.name, warning=warning, stdin_is_taken=file == "-")
    with cluster_faults(settings):
        written = topic.import_states(states.values(), _progress("records written"))
    replaced = lines - len(states)
    if format_ is Format.JSON:
        plain = {"topic": topic.name, "lines": lines, "replaced": replaced, "written": written, "forgotten": forgotten}
        out_json(plain)
        return
    repeats = f" ({_counted(replaced, 'line')} replaced by a later one for the same key)" if replaced else ""
    forgets = f", {_counted(forgotten, 'tombstone')} among them" if forgotten else ""
    out(f"{_counted(lines, 'line')} read{repeats}, {_counted(written, 'record')} written to {topic.name}{forgets}")


def acknowledge(
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, help="The consent partition.")],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0, help="The last record that is accepted.")],
    *,
    config: ConfigOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Accept consent records whose keys cannot be read.

    Such a record may have been anybody's withdrawal, so every subject is denied until a person has looked at it; the
    event consent_undecodable names its place. Write what it meant under a key that can be read, if anybody knows; then
    accept it, and all before it in its partition. Run this where the gateway runs, once for each instance: it is kept
    in the state directory. Exit code 1: it was accepted, but more of them lie behind it, and everyone stays denied.
    """
    from tokenweir.app import acknowledgement  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - as above.

    settings, _loaded = open_policy(config)
    with cluster_faults(settings):
        found = acknowledgement.examine(settings, partition, offset, _progress("records read"))
    accepted = _counted(len(found.accepted), "unreadable key")
    if not found.accepted:
        talk(f"no record with an unreadable key is there any more, at offset {offset} or before it")
    if not yes:
        warning = f"whatever {accepted} of partition {partition} meant is given up, which cannot be taken back"
        have_typed("topic", found.topic, warning=warning)
    acknowledgement.accept(settings, found)
    if format_ is Format.JSON:
        out_json(
            {
                "topic": found.topic,
                "topic_id": found.topic_id,
                "partition": partition,
                "offset": offset,
                "accepted": list(found.accepted),
                "remaining": list(found.remaining),
            }
        )
    else:
        out(f"{accepted} of {found.topic}, partition {partition}, accepted up to offset {offset}")
    if found.remaining:
        talk(
            f"{_counted(len(found.remaining), 'unreadable key')} of this partition remain, the last at offset "
            f"{found.remaining[-1]}: every subject stays denied",
            style="yellow",
        )
        raise typer.Exit(_MORE)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


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


def _progress(what: str) -> Callable[[int], None]:
    """Return what shows a growing number, on a terminal only."""
    if not sys.stderr.isatty():
        return lambda _number: None
    return lambda number: talk(f"{number:,} {what}")


def _plain_answer(key: ConsentKey, consent: SubjectConsent, found: list[Answered]) -> dict[str, object]:
    return {
        "subject": key.subject.canonical,
        "minor": consent.minor,
        "undecodable": consent.undecodable,
        "answers": {
            each.purpose: {
                "answer": each.verdict.value,
                "since": shown_time(each.since_ms) or None,
                "expires": shown_time(each.expires_at_ms) or None,
            }
            for each in found
        },
        "denied_recipients": sorted(consent.recipient_denials),
        "sources": {source: plain_state(state) for source, state in sorted(consent.states.items())},
    }


def _show_answer(consent: SubjectConsent, found: list[Answered], policy: Policy) -> None:
    table(
        ["purpose", "answer", "since", "expires"],
        [
            [each.purpose, _answer(each, consent, policy), shown_time(each.since_ms), shown_time(each.expires_at_ms)]
            for each in found
        ],
    )
    if consent.states:
        out()
        table(["source", "name", "decision", "decided at", "expires", "notice", "evidence"], _source_rows(consent))
    else:
        talk("the consent topic says nothing of this subject")
    for source, state in sorted(consent.states.items()):
        if state.jurisdiction is not None:
            out(f"jurisdiction: {harmless(state.jurisdiction)}, says {harmless(source) or 'the bare key'}")
    if consent.minor:
        out("minor: yes")


def _answer(answered: Answered, consent: SubjectConsent, policy: Policy) -> str:
    """Return the answer as a word; a minor's is a deny where the purpose refuses minors and its basis asks at all."""
    purpose = policy.purposes[answered.purpose]
    asks = not _ASKING_BASES.isdisjoint({purpose.basis, *purpose.basis_by.values()})
    return "deny (minor)" if consent.minor and purpose.minors == "refuse" and asks else answered.verdict.value


def _source_rows(consent: SubjectConsent) -> list[list[str]]:
    from tokenweir.core.consent import ERASED_SOURCE  # noqa: PLC0415 - slow to import.

    rows = []
    for source, state in sorted(consent.states.items()):
        name = f"(misplaced in partition {source.split('!')[1]})" if source.startswith("!") else source or "(bare key)"
        if source == ERASED_SOURCE:
            rows.append(["(erased)", "*", "deny", "", "", "", "'tokenweir erase --status' tells more"])
        elif state.undecodable:
            rows.append([name, "*", "deny", "", "", "", "cannot be read"])
        rows += [
            [
                name,
                purpose,
                decision.decision,
                shown_time(decision.decided_at_ms),
                shown_time(decision.expires_at_ms),
                decision.notice or "",
                decision.evidence or "",
            ]
            for purpose, decision in sorted(state.decisions.items())
        ]
    return rows
