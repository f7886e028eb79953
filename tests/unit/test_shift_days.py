"""Dates and times that move by a number of days of their person: types, ranges, intervals and chances."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.engines import NOW_MS, avro_encode, fixed_keyset, record_schema, rig, rules_of, small_policy

from tokenweir.core.engineapi import Record
from tokenweir.core.generalize.build import build
from tokenweir.core.generalize.keyed import Person, Prf, personal_days
from tokenweir.core.generalize.shift import PersonalDays
from tokenweir.core.generalize.specs import ShiftSpec
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.core.subjects import Subject
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.errors import InvalidValueError, SchemaError

SHIFT = ShiftSpec(shift_days=365)
DAY_MS = 86_400_000
LONG, INTEGER, TEXT = Node(Kind.LONG), Node(Kind.INTEGER), Node(Kind.STRING)
DATE, DATE_TEXT = Node(Kind.INT, logical="date"), Node(Kind.STRING, logical="date")
DATE_TIME = Node(Kind.STRING, logical="date-time")


def moved(node: Node, value: object, days: int) -> object:
    """Return what a value becomes for somebody whose number of days this is."""
    return build(SHIFT, node, lambda: days).apply(value)


@pytest.mark.parametrize(
    ("node", "value", "days", "expected"),
    [
        (DATE, 0, -1, -1),
        (DATE_TEXT, "2024-02-28", 2, "2024-03-01"),
        (TEXT, "2024-02-28", -365, "2023-02-28"),
        (TEXT, "2024-02-28T23:30:00-01:00", 1, "2024-03-01T00:30:00Z"),
        (DATE_TIME, "2024-02-28t00:00:00.1239z", 1, "2024-02-29T00:00:00.123Z"),
        (DATE_TIME, "2016-12-31T23:59:60Z", 1, "2017-01-01T23:59:59.999Z"),
        (LONG, 5, 2, 2 * DAY_MS + 5),
        (INTEGER, JsonNumber("-5"), 1, JsonNumber(DAY_MS - 5)),
        (Node(Kind.LONG, logical="timestamp-micros"), -1, 1, DAY_MS * 1000 - 1),
        (Node(Kind.LONG, logical="local-timestamp-nanos"), 7, -1, 7 - DAY_MS * 1_000_000),
        (TEXT, "", 1, ""),
    ],
)
def test_every_kind_of_time_moves_by_whole_days(node: Node, value: object, days: int, expected: object) -> None:
    """The result has the type of its source, and what is no whole day stays."""
    found = moved(node, value, days)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("node", "value", "days"),
    [
        (DATE_TEXT, "9999-12-31", 1),
        (DATE_TEXT, "0001-01-01", -1),
        (DATE_TEXT, "2024-02-28T00:00:00Z", 1),
        (DATE_TIME, "2024-02-28", 1),
        (TEXT, "2024-02-30", 1),
        (TEXT, "28.02.2024", 1),
        (DATE, 2_932_896, 1),
        (DATE, 2_932_897, -1),
        (LONG, 2_932_897 * DAY_MS - 1, 1),
        (LONG, 2_932_897 * DAY_MS, -1),
        (LONG, 2**63 - 1, 1),
        (Node(Kind.LONG, logical="timestamp-nanos"), 2**63 - 1, 1),
        (Node(Kind.LONG, logical="timestamp-nanos"), -(2**63), -1),
        (INTEGER, JsonNumber("1.5"), 1),
        (LONG, True, 1),
        (TEXT, 5, 1),
    ],
)
def test_what_is_no_time_or_leaves_the_calendar_is_invalid(node: Node, value: object, days: int) -> None:
    """Nothing wraps, is clipped, or comes in from outside of the years 1 to 9999."""
    with pytest.raises(InvalidValueError) as caught:
        moved(node, value, days)
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize(
    "node",
    [
        Node(Kind.INT),
        Node(Kind.DOUBLE),
        Node(Kind.NUMBER),
        Node(Kind.STRING, logical="uuid"),
        Node(Kind.STRING, logical="time"),
        Node(Kind.LONG, logical="time-micros"),
        Node(Kind.BOOLEAN),
        Node(Kind.ENUM),
    ],
)
def test_other_types_do_not_compile(node: Node) -> None:
    """What holds no date and no time is refused when the policy is checked."""
    with pytest.raises(SchemaError):
        build(SHIFT, node)


def test_without_a_person_nothing_moves() -> None:
    """The check of a policy compiles without keys; what it compiled lets nothing through."""
    with pytest.raises(InvalidValueError):
        build(SHIFT, DATE).apply(0)
    with pytest.raises(InvalidValueError):
        PersonalDays(Prf(TokenKey(b"k" * 32)), 5, Person())()


@given(st.dates(date(1, 1, 1), date(9000, 1, 1)), st.integers(-365, 365), st.integers(0, 3000))
def test_intervals_stay(first: date, days: int, later: int) -> None:
    """Two dates of one person are as far apart afterwards as before, as the standard library counts."""
    one, other = first + timedelta(366), first + timedelta(366 + later)
    texts = [moved(DATE_TEXT, day.isoformat(), days) for day in (one, other)]
    assert texts == [(day + timedelta(days)).isoformat() for day in (one, other)]


def test_all_numbers_of_days_but_none_are_equally_likely() -> None:
    """Over 60,000 people each of six numbers comes up as often as a fair die does, and 0 never."""
    prf, people = Prf(TokenKey(b"k" * 32)), 60_000
    counts = Counter(personal_days(prf.of("customer", str(number)), 3) for number in range(people))
    assert sorted(counts) == [-3, -2, -1, 1, 2, 3]
    # Chi-square with 5 degrees of freedom passes 20.5 once in 1,000 tries; the people are the same in every run.
    assert sum((count - people / 6) ** 2 / (people / 6) for count in counts.values()) < 20.5


@given(st.binary(min_size=32, max_size=32), st.integers(1, 36_525))
def test_days_are_within_their_range(digest: bytes, largest: int) -> None:
    """Whatever the key says, nobody moves by more than the policy says, or not at all."""
    assert 1 <= abs(personal_days(digest, largest)) <= largest


def test_keys_depend_on_domain_parameters_and_epoch_and_are_no_key_of_a_token() -> None:
    """Nobody can tell a person's days in one key domain from those in another."""
    keyset = fixed_keyset(["ads", "crm"])
    people = [Subject("customer", f"{number:010}") for number in range(200)]

    def days(domain: str, largest: int) -> list[int]:
        prf = Prf(keyset.generalize_key(domain, ShiftSpec(shift_days=largest)))
        return [personal_days(prf.of(person.type, person.id), 365) for person in people]

    assert days("crm", 365) == days("crm", 365)
    for other in (days("ads", 365), days("crm", 366)):
        assert sum(one == two for one, two in zip(days("crm", 365), other, strict=True)) < 5


def _days_of(stream: Any, customer: int) -> int:  # noqa: ANN401 - a rig
    schema = stream.planned.versions[0].source.text
    value = {"id": f"{customer:010}", "born": 1000, "ask": 1000}
    outcome = stream.one(Record(avro_encode(json.loads(schema), value), None, NOW_MS))["crm"]
    born: int = stream.read("crm", outcome.value)["born"]
    return born - 1000


BORN = record_schema(("born", {"type": "int", "logicalType": "date"}), ("ask", "long"))
BORN_POLICY = small_policy(classes="born: {do: {generalize: {shift_days: 400}}}", fields="{born: born}")


def test_days_repeat_for_a_person_in_every_run_and_batch() -> None:
    """The engine gives each person the days that the keyset gives, and never the true date."""
    stream, again = rig(BORN_POLICY, BORN), rig(BORN_POLICY, BORN)
    prf = Prf(stream.keyset.generalize_key("crm", ShiftSpec(shift_days=400)))
    for customer in range(50):
        days = _days_of(stream, customer)
        assert days == _days_of(stream, customer) == _days_of(again, customer)
        assert days == personal_days(prf.of("customer", f"{customer:010}"), 400)
        assert days != 0


def test_the_event_time_cannot_hide_beside_the_timestamp() -> None:
    """Whoever has the record's timestamp would read the days off the event time, so that does not compile."""
    classes = "when: {do: {generalize: {shift_days: 400}}}"
    policy = small_policy(classes=classes, fields="{ask: when}", stream="event_time: ask")
    assert rules_of(policy, BORN) == {"treatment-type"}
    assert rules_of(policy.replace("event_time: ask", ""), BORN) == set()


@pytest.mark.parametrize("days", ["0", "-3", "36526", "1.5", "true", "'30'", ".inf", "null"])
def test_only_whole_days_up_to_a_century(days: str) -> None:
    """Other numbers are findings of the policy."""
    policy = small_policy(classes=f"born: {{do: {{generalize: {{shift_days: {days}}}}}}}", fields="{born: born}")
    assert rules_of(policy, BORN)


def test_the_derivation_is_pinned() -> None:
    """Key, days and their order are these for ever: another result would move every date that has left."""
    keyset = fixed_keyset(["crm"])
    key = keyset.generalize_key("crm", ShiftSpec(shift_days=400)).reveal()
    assert hashlib.sha256(key).hexdigest()[:16] == "7525e4640aa63841"
    prf = Prf(TokenKey(key))
    assert [personal_days(prf.of("customer", str(number)), 400) for number in range(5)] == [274, 183, -67, 270, 73]
