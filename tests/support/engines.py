"""Policies, schemas and plain values in; plans, outcomes and plain values out: the engine as tests drive it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import fastavro
import jsonschema as jsonschema_library

from tokenweir.core.consent import UNKNOWN, SubjectConsent, merge, parse_key, parse_value
from tokenweir.core.context import StreamContext, domain_of
from tokenweir.core.engine import BoundOutput, BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import Record
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Outcome
from tokenweir.core.planning import PlannedStream, SourceSchema, plan_stream
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.subjects import Subject
from tokenweir.errors import FindingsError

Document = dict[str, Any]
Value = Any
ConsentLines = Sequence[Mapping[str, Any]]

#: A clock reading that most tests share: 2026-11-22T10:00:00Z.
NOW_MS = 1_795_341_600_000


def fixed_keyset(domains: Sequence[str]) -> Keyset:
    """Return a keyset that is the same in every run, with a different root for each domain."""
    counter = count()
    return Keyset.ephemeral(domains, lambda size: hashlib.shake_256(str(next(counter)).encode()).digest(size))


def raise_fault(error: Exception) -> None:
    """Fail a test in which the engine itself fails."""
    raise error


@dataclass
class Rig:
    """One stream of one policy with all its schema versions, ready to run."""

    loaded: LoadedPolicy
    planned: PlannedStream
    keyset: Keyset
    engine: ReferenceEngine
    bound: list[BoundPlan] = field(default_factory=list)

    def output(self, audience: str, version: int = 0) -> BoundOutput:
        """Return the output for an audience."""
        return next(output for output in self.bound[version].outputs if output.output.audience == audience)

    def derived(self, audience: str, version: int = 0) -> Document:
        """Return the derived schema for an audience."""
        derived = self.output(audience, version).derived
        assert derived is not None
        text: Document = json.loads(derived.text)
        return text

    def token(self, audience: str, entry: str, value: str) -> str:
        """Return the token that this value must have in the outputs for an audience."""
        policy = self.loaded.policy
        return self.keyset.tokenizer(domain_of(policy, audience), entry, policy.tokens[entry]).tokenize(value)

    def process(
        self, records: Sequence[Record], consent: ConsentLines = (), now_ms: int = NOW_MS, version: int = 0
    ) -> list[dict[str, Outcome]]:
        """Return for each record its outcomes by audience."""
        lookup = consent_of(consent, now_ms)
        outcomes = self.engine.process([(self.bound[version], record) for record in records], lookup, now_ms)
        names = [output.output.audience for output in self.bound[version].outputs]
        return [dict(zip(names, row, strict=True)) for row in outcomes]

    def one(self, record: Record, consent: ConsentLines = (), now_ms: int = NOW_MS) -> dict[str, Outcome]:
        """Return the outcomes of one record by audience."""
        return self.process([record], consent, now_ms)[0]

    def read(self, audience: str, value: bytes | None, version: int = 0) -> Value:
        """Return a sanitized value as plain data, after checking it with a foreign library against its schema."""
        assert value is not None
        if self.bound[version].plan.format == "avro":
            return avro_decode(self.derived(audience, version), value)
        document = json.loads(value)
        jsonschema_library.validate(document, self.derived(audience, version))
        return document


def plan(policy: str, *schemas: str, stream: str | None = None) -> tuple[LoadedPolicy, PlannedStream, Keyset]:
    """Plan one stream of a policy, its only one by default, for schema texts from the oldest to the newest."""
    loaded, _ = load_and_check(policy, "policy.yaml")
    name = stream or next(iter(loaded.policy.streams))
    keyset = fixed_keyset(sorted({domain_of(loaded.policy, audience) for audience in loaded.policy.audiences}))
    epochs = {domain: keyset.epoch(domain) for domain in keyset.domains}
    context = StreamContext(ClassTable(loaded.policy), loaded.policy, loaded.digest, name, epochs)
    sources = [SourceSchema(text, f"version {index}", index) for index, text in enumerate(schemas, 1)]
    return loaded, plan_stream(loaded, context, sources), keyset


def rig(policy: str, *schemas: str, stream: str | None = None, max_output_bytes: int = 1_000_000) -> Rig:
    """Return a stream that is ready to run.

    Raises:
        FindingsError: The policy, or policy and schemas together, have errors.
    """
    loaded, planned, keyset = plan(policy, *schemas, stream=stream)
    if planned.errors:
        raise FindingsError(planned.errors)
    engine = ReferenceEngine(loaded.policy, keyset, max_output_bytes=max_output_bytes, on_fault=raise_fault)
    return Rig(loaded, planned, keyset, engine, [engine.bind(version.compiled.plan) for version in planned.versions])


def rules_of(policy: str, *schemas: str) -> set[str]:
    """Return the rules of all errors in a policy and its schemas."""
    try:
        _, planned, _ = plan(policy, *schemas)
    except FindingsError as error:
        return {finding.rule for finding in error.findings if finding.severity == "error"}
    return {finding.rule for finding in planned.errors}


class Consents:
    """A consent lookup over JSON lines, as ``sanitize --consent`` reads them."""

    def __init__(self, lines: ConsentLines, now_ms: int) -> None:
        self._subjects: dict[Subject, SubjectConsent] = {}
        for line in lines:
            key = parse_key(str(line["subject"]).encode())
            content = {name: value for name, value in line.items() if name != "subject"}
            state = parse_value(json.dumps(content).encode(), now_ms)
            states = self._subjects.get(key.subject, UNKNOWN).states
            self._subjects[key.subject] = SubjectConsent(merge(states, key.source, state))

    def __call__(self, subject: Subject) -> SubjectConsent:
        """Return what is known of a subject."""
        return self._subjects.get(subject, UNKNOWN)


def consent_of(lines: ConsentLines, now_ms: int = NOW_MS) -> Consents:
    """Return a consent lookup over JSON lines."""
    return Consents(lines, now_ms)


def allow(subject: str, *purposes: str, decided_at: str = "2026-01-01T00:00:00Z", **more: object) -> Document:
    """Return the consent line of a subject that allows these purposes."""
    decisions = dict.fromkeys(purposes, "allow")
    return {"subject": subject, "version": 1, "decided_at": decided_at, "decisions": decisions, **more}


def deny(subject: str, *purposes: str, decided_at: str = "2026-01-01T00:00:00Z", **more: object) -> Document:
    """Return the consent line of a subject that denies these purposes."""
    decisions = dict.fromkeys(purposes, "deny")
    return {"subject": subject, "version": 1, "decided_at": decided_at, "decisions": decisions, **more}


def avro_encode(schema: Document, value: object) -> bytes:
    """Return a value in Avro as another library writes it; logical types are given as their raw numbers and texts."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(_physical(schema)), value)
    return buffer.getvalue()


def avro_decode(schema: Document, data: bytes) -> Value:
    """Return Avro data as another library reads it, and check that nothing follows it."""
    buffer = io.BytesIO(data)
    value = fastavro.schemaless_reader(buffer, fastavro.parse_schema(_physical(schema)), None)
    assert not buffer.read(), "bytes follow the datum"
    return value


def avro_resolve(writer: Document, reader: Document, data: bytes) -> Value:
    """Return data of one schema as a consumer that knows another one reads it."""
    writer_schema, reader_schema = (fastavro.parse_schema(_physical(schema)) for schema in (writer, reader))
    return fastavro.schemaless_reader(io.BytesIO(data), writer_schema, reader_schema)


def _physical(schema: Value) -> Value:
    if isinstance(schema, dict):
        return {key: _physical(value) for key, value in schema.items() if key != "logicalType"}
    return [_physical(entry) for entry in schema] if isinstance(schema, list) else schema


_JSON_TYPES = {"string": "string", "boolean": "boolean", "int": "integer", "long": "integer"}
_JSON_TYPES |= {"float": "number", "double": "number", "null": "null"}


def json_schema_of(avro: Value) -> Document:  # noqa: PLR0911 - one return per kind of type
    """Return the JSON Schema of the same records, for running one case through both formats."""
    if isinstance(avro, str):
        return {"type": _JSON_TYPES[avro]}
    if isinstance(avro, list):
        return {"anyOf": [json_schema_of(branch) for branch in avro]}
    tags = {"confluent:tags": avro["confluent:tags"]} if "confluent:tags" in avro else {}
    match avro["type"]:
        case "record":
            properties = {
                entry["name"]: json_schema_of(entry["type"])
                | ({"confluent:tags": entry["confluent:tags"]} if "confluent:tags" in entry else {})
                for entry in avro["fields"]
            }
            required = [
                entry["name"]
                for entry in avro["fields"]
                if not (isinstance(entry["type"], list) and "null" in entry["type"])
            ]
            return {"type": "object", "title": avro["name"], "properties": properties, "required": required, **tags}
        case "array":
            return {"type": "array", "items": json_schema_of(avro["items"]), **tags}
        case "map":
            return {"type": "object", "additionalProperties": json_schema_of(avro["values"]), **tags}
        case "enum":
            return {"type": "string", "enum": avro["symbols"], **tags}
        case inner:
            formats = {"uuid": {"format": "uuid"}}.get(avro.get("logicalType", ""), {})
            return json_schema_of(inner) | formats | tags


def small_policy(
    *,
    classes: str = "",
    fields: str = "{}",
    subjects: str = "customer: {class: id.customer, form: {digits: 10}}",
    tokens: str = "",
    about: str = "[{type: customer, path: id}]",
    stream: str = "",
    outputs: str = "[{audience: crm}]",
    format_: str = "avro",
    unclassified: str = "drop",
) -> str:
    """Return a policy with two audiences, two purposes and what a test adds to it.

    ``offers`` needs consent, ``billing`` asks nobody. ``crm`` serves both, ``ads`` only ``offers``.
    """
    return f"""
version: 1
unclassified: {unclassified}
purposes:
  offers:  {{title: Offers, basis: consent, retention_days: 365}}
  billing: {{title: Billing, basis: contract, assessment: C-1, retention_days: 365}}
subjects:
  {subjects}
classes:
  id.customer: {{do: {{tokenize: customer}}}}
  open: {{do: keep}}
  asked: {{when: [offers], do: keep}}
  secret: {{do: drop}}
{_indented(classes)}
tokens:
  customer: {{format: digits, length: 10}}
{_indented(tokens)}
audiences:
  crm: {{title: CRM, purposes: [offers, billing], recipients: [{{id: a, name: A, role: internal}}]}}
  ads: {{title: Ads, purposes: [offers], recipients: [{{id: b, name: B, role: controller}}]}}
streams:
  raw:
    source: {{topic: raw, format: {format_}}}
    subjects: {about}
    fields: {fields}
    outputs: {outputs}
{_indented(stream, 4)}
"""


def _indented(lines: str, spaces: int = 2) -> str:
    return "\n".join(" " * spaces + line.strip() for line in lines.strip().splitlines())


def record_schema(*fields: Value, name: str = "Event") -> str:
    """Return an Avro record with a subject's id and these fields, each a pair of name and type or a whole field."""
    given = [entry if isinstance(entry, dict) else {"name": entry[0], "type": entry[1]} for entry in fields]
    names = {entry["name"] for entry in given}
    first = [] if "id" in names else [{"name": "id", "type": "string", "confluent:tags": ["id.customer"]}]
    return json.dumps({"type": "record", "name": name, "namespace": "shop", "fields": first + given})
