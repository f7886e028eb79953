"""Makes the input of the end-to-end proof: events of both streams, some of them broken, and consent that changes."""

from __future__ import annotations

import io
import json
import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import fastavro
from tests.support.consents import ANALYTICS, EMAIL, EVERYTHING, PHONE, ConsentState, Decision
from tests.support.events import (
    AVRO_SCHEMA,
    INTERACTIONS,
    KINDS,
    PINGS,
    STREAMS,
    Document,
    Facts,
    canary,
    customer_id,
)
from tests.support.ledger import ConsentChange, InputRecord, Ledger

EVENT_SPACING_MS: Final = 30
"""Events happened this far from each other, the last one a minute before the run."""
UNKNOWN_SCHEMA_ID: Final = 2**31 - 7
_BROKEN: Final = 0.01
_BLEMISHED: Final = 0.01
_ELSEWHERE: Final = 0.02
_WITH_HEADER: Final = 0.02
_CHANGING: Final = 0.1
_SHARE_OF_CHANGING: Final = 0.4
_YEAR_MS: Final = 365 * 86_400_000


class Defect(NamedTuple):
    """What is wrong with a record, and the reasons with which it may be rejected; none if it is withheld instead."""

    streams: Sequence[str]
    reasons: frozenset[str]


def _defect(reason: str, *streams: str) -> Defect:
    return Defect(streams or STREAMS, frozenset(reason.split()))


DEFECTS: Final[dict[str, Defect]] = {
    "bad_magic": _defect("not_framed"),
    "too_short": _defect("not_framed"),
    "foreign_schema": _defect("schema_foreign"),
    "tombstone": _defect("tombstone"),
    "truncated": _defect("malformed invalid_utf8"),  # The cut may go through a character.
    "trailing": _defect("trailing_bytes"),
    "not_utf8": _defect("invalid_utf8"),
    "bad_subject": _defect("subject_invalid"),
    "no_subject": _defect(""),
    "non_finite": _defect("non_finite"),
    "bad_branch": _defect("out_of_range", INTERACTIONS),
    "duplicate_key": _defect("duplicate_key", PINGS),
    "wrong_type": _defect("schema_mismatch", PINGS),
    "text_for_count": _defect("schema_mismatch", PINGS),
    "bad_time": _defect("event_time_invalid", PINGS),
}
"""The broken records that come at random."""

RARE_DEFECTS: Final[dict[str, Defect]] = {"unknown_schema": _defect("schema_unknown")}
"""Those that make a partition wait, so that there are only two of each in a stream."""


class Raw(NamedTuple):
    """A record as it is written to a source topic; partition -1 leaves the choice to the key."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    partition: int


def make_ledger(seed: int, *, events: int, customers: int, start_ms: int, partitions: int) -> Ledger:
    """Return what is to be written: every customer has an event, and a tenth of them changes the mind while they flow.

    Args:
        seed: Decides everything.
        events: Number of events, at least that of customers.
        customers: Number of data subjects.
        start_ms: The time at which the run starts.
        partitions: Partitions of each source topic.
    """
    dice = random.Random(seed)
    ids = [customer_id(seed, index) for index in range(customers)]
    changing = ids[: int(customers * _CHANGING)]
    extra = events - customers
    often = int(extra * _SHARE_OF_CHANGING)
    people = ids + dice.choices(changing, k=often) + dice.choices(ids, k=extra - often)
    dice.shuffle(people)
    first_ms = start_ms - 60_000 - events * EVENT_SPACING_MS
    records = _records(dice, people, first_ms)
    changes = [
        ConsentChange(person, state) for person in ids if (state := _initial(dice, first_ms, events)) is not None
    ]
    changes += _changes(dice, changing, {change.customer: change.state for change in changes}, first_ms, events)
    return Ledger(seed, records, changes, dict.fromkeys(STREAMS, partitions))


def _records(dice: random.Random, people: Sequence[str], first_ms: int) -> list[InputRecord]:
    sequences: Counter[tuple[str, str]] = Counter()
    records = []
    for number, person in enumerate(people):
        stream = dice.choice(STREAMS)
        defect = _pick_defect(dice, stream) if dice.random() < _BROKEN else ""
        blemish = dice.choice(("email", "card")) if not defect and dice.random() < _BLEMISHED else ""
        sequences[stream, person] += 1
        facts = Facts(
            stream,
            None if defect == "no_subject" else person,
            sequences[stream, person],
            first_ms + number * EVENT_SPACING_MS,
            blemish,
        )
        records.append(InputRecord(number, facts, defect, DEFECTS[defect].reasons if defect else frozenset()))
    for stream in STREAMS:
        for name, defect_ in RARE_DEFECTS.items():
            for record in dice.sample([record for record in records if record.stream == stream], 2):
                record.defect, record.reasons = name, defect_.reasons
    return records


def _pick_defect(dice: random.Random, stream: str) -> str:
    return dice.choice([name for name, defect in DEFECTS.items() if stream in defect.streams])


def _initial(dice: random.Random, first_ms: int, events: int) -> ConsentState | None:
    """Return what a customer had decided before the run; None for nothing."""
    long_ago = first_ms - dice.randrange(_YEAR_MS)
    during = first_ms + dice.randrange(events) * EVENT_SPACING_MS
    allow, deny = Decision("allow", long_ago), Decision("deny", long_ago)
    later_allow, later_deny = Decision("allow", long_ago + 1), Decision("deny", long_ago + 1)
    states: list[tuple[int, ConsentState | None]] = [
        (25, _state(email=allow, phone=allow, analytics=allow)),
        (25, _state(email=allow, phone=deny)),
        (15, _state(email=Decision("allow", during), phone=Decision("allow", during - 1_000))),
        (10, _state(email=allow, phone=allow, analytics=deny)),
        (5, _state(email=allow, everything=later_deny)),
        (5, _state(email=later_allow, everything=deny)),
        (5, _state(email=deny)),
        (2, ConsentState({EMAIL: allow}, minor=True)),
        (2, ConsentState(undecodable=True)),
        (6, None),
    ]
    return dice.choices([state for _, state in states], [weight for weight, _ in states])[0]


def _state(**decisions: Decision) -> ConsentState:
    names = {"email": EMAIL, "phone": PHONE, "analytics": ANALYTICS, "everything": EVERYTHING}
    return ConsentState({names[name]: decision for name, decision in decisions.items()})


def _changes(
    dice: random.Random, people: Sequence[str], before: dict[str, ConsentState], first_ms: int, events: int
) -> list[ConsentChange]:
    """Return one to three changes for each of these customers, in the order of writing."""
    now_ms = first_ms + events * EVENT_SPACING_MS + 60_000
    changes = []
    for person in people:
        state = before.get(person, ConsentState())
        for number in sorted(dice.sample(range(events), dice.choice((1, 1, 2, 3)))):
            state = _changed(dice, state, now_ms + number, first_ms + dice.randrange(events) * EVENT_SPACING_MS)
            changes.append(ConsentChange(person, state, number))
    return sorted(changes, key=lambda change: change.after_number)


def _changed(dice: random.Random, state: ConsentState, now_ms: int, earlier_ms: int) -> ConsentState:
    """Return the next state: a withdrawal, or a consent that is given or was given at an earlier time."""
    kind = dice.random()
    if kind < 0.10:
        return ConsentState(undecodable=True)
    decisions = dict(state.decisions)
    if kind < 0.25:
        decisions[EVERYTHING] = Decision("deny", now_ms)
    elif kind < 0.55:
        decisions[dice.choice((EMAIL, EMAIL, PHONE, ANALYTICS))] = Decision("deny", now_ms)
    else:
        decisions.pop(EVERYTHING, None)
        given_ms = dice.choice((earlier_ms, _oldest(decisions, earlier_ms)))
        for name in (EMAIL, PHONE, ANALYTICS):
            decisions[name] = Decision("allow", given_ms)
    return ConsentState(decisions)


def _oldest(decisions: dict[str, Decision], otherwise_ms: int) -> int:
    """Return the time of the oldest decision, or another time if there is none."""
    return min((decision.decided_at_ms for decision in decisions.values()), default=otherwise_ms)


class Encoder:
    """Turns records and changes into the bytes that producers write.

    Args:
        ledger: What is written.
        schema_ids: Id of each stream's schema in the registry.
    """

    def __init__(self, ledger: Ledger, schema_ids: dict[str, int]) -> None:
        self._ledger = ledger
        self._frames = {stream: struct.pack(">bI", 0, schema_id) for stream, schema_id in schema_ids.items()}
        self._dice = random.Random(ledger.seed + 1)
        self._schema = fastavro.parse_schema(AVRO_SCHEMA)
        # The same bytes on the wire, but the note may be any bytes and the kind any number.
        self._loose = fastavro.parse_schema(_loosened(AVRO_SCHEMA))

    def encode(self, record: InputRecord) -> Raw:
        """Return the record for the source topic."""
        event = self._ledger.event(record)
        secret = canary(self._ledger.seed, record.number, "broken")
        document = dict(event.document)
        if record.defect == "bad_subject":
            document["customer_id"] = self._dice.choice((secret, f"{record.facts.customer}0", f" {secret}"))
        if record.defect == "no_subject":
            document["customer_id"] = self._dice.choice((None, ""))
        avro = record.stream == INTERACTIONS
        datum = (self._avro if avro else self._json)(document, record.defect, secret)
        headers: list[tuple[str, str | bytes | None]] = []
        if self._dice.random() < _WITH_HEADER:
            headers.append(("trace", event.header.encode()))
        partition = -1
        if self._dice.random() < _ELSEWHERE:
            partition = self._dice.randrange(self._ledger.partitions[record.stream])
        key = record.facts.customer
        return Raw(key.encode() if key else None, self._framed(record, datum, secret), headers, partition)

    def encode_change(self, change: ConsentChange, number: int) -> tuple[bytes, bytes]:
        """Return key and value for the consent topic."""
        secret = canary(self._ledger.seed, number, "consent")
        return f"customer:{change.customer}".encode(), change.state.encode(secret)

    def _framed(self, record: InputRecord, datum: bytes, secret: str) -> bytes | None:
        frame = self._frames[record.stream]
        other = self._frames[PINGS if record.stream == INTERACTIONS else INTERACTIONS]
        broken = {
            "tombstone": None,
            "bad_magic": b"\x01" + frame[1:] + datum,
            "too_short": frame[:3],
            "foreign_schema": other + datum,
            "unknown_schema": struct.pack(">bI", 0, UNKNOWN_SCHEMA_ID) + datum,
            "truncated": frame + datum[: len(datum) // 2],
            "trailing": frame + datum + secret.encode(),
        }
        return broken.get(record.defect, frame + datum)

    def _avro(self, document: Document, defect: str, secret: str) -> bytes:
        schema: Any = self._schema
        if defect in ("not_utf8", "bad_branch"):
            schema = self._loose
            document["kind"] = 99 if defect == "bad_branch" else KINDS.index(document["kind"])
            document["note"] = secret.encode() + (b"\xff\xfe" if defect == "not_utf8" else b"")
        elif defect == "non_finite":
            document["amount"] = self._dice.choice((float("nan"), float("inf")))
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, document)
        return buffer.getvalue()

    def _json(self, document: Document, defect: str, secret: str) -> bytes:
        change: Callable[[str], str] = str
        match defect:
            case "wrong_type":
                document["amount"] = secret
            case "text_for_count":
                document["sequence"] = secret
            case "bad_time":
                document["occurred_at"] = secret
            case "non_finite":
                document["amount"] = float("nan")
            case "duplicate_key":
                change = lambda text: f'{text[:-1]},"note":"{secret}"}}'  # noqa: E731 - the one line of this case
            case _:
                pass
        text = change(json.dumps(document, ensure_ascii=False, separators=(",", ":"))).encode()
        if defect == "not_utf8":
            text = text.replace(document["note"].encode(), secret.encode() + b"\xff\xfe")
        return text


def _loosened(schema: Document) -> Document:
    types = {"kind": "int", "note": "bytes"}
    fields = [{**field, "type": types.get(field["name"], field["type"])} for field in schema["fields"]]
    return {**schema, "fields": fields}
