"""Runs the scenario files beside this module: what a policy author reads is what the engine must do.

A file has one policy, one schema in Avro and cases. Each case has a record (that of the file with ``change`` laid over
it and ``without`` some fields), consent lines, a clock, and what every audience gets. ``token(entry: value)`` stands
for the token that the value has for that audience, ``number(entry: value)`` for the same in an integer field. Every
case runs through Avro and through the JSON Schema of the same records, unless the file says ``formats``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.engines import Rig, avro_encode, json_schema_of, rig

from tokenweir.core.engineapi import Record
from tokenweir.core.outcome import Fate, Outcome

_DIRECTORY = Path(__file__).parent
_TOKEN = re.compile(r"(?P<kind>token|number)\((?P<entry>[a-z_-]+): (?P<value>.*)\)")
_FILE_KEYS = {"title", "policy", "schema", "formats", "now", "timestamp", "consent", "record", "cases"}
_CASE_KEYS = {
    "title", "now", "timestamp", "consent", "record", "change", "without", "tombstone", "key", "headers", "expect",
    "max_output_bytes",
}  # fmt: skip
_EXPECT_KEYS = {"fate", "reason", "at", "key", "fields", "exactly", "absent", "timestamp", "headers", "treated"}

Document = dict[str, Any]
Value = Any

_START = "2026-11-22T10:00:00Z"


def _files() -> list[tuple[str, Document]]:
    loader = YAML(typ="safe", pure=True)
    return [(path.stem, loader.load(path)) for path in sorted(_DIRECTORY.glob("*.yaml"))]


def _cases() -> Iterator[Any]:
    for name, scenario in _files():
        assert scenario.keys() <= _FILE_KEYS, f"{name} has an unknown key"
        for case in scenario["cases"]:
            assert case.keys() <= _CASE_KEYS, f"{name}: {case['title']} has an unknown key"
            for format_ in scenario.get("formats", ("avro", "json")):
                yield pytest.param(scenario, case, format_, id=f"{name}-{format_}-{case['title']}")


@pytest.mark.parametrize(("scenario", "case", "format_"), list(_cases()))
def test_scenario(scenario: Document, case: Document, format_: str) -> None:
    """Each audience gets exactly what the case says."""
    stream = _rig(scenario, format_, case.get("max_output_bytes", 1_000_000))
    settings: Document = {"now": _START, "consent": [], "record": {}, **scenario, **case}
    now_ms = _milliseconds(settings["now"])

    outcomes = stream.one(_record(settings, format_, now_ms), settings["consent"], now_ms)

    assert case["expect"].keys() == outcomes.keys(), "a case speaks of every audience"
    for audience, expected in case["expect"].items():
        _check(stream, audience, outcomes[audience], expected if isinstance(expected, dict) else {"fate": expected})


def _rig(scenario: Document, format_: str, max_output_bytes: int) -> Rig:
    policy, schema = scenario["policy"], scenario["schema"]
    if format_ == "json":
        policy, schema = policy.replace("format: avro", "format: json_schema"), json_schema_of(schema)
    return rig(policy, json.dumps(schema), max_output_bytes=max_output_bytes)


def _record(settings: Document, format_: str, now_ms: int) -> Record:
    document = {**settings["record"], **settings.get("change", {})}
    document = {name: value for name, value in document.items() if name not in settings.get("without", [])}
    value = None
    if not settings.get("tombstone", False):
        value = avro_encode(settings["schema"], document) if format_ == "avro" else json.dumps(document).encode()
    headers = [(name, None if text is None else text.encode()) for name, text in settings.get("headers", [])]
    key = settings.get("key")
    timestamp_ms = _milliseconds(settings["timestamp"]) if "timestamp" in settings else now_ms
    return Record(value, None if key is None else key.encode(), timestamp_ms, headers)


def _check(stream: Rig, audience: str, outcome: Outcome, expected: Document) -> None:
    assert expected.keys() <= _EXPECT_KEYS
    assert outcome.fate == expected.get("fate", "sanitized"), outcome
    if outcome.fate is Fate.REJECTED:
        assert outcome.reason == expected["reason"]
        assert outcome.field_path == expected.get("at", "")
    if outcome.fate is not Fate.SANITIZED:
        assert (outcome.key, outcome.value, outcome.headers, outcome.timestamp_ms) == (None, None, [], -1)
        return
    key = outcome.key.decode() if outcome.key is not None else None
    if "key" in expected:
        assert key == _meant(stream, audience, expected["key"])
    if "timestamp" in expected:
        assert outcome.timestamp_ms == _milliseconds(expected["timestamp"])
    assert [[name, value and value.decode()] for name, value in outcome.headers] == expected.get("headers", [])
    if outcome.value is None:
        assert "fields" not in expected
        assert "exactly" not in expected
        return
    document = stream.read(audience, outcome.value)
    if "exactly" in expected:
        assert document == _meant(stream, audience, expected["exactly"])
    if "fields" in expected:
        assert _present(document) == _present(_meant(stream, audience, expected["fields"]))
    for name in expected.get("absent", []):
        assert name not in _present(document)
    if "treated" in expected:
        assert {treated.value: number for treated, number in outcome.treated.items()} == expected["treated"]


def _meant(stream: Rig, audience: str, value: Value) -> Value:
    """Return an expected value with real tokens in place of symbols."""
    if isinstance(value, dict):
        return {name: _meant(stream, audience, entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_meant(stream, audience, entry) for entry in value]
    found = _TOKEN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    token = stream.token(audience, found["entry"], found["value"])
    return token if found["kind"] == "token" else int(token)


def _present(value: Value) -> Value:
    """Return a document without what is null or absent, and with numbers of Avro and JSON alike."""
    if isinstance(value, dict):
        return {name: _present(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_present(entry) for entry in value]
    return value


def _milliseconds(text: str | datetime | int) -> int:
    if isinstance(text, int):
        return text
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
