"""The events that every benchmark treats: 13 Avro fields, about 250 bytes, four tokens for each audience."""

from __future__ import annotations

import gc
import io
import json
import os
import random
from typing import TYPE_CHECKING, Any, Final

import fastavro

from tokenweir.adapters.engines import EngineName, make_engine
from tokenweir.core.consent import SubjectConsent, parse_value
from tokenweir.core.engineapi import Engine, Ready
from tokenweir.core.keys import Keyset
from tokenweir.core.planning import SourceSchema, plan_stream
from tokenweir.core.policy.loader import load_policy
from tokenweir.runtime.sources import key_domains, stream_context

if TYPE_CHECKING:
    from tokenweir.adapters.nativeengine import NativeEngine, NativePlan

POLICY: Final = """\
version: 1
purposes:
  email_marketing: {title: Offers by e-mail, basis: consent, retention_days: 3650}
  service_analytics: {title: Service, basis: legitimate_interest, assessment: LIA-1, retention_days: 3650}
subjects:
  customer: {class: id.customer, form: {digits: 10}}
classes:
  event: {do: keep}
  event.type: {do: keep, always: true}
  event.time: {do: {generalize: {time: hour}}}
  id.customer: {do: {tokenize: customer}}
  id.device: {do: {tokenize: device}}
  contact.email: {when: [email_marketing], do: {tokenize: email}}
  payment.card: {do: {tokenize: card}}
  location: {when: [service_analytics], do: {generalize: {cell: h3, resolution: 6}}}
  note: {do: drop}
tokens:
  customer: {format: digits, length: 10}
  device: {format: uuid}
  email: {format: email, domain: keep}
  card: {format: pan}
audiences:
  crm:
    title: Campaigns
    purposes: [email_marketing, service_analytics]
    recipients: [{id: campaigns, name: Campaigns, role: internal}]
streams:
  interactions:
    source: {topic: bench.interactions, format: avro}
    subjects: [{type: customer, path: customer_id}]
    event_time: occurred_at
    pairs: [[location.lat, location.lon]]
    outputs:
      - {audience: crm, topic: bench.interactions.crm, requires: [email_marketing], key: subject, timestamp: keep}
"""

SCHEMA: Final[dict[str, Any]] = {
    "type": "record",
    "name": "Interaction",
    "namespace": "bench",
    "fields": [
        {"name": "event_id", "type": "string", "confluent:tags": ["event"]},
        {"name": "customer_id", "type": "string", "confluent:tags": ["id.customer"]},
        {"name": "device_id", "type": ["null", "string"], "confluent:tags": ["id.device"]},
        {"name": "email", "type": ["null", "string"], "confluent:tags": ["contact.email"]},
        {"name": "card", "type": ["null", "string"], "confluent:tags": ["payment.card"]},
        {
            "name": "kind",
            "type": {"type": "enum", "name": "Kind", "symbols": ["CLICK", "PURCHASE", "PING"]},
            "confluent:tags": ["event.type"],
        },
        {
            "name": "occurred_at",
            "type": {"type": "long", "logicalType": "timestamp-millis"},
            "confluent:tags": ["event.time"],
        },
        {
            "name": "location",
            "type": {
                "type": "record",
                "name": "Location",
                "fields": [{"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}],
            },
            "confluent:tags": ["location"],
        },
        {"name": "amount", "type": ["null", "double"], "confluent:tags": ["event"]},
        {"name": "attributes", "type": {"type": "map", "values": "string"}, "confluent:tags": ["note"]},
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Item",
                    "fields": [{"name": "sku", "type": "string"}, {"name": "quantity", "type": "int"}],
                },
            },
            "confluent:tags": ["event"],
        },
        {"name": "channel", "type": "string", "confluent:tags": ["event"]},
        {"name": "note", "type": "string", "confluent:tags": ["note"]},
    ],
}


def schema_text() -> str:
    """Return the schema as it is registered."""
    return json.dumps(SCHEMA)


def _luhn(digits: str) -> str:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


def events(count: int, subjects: int, now_ms: int, seed: int = 1) -> list[bytes]:
    """Return encoded events, without the frame, of ``subjects`` different customers."""
    chosen = random.Random(seed)
    parsed = fastavro.parse_schema(SCHEMA)
    found = []
    for number in range(count):
        customer = chosen.randrange(subjects)
        event = {
            "event_id": f"{number:032x}",
            "customer_id": f"{customer:010d}",
            "device_id": f"00000000-0000-4000-8000-{customer:012x}",
            "email": f"person.{customer}@example.com",
            "card": _luhn(f"400000{customer:09d}"),
            "kind": chosen.choice(["CLICK", "PURCHASE", "PING"]),
            "occurred_at": now_ms - chosen.randrange(3_600_000),
            "location": {"lat": chosen.uniform(47, 55), "lon": chosen.uniform(6, 15)},
            "amount": chosen.randrange(100, 100_000) / 100,
            "attributes": {"campaign": "autumn", "browser": "firefox"},
            "items": [{"sku": f"SKU-{chosen.randrange(1000)}", "quantity": chosen.randrange(1, 5)} for _ in range(2)],
            "channel": "web",
            "note": "free text that never leaves",
        }
        target = io.BytesIO()
        fastavro.schemaless_writer(target, parsed, event)
        found.append(target.getvalue())
    return found


def calm_collector() -> None:
    """Let the cycle collector run as seldom as it does in a worker of the gateway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


class Bench:
    """What is measured: the policy with keys of its own, planned, and a person who allows what it asks for.

    Attributes:
        consent: The consent of everybody.
    """

    def __init__(self, now_ms: int) -> None:
        loaded = load_policy(POLICY, "benchmarks/policy.yaml")
        self._policy = loaded.policy
        self._keyset = Keyset.ephemeral(key_domains(loaded), os.urandom)
        context = stream_context(loaded, "interactions", self._keyset)
        planned = plan_stream(loaded, context, [SourceSchema(schema_text(), "benchmark", 1)])
        self._plan = planned.versions[0].compiled.plan
        state = parse_value(
            b'{"version":1,"decided_at":"2020-01-01T00:00:00Z","decisions":{"email_marketing":"allow"}}', now_ms
        )
        self.consent = SubjectConsent({} if state is None else {"": state})

    def engine(self, name: EngineName) -> tuple[Engine, Ready]:
        """Return an engine that remembers no token yet, and its plan."""
        engine = make_engine(name, self._policy, self._keyset)
        return engine, engine.bind(self._plan)

    def native(self) -> tuple[NativeEngine, NativePlan]:
        """Return a native engine that remembers no token yet, and its plan."""
        from tokenweir.adapters.nativeengine import NativeEngine  # noqa: PLC0415 - its module may be absent

        engine = NativeEngine(self._policy, self._keyset)
        return engine, engine.bind(self._plan)
