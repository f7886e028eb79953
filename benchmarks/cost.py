"""What one record can cost at most: hostile records of up to a megabyte, each in a process of its own.

Each row is a record that spends its bytes on one thing. Its time is that of the engine, decode to encode for every
output; its memory is what the process needed above what it had before. "Or goes to the dead letters" is the promise
where a limit of :class:`tokenweir.core.schema.Limits` ends the record.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import fastavro

from benchmarks import workload
from tokenweir.adapters.engines import EngineName, make_engine
from tokenweir.core.consent import SubjectConsent, parse_value
from tokenweir.core.engineapi import Record
from tokenweir.core.keys import Keyset
from tokenweir.core.planning import SourceSchema, plan_stream
from tokenweir.core.policy.loader import load_policy
from tokenweir.runtime.sources import key_domains, stream_context

_BYTES: Final = 1_000_000
_RUNS: Final = 3

_POLICY: Final = """
version: 1
unclassified: drop
purposes:
  offers: {title: Offers, basis: consent, retention_days: 365}
subjects:
  customer: {class: id.customer, form: {digits: 10}}
classes:
  id.customer: {do: {tokenize: customer}}
  open: {do: keep}
  asked: {when: [offers], do: keep}
  mail: {do: {tokenize: mail}}
tokens:
  customer: {format: digits, length: 10}
  mail: {format: email, domain: tokenize}
audiences:
  crm: {title: CRM, purposes: [offers], recipients: [{id: a, name: A, role: internal}]}
  ads: {title: Ads, purposes: [offers], recipients: [{id: b, name: B, role: controller}]}
streams:
  raw:
    source: {topic: raw, format: FORMAT}
    subjects: [{type: customer, path: id}]
    fields: {load: CLASS}
    outputs: [{audience: crm, key: subject}, {audience: ads, key: subject}]
"""


def _wide(width: int) -> dict[str, Any]:
    return {"type": "record", "name": "Wide", "fields": [{"name": f"f{n}", "type": "int"} for n in range(width)]}


def _nested(levels: int) -> dict[str, Any]:
    kind: Any = "int"
    for level in range(levels):
        kind = {"type": "record", "name": f"L{level}", "fields": [{"name": "v", "type": ["null", kind]}]}
    return dict(kind)


def _chain(levels: int) -> object:
    value: Any = 7
    for _ in range(levels):
        value = {"v": value}
    return value


#: Name: type of the field, its class, and its value.
_AVRO: Final[Mapping[str, tuple[Any, str, Callable[[], Any]]]] = {
    "avro text": ("string", "open", lambda: "x" * _BYTES),
    "avro text, tokenized": ("string", "mail", lambda: "a" * (_BYTES - 20) + "@example.com"),
    "avro mail list": (
        {"type": "array", "items": "string"},
        "mail",
        lambda: [f"u{n}@example.com" for n in range(49_000)],
    ),
    "avro ints": ({"type": "array", "items": "int"}, "open", lambda: [1] * 49_000),
    "avro nulls": ({"type": "array", "items": "null"}, "open", lambda: [None] * 5_000_000),
    "avro union list": (
        {"type": "array", "items": ["null", "int", "string", "double"]},
        "open",
        lambda: [1, "x", 0.5, None] * 12_000,
    ),
    "avro map": ({"type": "map", "values": "int"}, "open", lambda: {f"k{n}": n for n in range(24_000)}),
    "avro wide records": (
        {"type": "array", "items": _wide(20)},
        "open",
        lambda: [dict.fromkeys((f"f{n}" for n in range(20)), 1)] * 2_300,
    ),
    "avro narrow records": ({"type": "array", "items": _wide(1)}, "asked", lambda: [{"f0": 1}] * 24_000),
    "avro deep records": ({"type": "array", "items": _nested(58)}, "open", lambda: [_chain(58)] * 820),
}
#: Name: value of the field and its class.
_JSON: Final[Mapping[str, tuple[str, Callable[[], str]]]] = {
    "json text": ("open", lambda: json.dumps("x" * _BYTES)),
    "json escapes": ("open", lambda: '"' + "\\u0041" * (_BYTES // 6) + '"'),
    "json numbers": ("open", lambda: "[" + "1," * 49_000 + "1]"),
    "json long numbers": ("open", lambda: "[" + ",".join(["1" * 300] * 3_300) + "]"),
    "json objects": ("open", lambda: "[" + ",".join(['{"a":1}'] * 24_000) + "]"),
    "json keys": ("open", lambda: "{" + ",".join(f'"k{n}":{n}' for n in range(49_000)) + "}"),
    "json deep": ("open", lambda: "[" + ",".join(["[" * 58 + "1" + "]" * 58] * 820) + "]"),
    "json mails": ("mail", lambda: "[" + ",".join(f'"u{n}@example.com"' for n in range(49_000)) + "]"),
}


def names() -> list[str]:
    """Return the rows."""
    return [*_AVRO, *_JSON]


def _input(name: str) -> tuple[str, str, str, bytes]:
    """Return format, class, schema and record of a row."""
    identity = {"name": "id", "type": "string", "confluent:tags": ["id.customer"]}
    if name in _AVRO:
        kind, class_, value = _AVRO[name]
        record = {"type": "record", "name": "Event", "fields": [identity, {"name": "load", "type": kind}]}
        data = io.BytesIO()
        fastavro.schemaless_writer(data, fastavro.parse_schema(record), {"id": "0000000007", "load": value()})
        return "avro", class_, json.dumps(record), data.getvalue()
    class_, text = _JSON[name]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"id": {"type": "string", "confluent:tags": ["id.customer"]}, "load": _json_schema(name)},
    }
    return "json_schema", class_, json.dumps(schema), b'{"id":"0000000007","load":' + text().encode() + b"}"


def _json_schema(name: str) -> dict[str, Any]:
    items: dict[str, Any] = {"type": "number"}
    if name == "json deep":
        for _ in range(58):
            items = {"type": "array", "items": items}
    kinds: dict[str, dict[str, Any]] = {
        "json text": {"type": "string"},
        "json escapes": {"type": "string"},
        "json keys": {"type": "object", "additionalProperties": {"type": "integer"}},
        "json objects": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        "json mails": {"type": "array", "items": {"type": "string"}},
    }
    return kinds.get(name, {"type": "array", "items": items})


def measure(name: str, engine_name: EngineName) -> dict[str, object]:
    """Return time, memory and fate of one row; in a process of its own, whose memory is not used yet."""
    format_, class_, schema, value = _input(name)
    now_ms = time.time_ns() // 1_000_000
    loaded = load_policy(_POLICY.replace("FORMAT", format_).replace("CLASS", class_), "benchmarks/cost.yaml")
    keyset = Keyset.ephemeral(key_domains(loaded), os.urandom)
    planned = plan_stream(loaded, stream_context(loaded, "raw", keyset), [SourceSchema(schema, "benchmark", 1)])
    state = parse_value(b'{"version":1,"decided_at":"2020-01-01T00:00:00Z","decisions":{"offers":"allow"}}', now_ms)
    consent = SubjectConsent({} if state is None else {"": state})
    engine = make_engine(engine_name, loaded.policy, keyset, max_output_bytes=16_000_000)
    bound = engine.bind(planned.versions[0].compiled.plan)
    workload.calm_collector()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    fates = set()
    for _ in range(_RUNS):
        started = time.process_time()
        outcomes = engine.process([(bound, Record(value, None, now_ms))], lambda _: consent, now_ms)[0]
        seconds.append(time.process_time() - started)
        fates |= {outcome.fate.value if outcome.reason is None else outcome.reason.value for outcome in outcomes}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "bytes": len(value),
        "milliseconds": round(min(seconds) * 1000, 1),
        "megabytes": round(memory / 1024, 1),
        "fates": sorted(fates),
    }


def run() -> dict[str, object]:
    """Return every row, by engine."""
    rows: dict[str, dict[str, object]] = {}
    for name in names():
        rows[name] = {}
        for engine in EngineName:
            command = [sys.executable, "-m", "benchmarks.cost", name, engine]
            rows[name][engine] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return dict(rows)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], EngineName(sys.argv[2]))))
