"""The events of the end-to-end proof: their two schemas, and documents in which every protected field is a canary.

A document follows from a seed and a number alone, so that the checker makes it again instead of keeping it. Nothing of
the product is imported here or in any other module of the proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

#: Stands at both ends of every text canary and nowhere else. Ten letters that no token, digest or name contains.
MARKER: Final = "qzxjkvwqpz"

INTERACTIONS: Final = "interactions"
PINGS: Final = "pings"
STREAMS: Final = (INTERACTIONS, PINGS)
CRM: Final = "crm"
ADS: Final = "ads"
AUDIENCES: Final = (CRM, ADS)

KINDS: Final = ("click", "purchase", "view")
CITIES: Final = ("Berlin", "Hamburg", "Köln", "München")
DOMAINS: Final = ("example.com", "example.net", "example.org")

Document = dict[str, Any]


def source_topic(stream: str) -> str:
    """Return the raw topic of a stream."""
    return f"raw.{stream}"


def output_topic(stream: str, audience: str) -> str:
    """Return the sanitized topic of a stream for an audience."""
    return f"raw.{stream}.{audience}"


def dead_letter_topic(stream: str) -> str:
    """Return the dead-letter topic of a stream."""
    return f"raw.{stream}.dead-letters"


def _tagged(name: str, type_: object, tag: str, **more: object) -> Document:
    return {"name": name, "type": type_, "confluent:tags": [tag], **more}


AVRO_SCHEMA: Final[Document] = {
    "type": "record",
    "name": "Interaction",
    "namespace": "shop.raw",
    "fields": [
        _tagged("event_id", "string", "event.id"),
        _tagged("sequence", "long", "event.sequence"),
        _tagged("customer_id", ["null", "string"], "id.customer", default=None),
        _tagged("occurred_at", {"type": "long", "logicalType": "timestamp-millis"}, "event.time"),
        _tagged("kind", {"type": "enum", "name": "Kind", "symbols": list(KINDS)}, "event.kind"),
        _tagged("amount", "double", "event.amount"),
        _tagged("email", ["null", "string"], "contact.email", default=None),
        _tagged("phone", ["null", "string"], "contact.phone", default=None),
        _tagged("card", "string", "payment.card"),
        _tagged(
            "location",
            {
                "type": "record",
                "name": "Position",
                "fields": [{"name": "latitude", "type": "double"}, {"name": "longitude", "type": "double"}],
            },
            "event.position",
        ),
        {
            "name": "contact",
            "type": {
                "type": "record",
                "name": "Contact",
                "fields": [_tagged("name", "string", "contact.name"), _tagged("city", "string", "event.detail")],
            },
        },
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Item",
                    "fields": [_tagged("sku", "string", "event.detail"), _tagged("message", "string", "text.free")],
                },
            },
        },
        _tagged("attributes", {"type": "map", "values": "string"}, "text.free"),
        _tagged("note", "string", "text.free"),
    ],
}

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}


def _property(type_: Mapping[str, object], tag: str) -> Document:
    return {**type_, "confluent:tags": [tag]}


def _object(properties: Mapping[str, object]) -> Document:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


JSON_SCHEMA: Final[Document] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Ping",
    "type": "object",
    "properties": {
        "event_id": _property(_TEXT, "event.id"),
        "sequence": _property({"type": "integer"}, "event.sequence"),
        "customer_id": _property({"type": ["string", "null"]}, "id.customer"),
        "occurred_at": _property({"type": "string", "format": "date-time"}, "event.time"),
        "kind": _property({"type": "string", "enum": list(KINDS)}, "event.kind"),
        "amount": _property(_NUMBER, "event.amount"),
        "email": _property(_TEXT, "contact.email"),
        "phone": _property({"type": ["string", "null"]}, "contact.phone"),
        "card": _property(_TEXT, "payment.card"),
        "location": _property(_object({"latitude": _NUMBER, "longitude": _NUMBER}), "event.position"),
        "contact": _object({"name": _property(_TEXT, "contact.name"), "city": _property(_TEXT, "event.detail")}),
        "items": {
            "type": "array",
            "items": _object({"sku": _property(_TEXT, "event.detail"), "message": _property(_TEXT, "text.free")}),
        },
        "attributes": _property({"type": "object", "additionalProperties": _TEXT}, "text.free"),
        "note": _property(_TEXT, "text.free"),
    },
    "required": ["event_id", "sequence", "occurred_at", "kind", "amount"],
}


class Event(NamedTuple):
    """One event before it is encoded; times are milliseconds since 1970."""

    event_id: str
    document: Document
    header: str
    """A text canary for a header, which must not leave either."""


class Facts(NamedTuple):
    """What the generator decides about an event; everything else follows from seed and number."""

    stream: str
    customer: str | None
    sequence: int
    time_ms: int
    blemish: str = ""
    """``email`` or ``card``: that field does not fit its token format and must be withheld."""


def canary(seed: int, number: int, place: str) -> str:
    """Return the text canary of one place in one record."""
    return f"{MARKER}{_digest(seed, f'{number}/{place}', 8).hex()}{MARKER}"


def customer_id(seed: int, index: int) -> str:
    """Return the number of a customer: sixteen digits, unrelated to those of others."""
    return f"{int.from_bytes(_digest(seed, f'customer/{index}', 8)) % 10**16:016}"


def event_id(seed: int, number: int) -> str:
    """Return the id of the event with this number, which is kept in every output."""
    return _digest(seed, str(number), 64)[:16].hex()


def make_event(seed: int, number: int, facts: Facts) -> Event:
    """Return the event with this number."""
    random = _digest(seed, str(number), 64)
    tag = random[48:56].hex()
    text = f"{MARKER}{tag}{{}}{MARKER}".format
    purchase = random[56]
    card = _card(int.from_bytes(random[16:24]) % 10**14)
    document: Document = {
        "event_id": random[:16].hex(),
        "sequence": facts.sequence,
        "customer_id": facts.customer,
        "occurred_at": facts.time_ms if facts.stream == INTERACTIONS else rfc3339(facts.time_ms),
        "kind": KINDS[purchase % len(KINDS)],
        "amount": int.from_bytes(random[57:59]) / 100,
        "email": f"{text('e')}@{DOMAINS[random[59] % len(DOMAINS)]}" if facts.blemish != "email" else text("e"),
        "phone": f"+1{int.from_bytes(random[24:32]) % 10**14:014}" if purchase % 2 else None,
        "card": card if facts.blemish != "card" else card[:-1] + str((int(card[-1]) + 1) % 10),
        "location": {
            "latitude": _degrees(52, random[32:40]),
            "longitude": _degrees(13, random[40:48]),
        },
        "contact": {"name": text("n"), "city": CITIES[random[60] % len(CITIES)]},
        "items": [{"sku": f"A-{random[61 + index]}", "message": text(f"m{index}")} for index in range(random[63] % 3)],
        "attributes": {"coupon": f"C-{random[61]}", text("k"): text("v")},
        "note": text("f"),
    }
    return Event(document["event_id"], document, text("h"))


def rfc3339(time_ms: int) -> str:
    """Return a time as RFC 3339 text in UTC with milliseconds."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def luhn_valid(digits: str) -> bool:
    """Say whether the last digit is the check digit of those before it (ISO/IEC 7812-1, annex B)."""
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(number - 9 * (number > 9) for number in doubled)
    return total % 10 == 0


def _card(account: int) -> str:
    body = f"4{account:014}"
    return next(body + check for check in "0123456789" if luhn_valid(body + check))


def _degrees(whole: int, random: bytes) -> float:
    return float(f"{whole}.{int.from_bytes(random) % 10**12:012}")


def _digest(seed: int, what: str, size: int) -> bytes:
    return hashlib.blake2b(what.encode(), digest_size=size, salt=seed.to_bytes(16)).digest()
