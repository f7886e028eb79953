"""Checks of what stands in the outputs: contents, tokens, keys, partitions, order, and that nothing is there twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from tests.support.events import (
    ADS,
    AUDIENCES,
    CRM,
    INTERACTIONS,
    STREAMS,
    Document,
    event_id,
    luhn_valid,
    output_topic,
    source_topic,
)
from tests.support.ledger import InputRecord, Ledger
from tests.support.oracle import Found, Seen, Shape, Violation

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_ALWAYS: Final = frozenset({"event_id", "sequence", "customer_id", "occurred_at", "kind", "amount", "contact"})
_KEPT: Final = ("event_id", "sequence", "kind")
_CONDITIONAL: Final = frozenset({"phone", "location"})
_CUSTOMER: Final = re.compile(r"[0-9]{16}", re.ASCII)
_PHONE: Final = re.compile(r"\+1[0-9]{14}", re.ASCII)
_CARD: Final = re.compile(r"[0-9]{16}", re.ASCII)
_EMAIL: Final = re.compile(r"[a-z2-7]{26}@(?P<domain>[a-z.]+)", re.ASCII)
#: No cell of resolution 6 has a corner further than this from its centre, in degrees of longitude at 53° N.
_CELL_DEGREES: Final = 0.09


class Sanitized(NamedTuple):
    """A decoded record of an output topic; members that are null or empty are left out of ``value``."""

    partition: int
    offset: int
    key: str | None
    value: Document
    timestamp_ms: int
    headers: int
    """How many headers it has."""


class DeadLetter(NamedTuple):
    """A decoded dead letter."""

    source_topic: str
    source_partition: int
    source_offset: int
    source_timestamp_ms: int
    output: str
    reason: str


class OutputCheck:
    """Takes the records of all outputs, finds the input of each, and compares the two.

    Records of one output partition must come in the order of their offsets.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.violations: list[Violation] = []
        self._ledger = ledger
        self._by_event = {event_id(ledger.seed, record.number): record for record in ledger.records}
        self._places = ledger.by_coordinates()
        self._seen: dict[str, dict[int, Seen]] = {audience: {} for audience in AUDIENCES}
        self._rejected: dict[str, dict[int, str]] = {audience: {} for audience in AUDIENCES}
        self._books = {audience: _TokenBook(audience) for audience in AUDIENCES}
        self._last: dict[tuple[str, str, int, str], int] = defaultdict(lambda: -1)
        self._partitions: dict[tuple[str, str], int] = {}

    @property
    def found(self) -> Found:
        """What was found of each record so far."""
        return Found(self._seen, self._rejected)

    def source_of(self, value: Document) -> InputRecord | None:
        """Return the record that a sanitized record was made from."""
        return self._by_event.get(value.get("event_id", ""))

    def sanitized(self, stream: str, audience: str, record: Sanitized) -> None:
        """Take a record of an output topic."""
        source = self.source_of(record.value)
        where = f"{output_topic(stream, audience)}-{record.partition}@{record.offset}"
        if source is None or source.stream != stream:
            self._add("foreign", where, "no record of the source is its origin")
            return
        if source.number in self._seen[audience]:
            self._add("double", where, f"{stream} record {source.number} was there before")
            return
        document = self._ledger.event(source).document
        shape = Shape(None if document["phone"] is None else "phone" in record.value, "location" in record.value)
        self._seen[audience][source.number] = Seen(record.partition, record.offset, shape)
        for kind, problem in self._problems(source, document, audience, record):
            self._add(kind, where, problem)

    def dead_letter(self, stream: str, letter: DeadLetter) -> None:
        """Take a dead letter."""
        where = f"dead letter of {letter.source_topic}-{letter.source_partition}@{letter.source_offset}"
        source = self._places.get((stream, letter.source_partition, letter.source_offset))
        audience = next((audience for audience in AUDIENCES if letter.output == output_topic(stream, audience)), None)
        if source is None or audience is None or letter.source_topic != source_topic(stream):
            self._add("foreign", where, "no record and output of the stream is its origin")
        elif source.number in self._rejected[audience]:
            self._add("double", where, f"there was one for {audience} before")
        else:
            self._rejected[audience][source.number] = letter.reason
            if letter.source_timestamp_ms != source.timestamp_ms:
                self._add("timestamp", where, "not that of the source")

    def finish(self) -> None:
        """Compare what can only be compared at the end."""
        for customer, token in self._books[CRM].customers.items():
            if self._books[ADS].customers.get(customer) == token:
                self._add("token", "both audiences", "one customer has one token in two key domains")

    def _add(self, kind: str, where: str, what: str) -> None:
        self.violations.append(Violation(kind, f"{where}: {what}"))

    def _problems(
        self, source: InputRecord, document: Document, audience: str, record: Sanitized
    ) -> Iterator[tuple[str, str]]:
        yield from _compare(document, source.facts.blemish, source.stream, audience, record.value)
        token = record.value.get("customer_id")
        if record.key is None or record.key != token:
            yield "key", "it is not the token of the customer"
        if record.headers:
            yield "header", "it has headers"
        day_ms = source.timestamp_ms - source.timestamp_ms % _DAY_MS
        if record.timestamp_ms != (source.timestamp_ms if audience == CRM else day_ms):
            yield "timestamp", "it does not follow from that of the source"
        for problem in self._books[audience].enter(document, record.value):
            yield "token", problem
        yield from self._order(source, audience, record)

    def _order(self, source: InputRecord, audience: str, record: Sanitized) -> Iterator[tuple[str, str]]:
        key = record.key or ""
        place = (audience, source.stream, source.partition, key)
        if source.offset <= self._last[place]:
            yield "order", f"source offset {source.offset} after {self._last[place]} for one key"
        self._last[place] = source.offset
        # Topics with one number of partitions are partitioned alike, so that consumers may join them.
        if self._partitions.setdefault((audience, key), record.partition) != record.partition:
            yield "partition", "the key stands in two partitions"


class _TokenBook:
    """The tokens of one audience: one to one for customers, and new for each value that occurs once."""

    def __init__(self, audience: str) -> None:
        self.customers: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._single: set[tuple[str, str]] = set()
        self._fields = ("email", "phone", "card") if audience == CRM else ()

    def enter(self, document: Document, value: Document) -> Iterator[str]:
        """Note the tokens of a record; yield what contradicts earlier ones."""
        customer, token = document["customer_id"], value.get("customer_id")
        if not isinstance(token, str):
            return
        if self.customers.setdefault(customer, token) != token:
            yield "one customer has two tokens"
        if self._owners.setdefault(token, customer) != customer:
            yield "two customers have one token"
        for name in self._fields:
            entry = (name, str(value.get(name)))
            if name in value and entry in self._single:
                yield f"two values have one token in {name}"
            self._single.add(entry)


def _compare(
    document: Document, blemish: str, stream: str, audience: str, value: Document
) -> Iterator[tuple[str, str]]:
    """Yield what differs from what the policy makes of a document, whatever consent says of single fields."""
    expected = set(_ALWAYS) | {"attributes"} | ({"items"} if document["items"] else set())
    if audience == CRM:
        expected |= {"email", "card"} - {blemish}
    names = set(value) - (_CONDITIONAL if audience == CRM else {"location"})
    if names != expected:
        yield "content", f"the fields are not the expected ones: {sorted(names ^ expected)}"
        return
    checks = {
        **{name: value[name] == document[name] for name in _KEPT},
        "occurred_at": _time_is_right(document["occurred_at"], value["occurred_at"], stream, audience),
        "amount": value["amount"] % 10 == 0 and abs(value["amount"] - document["amount"]) <= 5,
        "contact": value["contact"] == {"city": document["contact"]["city"]},
        "items": value.get("items", []) == [{"sku": item["sku"]} for item in document["items"]],
        "attributes": value["attributes"] == {"coupon": document["attributes"]["coupon"]},
        "location": "location" not in value or _is_cell(document["location"], value["location"]),
    }
    wrong = [name for name, right in checks.items() if not right]
    if wrong:
        yield "content", f"wrong values: {wrong}"
    badly = [name for name in ("customer_id", "email", "phone", "card") if not _is_token(name, document, value)]
    if badly:
        yield "token", f"no tokens: {badly}"


def _is_token(name: str, document: Document, value: Document) -> bool:
    """Say whether a field is absent or has the form of a token and another value than the source."""
    if name not in value:
        return True
    raw, token = document[name], value[name]
    if not isinstance(token, str) or token == raw or not isinstance(raw, str):
        return False
    match name:
        case "email":
            found = _EMAIL.fullmatch(token)
            return found is not None and found["domain"] == raw.rpartition("@")[2]
        case "phone":
            return _PHONE.fullmatch(token) is not None
        case "card":
            # A token keeps the last four digits and fails the check of card numbers, so it is no card.
            return _CARD.fullmatch(token) is not None and token[-4:] == raw[-4:] and not luhn_valid(token)
        case _:
            return _CUSTOMER.fullmatch(token) is not None


def _time_is_right(raw: int | str, value: int | str, stream: str, audience: str) -> bool:
    if audience == CRM:
        return value == raw
    if stream == INTERACTIONS:
        return isinstance(raw, int) and value == raw - raw % _HOUR_MS
    found = datetime.fromisoformat(str(value))
    exact = datetime.fromisoformat(str(raw))
    return found == exact.replace(minute=0, second=0, microsecond=0)


def _is_cell(raw: Mapping[str, float], value: Mapping[str, float]) -> bool:
    """Say whether a position is one that many share: near the exact one, with few digits, and not the same."""
    return value.keys() == raw.keys() and all(
        0 < abs(value[name] - raw[name]) < _CELL_DEGREES and round(value[name], 6) == value[name] for name in raw
    )


def check_streams(check: OutputCheck, outputs: Mapping[tuple[str, str], Sequence[Sanitized]]) -> None:
    """Give the records of several outputs to a check, in the order of partitions and offsets."""
    for stream in STREAMS:
        for audience in AUDIENCES:
            for record in sorted(outputs.get((stream, audience), ()), key=lambda record: (record[0], record[1])):
                check.sanitized(stream, audience, record)
