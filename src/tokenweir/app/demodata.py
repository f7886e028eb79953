"""The built-in data of the demo: policy, configuration, schemas, and a story of people who decide and do things."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import fastavro

from tokenweir.app.containers import SYNC_BYTES, ContainerWriter
from tokenweir.errors import FileFormatError

STREAM: Final = "interactions"
"""The stream of the story."""

POLICY: Final = "policy.yaml"
CONFIG: Final = "tokenweir.yaml"
GATEWAY: Final = "gateway.yaml"
SCHEMA: Final = "schemas/customer.interactions-value.avsc"
WEB_SCHEMA: Final = "schemas/web.clicks-value.json"

#: Which field of a line of the ``web`` stream a field of an event becomes.
_WEB_FIELDS: Final = {"event_type": "event", "customer_id": "customer", "email": "email", "page_url": "page"}

_DEFAULTS: Final = {
    "device_id": None,
    "email": None,
    "ip_address": None,
    "page_url": None,
    "location": None,
    "note": None,
}


def text(name: str) -> str:
    """Return a file of the demo."""
    return _directory().joinpath(name).read_text("utf-8")


def _directory() -> Traversable:
    return files("tokenweir").joinpath("data", "demo")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person does, and the record that tells of it.

    Attributes:
        number: Counts from 1.
        at_ms: When, in milliseconds since 1970.
        who: The person's name in the story, which is in no record.
        does: What, in words.
        record: The record as plain data.
        value: The record as a bare Avro datum.
    """

    number: int
    at_ms: int
    who: str
    does: str
    record: dict[str, Any]
    value: bytes


@dataclass(frozen=True, slots=True)
class Decisions:
    """Something that a person decides; ``line`` is the line of a consent file that says so."""

    at_ms: int
    who: str
    says: str
    line: str


def story(now_ms: int) -> Iterator[Event | Decisions]:
    """Yield what happens, in order; the last of it a moment before ``now_ms``."""
    told = json.loads(text("story.json"))
    schema = fastavro.parse_schema(json.loads(text(SCHEMA)))
    number = 0
    for step in told["steps"]:
        at_ms = now_ms - step["minutes_ago"] * 60_000
        person = told["people"].get(step["who"], {})
        if "decisions" in step:
            yield Decisions(at_ms, step["who"], step["says"], _consent_line(person, at_ms, step["decisions"]))
            continue
        number += 1
        record = {
            "event_id": f"e-{number:04}",
            "occurred_at": at_ms,
            **_DEFAULTS,
            "items": [],
            **person,
            **copy.deepcopy(step["event"]),
        }
        yield Event(number, at_ms, step["who"], step["does"], record, encode(schema, record))


def encode(schema: Any, record: dict[str, Any]) -> bytes:  # noqa: ANN401 - fastavro's parsed form.
    """Return a record as a bare Avro datum."""
    target = io.BytesIO()
    fastavro.schemaless_writer(target, schema, record)
    return target.getvalue()


def _consent_line(person: dict[str, Any], at_ms: int, decisions: dict[str, str]) -> str:
    line = {
        "subject": f"customer:{person['customer_id']}",
        "version": 1,
        "decided_at": instant(at_ms),
        "decisions": decisions,
    }
    return json.dumps(line)


def instant(at_ms: int) -> str:
    """Return a time as RFC 3339 text in UTC, to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(directory: Path, now_ms: int, sync: bytes) -> list[str]:
    """Write all of the demo as files that the other verbs take, and return their names.

    Args:
        directory: Where to; it may not hold any of the files yet.
        now_ms: When the story ends.
        sync: 16 random bytes, for the Avro container.

    Raises:
        FileFormatError: a file exists already, or cannot be written.
    """
    if len(sync) != SYNC_BYTES:
        raise ValueError("a sync marker has 16 bytes")
    steps = list(story(now_ms))
    events = [step for step in steps if isinstance(step, Event)]
    contents = {name: text(name).encode() for name in (POLICY, CONFIG, GATEWAY, SCHEMA, WEB_SCHEMA)}
    contents[".gitignore"] = b"keys/\nstate/\nout/\n"
    contents["events.avro"] = _container(events, sync)
    contents["web.jsonl"] = _lines(_web_line(event) for event in events if event.record["page_url"])
    contents["consent.jsonl"] = _lines(step.line for step in steps if isinstance(step, Decisions))
    taken = [name for name in contents if (directory / name).exists()]
    if taken:
        raise FileFormatError(f"{directory / taken[0]} exists already and is not replaced: name another directory")
    try:
        for name, content in contents.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise FileFormatError(f"{error.filename or directory}: {error.strerror}") from None
    return list(contents)


def _container(events: list[Event], sync: bytes) -> bytes:
    target = io.BytesIO()
    writer = ContainerWriter(target, json.dumps(json.loads(text(SCHEMA))), sync)
    for event in events:
        writer.write(event.value)
    writer.flush()
    return target.getvalue()


def _web_line(event: Event) -> str:
    line = {name: event.record[field] for field, name in _WEB_FIELDS.items() if event.record[field] is not None}
    return json.dumps({"at": instant(event.at_ms), **line})


def _lines(lines: Iterator[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
