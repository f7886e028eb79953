"""A gateway that makes no mistake, in a few lines: what the checkers are tried on before mistakes are planted."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.consents import UNKNOWN
from tests.support.events import (
    ADS,
    AUDIENCES,
    CRM,
    INTERACTIONS,
    Document,
    luhn_valid,
    output_topic,
    rfc3339,
    source_topic,
)
from tests.support.generator import make_ledger
from tests.support.ledger import InputRecord, Ledger
from tests.support.oracle import Frontier, Shape, expected_shape
from tests.support.outputs import DeadLetter, Sanitized

START_MS: Final = 1_780_000_000_000
PARTITIONS: Final = 3
STALENESS_SECONDS: Final = 2.0
_SPACING_SECONDS: Final = 0.01
_DECIDED_AFTER_SECONDS: Final = 0.05
_SEEN_AFTER_SECONDS: Final = 0.5
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"


def small_ledger(*, events: int, customers: int, seed: int = 7) -> Ledger:
    """Return a ledger whose records and changes were written at a steady rate."""
    ledger = make_ledger(seed, events=events, customers=customers, start_ms=START_MS, partitions=PARTITIONS)
    offsets: dict[tuple[str, int], int] = defaultdict(int)
    for record in ledger.records:
        record.partition = _hash(record.facts.customer or "", "partition") % PARTITIONS
        place = (record.stream, record.partition)
        record.offset = offsets[place]
        offsets[place] += 1
        record.timestamp_ms = START_MS + record.number * 10
        record.written_seconds = record.number * _SPACING_SECONDS
    for change in ledger.changes:
        if change.after_number >= 0:
            change.sent_seconds = (change.after_number - 0.5) * _SPACING_SECONDS
            change.stored_seconds = change.sent_seconds + 0.001
    return ledger


@dataclass
class Simulated:
    """What a run of the simulated gateway left behind."""

    outputs: dict[tuple[str, str], list[Sanitized]] = field(default_factory=lambda: defaultdict(list))
    dead_letters: dict[str, list[DeadLetter]] = field(default_factory=lambda: defaultdict(list))
    frontier: Frontier = field(default_factory=Frontier)

    def index_of(self, stream: str, audience: str, number: int, ledger: Ledger) -> int:
        """Return where the record with this number stands in an output."""
        event_id = ledger.event(ledger.records[number]).event_id
        records = self.outputs[stream, audience]
        return next(index for index, record in enumerate(records) if record.value["event_id"] == event_id)


def simulate(ledger: Ledger, lag_seconds: float = 0.2, seed: int = 3) -> Simulated:
    """Return what a gateway makes of a ledger that learns of each change at a random time below ``lag_seconds``."""
    dice = random.Random(seed)
    states = ledger.states_of()
    learned = {
        id(change): change.stored_seconds + dice.random() * lag_seconds
        for changes in states.values()
        for change in changes
    }
    result = Simulated()
    offsets: dict[tuple[str, int], int] = defaultdict(int)
    for record in ledger.records:
        if record.reasons:
            _reject(record, result)
        if record.defect:
            continue
        decided_seconds = record.written_seconds + _DECIDED_AFTER_SECONDS
        state = UNKNOWN
        for change in states.get(record.facts.customer or "", ()):
            if learned[id(change)] <= decided_seconds:
                state = change.state
        for audience in AUDIENCES:
            shape = expected_shape(audience, state, record.facts.time_ms)
            if shape is None:
                continue
            result.outputs[record.stream, audience].append(sanitize(ledger, record, audience, shape, offsets))
            result.frontier.saw(record.stream, record.partition, record.offset, decided_seconds + _SEEN_AFTER_SECONDS)
    return result


def sanitize(
    ledger: Ledger, record: InputRecord, audience: str, shape: Shape, offsets: dict[tuple[str, int], int]
) -> Sanitized:
    """Return the output of one record."""
    document = ledger.event(record).document
    value = _treat(document, record, audience, shape)
    key = value["customer_id"]
    partition = _hash(key, "output") % PARTITIONS
    place = (output_topic(record.stream, audience), partition)
    offsets[place] += 1
    day_ms = record.timestamp_ms - record.timestamp_ms % 86_400_000
    timestamp_ms = record.timestamp_ms if audience == CRM else day_ms
    return Sanitized(partition, offsets[place], key, value, timestamp_ms, 0)


def clean_output(ledger: Ledger) -> bytes:
    """Return everything that the simulated gateway wrote, as text."""
    result = simulate(ledger)
    everything: list[Any] = [*result.outputs.values(), *result.dead_letters.values()]
    return json.dumps(everything).encode()


def _treat(document: Document, record: InputRecord, audience: str, shape: Shape) -> Document:
    value: Document = {name: document[name] for name in ("event_id", "sequence", "kind")}
    value["customer_id"] = f"{_hash(document['customer_id'], audience) % 10**16:016}"
    value["amount"] = round(document["amount"] / 10) * 10
    value["contact"] = {"city": document["contact"]["city"]}
    value["attributes"] = {"coupon": document["attributes"]["coupon"]}
    if document["items"]:
        value["items"] = [{"sku": item["sku"]} for item in document["items"]]
    if shape.position:
        value["location"] = {name: round(degrees, 2) + 0.000_001 for name, degrees in document["location"].items()}
        value["location"] = {name: round(degrees, 6) for name, degrees in value["location"].items()}
    if audience == ADS:
        hour_ms = record.facts.time_ms - record.facts.time_ms % 3_600_000
        value["occurred_at"] = hour_ms if record.stream == INTERACTIONS else rfc3339(hour_ms)
        return value
    value["occurred_at"] = document["occurred_at"]
    if record.facts.blemish != "email":
        local = "".join(_BASE32[_hash(document["email"], str(place)) % 32] for place in range(26))
        value["email"] = f"{local}@{document['email'].rpartition('@')[2]}"
    if record.facts.blemish != "card":
        value["card"] = _card_token(document["card"])
    if shape.phone and document["phone"] is not None:
        value["phone"] = f"+1{_hash(document['phone'], 'phone') % 10**14:014}"
    return value


def _reject(record: InputRecord, result: Simulated) -> None:
    for audience in AUDIENCES:
        result.dead_letters[record.stream].append(
            DeadLetter(
                source_topic(record.stream),
                record.partition,
                record.offset,
                record.timestamp_ms,
                output_topic(record.stream, audience),
                min(record.reasons),
            )
        )


def _card_token(card: str) -> str:
    account = _hash(card, "card")
    while luhn_valid(token := f"{account % 10**12:012}{card[-4:]}"):
        account += 1
    return token


def _hash(text: str, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16, person=purpose.encode()).digest())
