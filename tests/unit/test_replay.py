"""Replays without a broker: which letters are whose, what becomes of each, and sums that survive kills."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from tokenweir.adapters import recordreader
from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.consumer import Committed, GroupConsumer
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.adapters.recordreader import RecordPlace, RecordReader
from tokenweir.core import deadletter, wire
from tokenweir.core.batches import OutputBatch
from tokenweir.core.context import epoch_outputs
from tokenweir.core.deadletter import DeadLetter, ReadLetter
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.policy.models import Policy
from tokenweir.runtime.assignment import Assignment
from tokenweir.runtime.clock import SystemClock
from tokenweir.runtime.plans import PlanCache, ReadyPlan
from tokenweir.runtime.replayintake import LetterConsumer, ReplayBatch, ReplayDelivery, ReplayIntake
from tokenweir.runtime.replayledger import Account, Intent, Ledger, chosen
from tokenweir.runtime.replayletters import Choice, Desk, Handled, Kind, Lot
from tokenweir.runtime.replaysource import SourceRecords

_TIME_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class FakeMessage:
    """A record as the client library gives it."""

    value_: bytes | None = b""
    offset_: int = 0
    partition_: int = 0
    timestamp_ms: int = _TIME_MS
    topic_: str = "raw.dead-letters"

    def topic(self) -> str:
        """Its topic."""
        return self.topic_

    def value(self) -> bytes | None:
        """Its value."""
        return self.value_

    def key(self) -> bytes | None:
        """Its key."""
        return None

    def headers(self) -> None:
        """No headers."""

    def offset(self) -> int:
        """Its offset."""
        return self.offset_

    def partition(self) -> int:
        """Its partition."""
        return self.partition_

    def timestamp(self) -> tuple[int, int]:
        """Kind and time."""
        return 1, self.timestamp_ms

    def __len__(self) -> int:
        return len(self.value_ or b"")


def _message(*arguments: Any, **named: Any) -> Message:  # noqa: ANN401 - those of FakeMessage.
    return cast("Message", FakeMessage(*arguments, **named))


def _value(
    offset: int = 0, output: str = "raw.crm", reason: Reason = Reason.MALFORMED, partition: int = 0, topic: str = "raw"
) -> bytes:
    letter = DeadLetter(topic, partition, offset, _TIME_MS, 7, output, reason, "", "old", "0")
    return wire.frame(9, letter.encode())


_POLICY = """
version: 1
revision: 1
purposes: {{offers: {{title: Offers, basis: consent, retention_days: 30}}}}
subjects: {{customer: {{class: id.customer, form: {{digits: 10}}}}}}
classes: {{id.customer: {{title: Number, do: {{tokenize: customer}}}}}}
tokens: {{customer: {{format: digits, length: 10}}}}
audiences: {{{audiences}}}
streams: {{{streams}}}
"""
_AUDIENCE = "{0}: {{title: {0}, purposes: [offers], recipients: [{{id: {0}, name: {0}, role: internal}}]}}"
_STREAM = (
    "{}: {{source: {{topic: {}, format: avro}}, subjects: [{{type: customer, path: id}}], event_time: at, "
    "outputs: [{}]}}"
)


def _policy(**streams: tuple[str, list[str]]) -> Policy:
    """Return a policy with these streams, each by its source and audiences; outputs are {source}.{audience}."""
    audiences = sorted({audience for _, each in streams.values() for audience in each})
    text = _POLICY.format(
        audiences=", ".join(map(_AUDIENCE.format, audiences)),
        streams=", ".join(
            _STREAM.format(name, source, ", ".join(f"{{audience: {audience}}}" for audience in each))
            for name, (source, each) in streams.items()
        ),
    )
    return load_policy(text, "policy.yaml").policy


# Whose a letter is


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(), True),
        (Choice(reasons=frozenset({"malformed", "too_deep"})), True),
        (Choice(reasons=frozenset({"too_deep"})), False),
        (Choice(audiences=frozenset({"crm"})), True),
        (Choice(audiences=frozenset({"ads"})), False),
        (Choice(partition=3), True),
        (Choice(partition=2), False),
        (Choice(partition=3, first_offset=5, last_offset=5), True),
        (Choice(partition=3, first_offset=6), False),
        (Choice(partition=3, last_offset=4), False),
        (Choice(reasons=frozenset({"malformed"}), audiences=frozenset({"ads"})), False),
    ],
)
def test_a_letter_is_chosen_by_all_conditions_together(choice: Choice, taken: bool) -> None:  # noqa: FBT001 - a case.
    """Those that are not given hold for every letter, and ranges include both ends."""
    found = Desk(_policy(clicks=("raw", ["crm", "ads"])), "clicks", choice).sort(_value(5, partition=3))
    assert (found.lot, found.audience, found.reason) == (Lot.CHOSEN if taken else Lot.PUT_BACK, "crm", "malformed")


def test_letters_of_other_sources_and_records_that_are_none_are_left_alone() -> None:
    """What shares the topic would be there twice if it were put back: its own replay reads it where it is."""
    desk = Desk(_policy(clicks=("raw", ["crm"]), orders=("other", ["crm"])), "clicks", Choice())
    assert desk.sort(_value(output="other.crm", topic="other")).lot is Lot.FOREIGN
    for value in (None, b"", b"\0", _value() + b"!", wire.frame(9, b"nothing")):
        assert desk.sort(value) == (None, "", Lot.FOREIGN)


def test_an_output_that_no_policy_has_any_more_is_put_back() -> None:
    """Also where the choice names nothing: a later policy may have it again."""
    found = Desk(_policy(clicks=("raw", ["crm"])), "clicks", Choice()).sort(_value(output="raw.gone"))
    assert (found.lot, found.audience) == (Lot.PUT_BACK, "")


def test_a_letter_names_its_epoch_and_is_replayed_into_it_alone() -> None:
    """One of an epoch that is fed no longer, or not yet, is put back by the stream to which its output belongs."""
    policy = _policy(clicks=("raw", ["crm"]), other=("raw", ["ads"]))
    fed = epoch_outputs(policy, "clicks", {"crm": 3}, {"crm": (2,)})
    desk = Desk(policy, "clicks", Choice(), fed)

    for output, lot, audience in (
        ("raw.crm.e3", Lot.CHOSEN, "crm"),
        ("raw.crm.e2", Lot.CHOSEN, "crm"),
        ("raw.crm", Lot.PUT_BACK, ""),
        ("raw.crm.e4", Lot.PUT_BACK, ""),
        ("raw.ads.e2", Lot.FOREIGN, ""),
    ):
        found = desk.sort(_value(output=output))
        assert (found.lot, found.audience) == (lot, audience), output


@given(st.sampled_from(["raw.crm", "raw.ads", "raw.gone", "raw.web", "raw.crm.e2", "raw.web.e7"]))
def test_each_letter_belongs_to_exactly_one_stream_of_its_source(output: str) -> None:
    """Two streams may read one source and share its dead letters."""
    policy = _policy(one=("raw", ["crm"]), two=("raw", ["ads", "web"]), three=("other", ["crm"]))
    lots = [Desk(policy, stream, Choice()).sort(_value(output=output)).lot for stream in policy.streams]
    assert lots.count(Lot.FOREIGN) == 2


def test_a_letter_of_a_newer_version_keeps_its_reason() -> None:
    """A word that this version does not know is no ground to lose the letter."""
    letter = ReadLetter("raw", 0, 5, _TIME_MS, 7, "raw.crm", "stage_of_tomorrow", "reason_of_tomorrow", "", "d", "9")
    value = wire.frame(9, deadletter._WRITE(list(letter)))
    desk = Desk(_policy(clicks=("raw", ["crm"])), "clicks", Choice(reasons=frozenset({"malformed"})))
    assert desk.sort(value) == (letter, "crm", Lot.PUT_BACK)


# What becomes of it


@dataclass
class FakeSources:
    """Source records by offset."""

    records: dict[int, Message] = field(default_factory=dict)
    fetched: list[int] = field(default_factory=list)

    def fetch(self, letters: Iterable[ReadLetter]) -> None:
        """Note what is asked for."""
        self.fetched += [letter.source_offset for letter in letters]

    def get(self, letter: ReadLetter) -> Message | None:
        """The record."""
        return self.records.get(letter.source_offset)


@dataclass
class FakePlans:
    """One plan for schema 7; nothing is known of others."""

    any_plan: None = None

    def get(self, schema_id: int) -> ReadyPlan | None:
        """The plan."""
        return ReadyPlan(cast("Any", None), (101, 102)) if schema_id == 7 else None


@dataclass
class FakeProducer:
    """Keeps what it is given."""

    records: list[tuple[str, bytes | None, int]] = field(default_factory=list)

    def produce(self, topic: str, value: bytes | None, _key: bytes | None = None, **more: Any) -> None:  # noqa: ANN401 - as the client takes it
        """Take a record."""
        self.records.append((topic, value, more.get("timestamp_ms", 0)))


def _intake(sources: FakeSources, choice: Choice = Choice()) -> ReplayIntake:  # noqa: B008 - it is frozen.
    desk = Desk(_policy(clicks=("raw", ["crm", "ads"])), "clicks", choice)
    return ReplayIntake(cast("PlanCache", FakePlans()), SystemClock(), framed=True, desk=desk, sources=sources)


def _batch(intake: ReplayIntake, *values: bytes) -> ReplayBatch:
    offsets = [40 + number for number in range(len(values))]
    messages = [_message(value, offset) for value, offset in zip(values, offsets, strict=True)]
    return intake.batch("raw.dead-letters", messages, [0] * len(values), offsets)


def _delivered(batch: ReplayBatch, outcomes: Sequence[Sequence[Outcome]]) -> tuple[FakeProducer, Account]:
    outputs = [OutputBatch(), OutputBatch()]
    for entries in outcomes:
        for output, outcome, number in zip(outputs, entries, (101, 102), strict=True):
            output.add(outcome, wire.frame(number, b""))
    out, producer = io.StringIO(), FakeProducer()
    ledger = Ledger(out)
    delivery = ReplayDelivery(("raw.crm", "raw.ads"), "raw.dead-letters", 9, "new", "1", ledger=ledger)
    delivery.produce(cast("TransactionalProducer", producer), batch, outputs)
    ledger.settle()
    account = Account()
    account.hear(out.getvalue().splitlines())
    return producer, account


_SANITIZED = Outcome(Fate.SANITIZED, b"key", b"datum", 123)


def test_only_the_output_that_the_letter_names_gets_the_record() -> None:
    """The other one had its own fate when the record was first read, and must not get it twice."""
    sources = FakeSources({5: _message(wire.frame(7, b"datum"), 5, 1, topic_="raw")})
    batch = _batch(_intake(sources), _value(5, "raw.ads"))
    producer, account = _delivered(batch, [[_SANITIZED, _SANITIZED]])

    assert (batch.values, batch.timestamps_ms, batch.offsets) == ([wire.frame(7, b"datum")], [_TIME_MS], [40])
    assert not batch.reasons
    assert producer.records == [("raw.ads", wire.frame(102, b"datum"), 123)]
    assert account.counts == {Kind("ads", "malformed", Handled.SANITIZED): 1}


def test_a_record_that_is_rejected_again_becomes_one_new_letter() -> None:
    """With the coordinates of the source, not of the letter; the old one is used up."""
    sources = FakeSources({5: _message(wire.frame(7, b"datum"), 5, 1, topic_="raw")})
    batch = _batch(_intake(sources), _value(5, "raw.ads", partition=1))
    producer, account = _delivered(batch, [[_SANITIZED, Outcome.rejected(Reason.TOO_DEEP, "a.b")]])

    ((topic, value, _),) = producer.records
    letter = deadletter.read(value or b"")
    assert topic == "raw.dead-letters"
    assert letter == ("raw", 1, 5, _TIME_MS, 7, "raw.ads", "decode", "too_deep", "a.b", "new", "1")
    assert account.counts == {Kind("ads", "malformed", Handled.REJECTED): 1}


def test_what_is_withheld_or_gone_leaves_nothing() -> None:
    """Both letters are used up and counted."""
    intake = _intake(FakeSources({5: _message(wire.frame(7, b"datum"), 5, topic_="raw")}))
    batch = _batch(intake, _value(5), _value(6))
    producer, account = _delivered(batch, [[Outcome(Fate.WITHHELD), _SANITIZED], [_SANITIZED, _SANITIZED]])

    assert batch.gone == [False, True]
    assert producer.records == []
    assert account.counts == {
        Kind("crm", "malformed", Handled.WITHHELD): 1,
        Kind("crm", "malformed", Handled.GONE): 1,
    }


def test_a_letter_that_is_not_chosen_goes_back_byte_for_byte_with_its_time() -> None:
    """It asks for no source record, no plan and no decision; foreign records do not even go back."""
    sources = FakeSources()
    intake = _intake(sources, Choice(audiences=frozenset({"ads"})))
    value = _value(5)
    batch = _batch(intake, value, b"foreign")
    intake.expect(batch.messages)
    rejected = [Outcome.rejected(batch.reasons[0])] * 2
    producer, account = _delivered(batch, [rejected, rejected])

    assert sources.fetched == []
    assert (batch.plans, batch.waiting, sorted(batch.reasons)) == ([None, None], [], [0, 1])
    assert producer.records == [("raw.dead-letters", value, _TIME_MS)]
    assert account.counts == {Kind("crm", "malformed", Handled.PUT_BACK): 1, Kind("", "", Handled.FOREIGN): 1}


def test_a_record_whose_schema_is_not_known_waits() -> None:
    """As in the gateway; its letter's partition is paused meanwhile."""
    batch = _batch(_intake(FakeSources({5: _message(wire.frame(8, b"datum"), 5, topic_="raw")})), _value(5))
    assert (batch.waiting, batch.schema_id(0)) == ([0], 8)


def test_a_letter_that_killed_the_process_becomes_a_letter_again() -> None:
    """Whatever its plan is: the worker rejects it before the engine."""
    batch = _batch(_intake(FakeSources({5: _message(wire.frame(7, b"datum"), 5, topic_="raw")})), _value(5))
    batch.reject(0, Reason.QUARANTINED)
    producer, account = _delivered(batch, [[Outcome.rejected(Reason.QUARANTINED)] * 2])
    assert deadletter.read(producer.records[0][1] or b"").reason == "quarantined"
    assert chosen(account.counts) == 1


# Source records


@dataclass
class FakeAdmin:
    """A topic of two partitions whose first begins at 10."""

    def describe_topic(self, name: str) -> TopicDescription:
        """Two partitions."""
        return TopicDescription(name, "id", 2, None)

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Where they begin."""
        return {number: 10 * (1 - number) for number in partitions}


@dataclass
class FakeReaders:
    """Readers that find what they are told, one set of places after the other."""

    finds: list[set[RecordPlace]]
    asked: list[list[RecordPlace]] = field(default_factory=list)
    made: int = 0

    def __call__(self) -> RecordReader:
        """Make a reader."""
        self.made += 1
        return cast("RecordReader", self)

    def read(self, places: Iterable[RecordPlace]) -> dict[RecordPlace, Message]:
        """Find."""
        self.asked.append(sorted(places))
        found = self.finds.pop(0)
        return {place: _message(b"x" * 10, place[1], place[0]) for place in self.asked[-1] if place in found}

    def close(self) -> None:
        """End it."""


def _letter(partition: int, offset: int, time_ms: int = _TIME_MS) -> ReadLetter:
    return ReadLetter("raw", partition, offset, time_ms, 7, "raw.crm", "decode", "malformed", "", "d", "0")


def test_a_record_is_gone_where_the_topic_does_not_have_it() -> None:
    """Below the beginning and in no partition without being asked for; otherwise only after a second client agrees."""
    readers = FakeReaders([{(0, 10), (1, 3)}, {(1, 4)}])
    records = SourceRecords(cast("Admin", FakeAdmin()), "raw", readers)
    letters = [_letter(0, 9), _letter(0, 10), _letter(1, 3), _letter(1, 4), _letter(1, 5), _letter(2, 0)]
    records.fetch(letters)

    assert readers.asked == [[(0, 10), (1, 3), (1, 4), (1, 5)], [(1, 4), (1, 5)]]
    assert readers.made == 2
    assert [records.get(letter) is not None for letter in letters] == [False, True, True, True, False, False]
    assert len(readers.asked) == 2


def test_another_record_at_the_same_place_is_not_taken_for_the_one_that_was_rejected() -> None:
    """A topic that was deleted and created again begins at 0 again; what is there now was read by the gateway."""
    records = SourceRecords(cast("Admin", FakeAdmin()), "raw", FakeReaders([{(1, 3)}]))
    assert records.get(_letter(1, 3, _TIME_MS - 1)) is None
    assert records.get(_letter(1, 3)) is not None


def test_what_does_not_fit_the_memory_is_read_again() -> None:
    """Records are kept up to a number of bytes, the newest ones."""
    readers = FakeReaders([{(1, 0), (1, 1), (1, 2)}, {(1, 0)}])
    records = SourceRecords(cast("Admin", FakeAdmin()), "raw", readers, kept_bytes=20)
    records.fetch([_letter(1, offset) for offset in range(3)])
    assert records.get(_letter(1, 2)) is not None
    assert records.get(_letter(1, 0)) is not None
    assert readers.asked == [[(1, 0), (1, 1), (1, 2)], [(1, 0)]]


# Ends and limits


class _Owner:
    """An assignment as far as a consumer looks."""

    def __init__(self) -> None:
        self.next_offsets: dict[tuple[str, int], int] = {}


def _consumer(
    monkeypatch: pytest.MonkeyPatch, ends: Mapping[int, int], limit: int | None = None
) -> tuple[LetterConsumer, _Owner, Ledger]:
    for name in ("begin", "hold", "seek"):
        monkeypatch.setattr(GroupConsumer, name, lambda *_arguments: None)
    owner, ledger = _Owner(), Ledger(io.StringIO())
    consumer = LetterConsumer(
        {"bootstrap.servers": "nowhere.invalid:1"},
        "group",
        "client",
        cast("Assignment", owner),
        admin=cast("Admin", FakeAdmin()),
        topic="raw.dead-letters",
        ends=ends,
        limit=limit,
        intake=_intake(FakeSources(), Choice(audiences=frozenset({"crm"}))),
        ledger=ledger,
    )
    return consumer, owner, ledger


def _place(number: int) -> tuple[str, int]:
    return "raw.dead-letters", number


def test_it_ends_where_it_was_to_end_and_not_before_all_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that came later are left, and transaction markers before the end are never delivered."""
    consumer, owner, _ledger = _consumer(monkeypatch, {0: 3, 1: 0})
    none_owned = consumer.finished
    owner.next_offsets = {_place(0): 0, _place(1): 0}
    taken = [consumer._takes(_message(_value(), offset)) for offset in (0, 1, 5)]
    before_commit = consumer.finished
    owner.next_offsets[_place(0)] = 1
    in_between = consumer.finished
    owner.next_offsets[_place(0)] = 2
    committed = consumer.finished
    consumer.begin({})
    after_a_fresh_start = consumer.finished

    assert taken == [True, True, False]
    assert (none_owned, before_commit, in_between, committed) == (False, False, False, True)
    assert not after_a_fresh_start


def test_after_the_limit_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that are put back do not count, and a partition of which one was left is left altogether."""
    consumer, owner, ledger = _consumer(monkeypatch, {0: 9, 1: 9}, limit=2)
    owner.next_offsets = {_place(0): 0, _place(1): 0}
    crm, ads = _value(), _value(output="raw.ads")
    taken = [consumer._takes(_message(value, offset)) for offset, value in enumerate([crm, ads, crm, ads])]
    consumer.seek(*_place(1), 0)
    # The first two are given up, as if their schema were not known; there is room again, but not after a gap.
    consumer.seek(*_place(0), 0)
    again = [consumer._takes(_message(value, offset)) for offset, value in enumerate([crm, crm, ads])]
    gap = consumer._takes(_message(crm, 3))
    owner.next_offsets[_place(0)] = 2
    unfinished = consumer.finished
    ledger.intend(Intent.of(Counter({Kind("crm", "malformed", Handled.WITHHELD): 2}), {0: 2}))
    ledger.settle()

    assert taken == [True, True, True, False]
    assert again == [True, True, False]
    assert not gap
    assert not unfinished
    assert consumer.finished


def test_a_partition_stays_shut_until_it_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room that comes back must not be filled with what lies behind a letter that was left."""
    consumer, owner, _ledger = _consumer(monkeypatch, {0: 9, 1: 9}, limit=1)
    owner.next_offsets = {_place(0): 0, _place(1): 0}
    first = consumer._takes(_message(_value(), 0, 0))
    left = consumer._takes(_message(_value(), 0, 1))
    consumer.seek(*_place(0), 0)
    behind = consumer._takes(_message(_value(), 1, 1))
    consumer.seek(*_place(1), 0)
    anew = consumer._takes(_message(_value(), 0, 1))
    assert (first, left, behind, anew) == (True, False, False, True)


def test_whoever_takes_letters_over_waits_for_all_consent_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No metadata is passed on, however new; and what retention deleted is no reason to stop."""
    committed = {_place(0): Committed(4, "tw1;id;policy;0:9"), _place(1): Committed(None, "")}
    monkeypatch.setattr(GroupConsumer, "committed", lambda *_arguments: committed)
    consumer, _owner, ledger = _consumer(monkeypatch, {0: 20, 1: 20})
    ledger.intend(Intent.of(Counter({Kind("crm", "malformed", Handled.GONE): 1}), {0: 4}))

    found = consumer.committed(list(committed), 1)

    assert found == {_place(0): Committed(10, ""), _place(1): Committed(None, "")}
    assert ledger.chosen == 1


# Sums


def _counts(number: int) -> Counter[Kind]:
    return Counter({Kind("crm", "malformed", Handled.SANITIZED): number, Kind("", "", Handled.FOREIGN): 1})


@pytest.mark.parametrize(
    ("committed", "settled"), [({0: 5, 1: 7}, True), ({0: 5, 1: 6}, False), ({0: None, 1: None}, False)]
)
def test_an_unknown_end_is_told_by_the_committed_offsets(
    committed: Mapping[int, int | None],
    settled: bool,  # noqa: FBT001 - a case.
) -> None:
    """All or nothing, as transactions are; and while a partition is not known, neither."""
    out, gone = io.StringIO(), list[tuple[int, int]]()
    ledger = Ledger(out, Intent.of(_counts(3), {0: 5, 1: 7}, [(0, 4)]), lambda *place: gone.append(place))
    ledger.resolve({0: 5})
    not_yet = out.getvalue()
    ledger.resolve(committed)

    assert not_yet == ""
    assert out.getvalue() == ('"settled"\n' if settled else '"void"\n')
    assert ledger.chosen == 3 * settled
    assert gone == [(0, 4)] * settled


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["commit", "abort", "lost", "killed"])), max_size=20))
def test_the_sums_are_exact_whatever_ends_when(course: list[tuple[int, str]]) -> None:
    """Of every transaction exactly those letters count that were committed, however its end was told."""
    account, committed, expected = Account(), 0, 0
    dice = random.Random(len(course))
    out = io.StringIO()
    ledger = Ledger(out)
    for number, end in course:
        happens = end == "commit" or (end in {"lost", "killed"} and dice.random() < 0.5)
        ledger.intend(Intent.of(_counts(number), {0: committed + number}))
        committed, expected = (committed + number, expected + number) if happens else (committed, expected)
        if end == "commit":
            ledger.settle()
        elif end == "abort":
            ledger.void()
        elif end == "killed":
            account.hear(out.getvalue().splitlines())
            out = io.StringIO()
            ledger = Ledger(out, account.unsettled)
        ledger.resolve({0: committed})
    account.hear(out.getvalue().splitlines())

    assert chosen(account.counts) == expected
    assert account.unsettled is None


def test_a_transaction_without_an_end_is_uncertain() -> None:
    """The parent keeps it apart, and gives it to the next child."""
    account = Account()
    intent = Intent.of(_counts(4), {0: 5}, [(1, 2)])
    out = io.StringIO()
    Ledger(out).intend(intent)
    settled = account.hear(out.getvalue().splitlines())
    assert (settled, account.counts, account.unsettled) == (0, Counter(), intent)


# Reading records


class _FakeConsumer:
    """Answers of the client library, one list after the other."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        self.moves: list[Any] = []

    def assign(self, places: list[Any]) -> None:
        """Note where it is set."""
        self.moves.append({place.partition: place.offset for place in places})

    def seek(self, place: Any) -> None:  # noqa: ANN401 - the library's.
        """Note where it jumps."""
        self.moves.append((place.partition, place.offset))

    def consume(self, number: int, _seconds: float) -> list[Any]:
        """Answer: the first of a list alone, then the rest of it."""
        if not self.answers:
            return []
        given, rest = self.answers[0][:number], self.answers[0][number:]
        self.answers[:1] = [rest] if number == 1 else []
        return given


@dataclass(frozen=True, slots=True)
class _Answer:
    """A message of the library: a record, or an error."""

    partition_: int | None
    offset_: int
    error_: KafkaError | None = None

    def partition(self) -> int | None:
        """Its partition."""
        return self.partition_

    def offset(self) -> int:
        """Its offset."""
        return self.offset_

    def error(self) -> KafkaError | None:
        """Its error."""
        return self.error_


def _reader(monkeypatch: pytest.MonkeyPatch, *answers: list[_Answer]) -> tuple[RecordReader, _FakeConsumer]:
    consumer = _FakeConsumer(*answers)
    monkeypatch.setattr(recordreader, "Consumer", lambda *_arguments, **_named: consumer)
    return RecordReader({"bootstrap.servers": "b:1"}, "raw", "client", patience_seconds=0), consumer


def test_a_reader_jumps_and_stops_where_nothing_more_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records before a wanted one are dropped, gaps are jumped over, and what is passed is not there."""
    end = KafkaError(KafkaError._PARTITION_EOF)
    reader, consumer = _reader(
        monkeypatch,
        [_Answer(0, 5), _Answer(1, 0), _Answer(0, 6)],
        [_Answer(0, 7), _Answer(0, 9), _Answer(0, 8)],
        [_Answer(0, 2_000), _Answer(0, 2_001, end)],
    )
    found = reader.read([(0, 5), (0, 8), (1, 0), (0, 2_000), (0, 2_001)])
    assert sorted(found) == [(0, 5), (0, 2_000), (1, 0)]
    assert consumer.moves == [{0: 5, 1: 0}, (0, 2_000), {}]


def test_an_error_that_passes_says_nothing_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of the connection nor one of the partition; only an offset out of range does."""
    away, range_ = KafkaError(KafkaError._TRANSPORT), KafkaError(KafkaError._AUTO_OFFSET_RESET)
    reader, consumer = _reader(
        monkeypatch,
        [_Answer(None, 0, away), _Answer(0, 3, KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)), _Answer(0, 3)],
        [_Answer(0, 4, range_)],
        [_Answer(0, 9)],
    )
    assert sorted(reader.read([(0, 3), (0, 4), (0, 9)])) == [(0, 3), (0, 9)]
    assert consumer.moves == [{0: 3}, {0: 9}, {}]


def test_silence_and_lasting_errors_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a broker that does not answer it must not be concluded that records are gone."""
    silent, _ = _reader(monkeypatch)
    with pytest.raises(KafkaFault, match="_TIMED_OUT"):
        silent.read([(0, 3)])
    denied, _ = _reader(monkeypatch, [_Answer(0, 3, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))])
    with pytest.raises(KafkaFault, match="AUTHORIZATION"):
        denied.read([(0, 3)])
