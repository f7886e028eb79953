"""A world whose schemas change while a gateway runs: writes records of any version, and judges what became of each.

Every record has a number of its own, which is kept in every output, and canaries wherever something must not leave.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from tests.support.capture import RegistryClient
from tests.support.events import MARKER
from tests.support.registryproxy import RegistryProxy
from tests.support.rig import Broker, SchemaRegistry
from tests.support.scan import CanaryScanner, Hit
from tests.support.worlds import SCHEMA, Read, RunningGateway, World, until

from tokenweir.adapters.registry import HttpRegistry
from tokenweir.core import wire

Schema = Mapping[str, Any]
OUTPUTS: Final = ("crm", "ads")
CUSTOMERS: Final = 50
WILLING: Final = 40
"""How many of them allow everything; the others' records are withheld."""

_CLASSES: Final = """classes:
  event.detail: {title: Detail, do: keep}
  text.free: {title: Free text, do: drop}
"""


def optional(name: str, type_: str, tag: str | None, **more: object) -> dict[str, object]:
    """Return an Avro field that may be null; without a tag nothing says what it is."""
    tags = {} if tag is None else {"confluent:tags": [tag]}
    return {"name": name, "type": ["null", type_], "default": None, **tags, **more}


def schema_of(*fields: Mapping[str, object], without: str = "") -> Schema:
    """Return the base schema with further fields, and without one."""
    kept = [entry for entry in SCHEMA["fields"] if entry["name"] != without]
    return {**SCHEMA, "fields": [*kept, *fields]}


@dataclass
class Sent:
    """One record that was written, and the reason for which it must be rejected; without one it is not."""

    number: int
    partition: int
    reason: str = ""
    offset: int = -1


@dataclass
class Judgement:
    """What became of the records."""

    records: int = 0
    lost: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaks: list[Hit] = field(default_factory=list)
    outputs: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)

    def assert_clean(self) -> None:
        """Fail with all that is wrong."""
        wrong = (self.lost[:5], self.doubled[:5], self.wrong[:5], self.leaks[:5])
        assert wrong == ([], [], [], []), f"lost, doubled, wrong, leaked: {wrong}"


class _Fate(NamedTuple):
    number: int
    output: str
    reason: str


class LoggedGateway(RunningGateway):
    """A gateway whose log can be read when it has stopped, too."""

    def __init__(self, world: World) -> None:
        self._said: str | None = None
        super().__init__(world)

    def log(self) -> str:
        """Everything that the gateway has said so far."""
        return super().log() if self._said is None else self._said

    def stop(self) -> int:
        """Stop it in order and return its exit code; again, if it has stopped, return the same."""
        if self._said is None:
            try:
                return super().stop()
            finally:
                self._said = (self._world.directory / "run.log").read_text()[self._begin :]
        return self.process.wait()


class SchemaWorld:
    """Topics, a policy, a real registry, and a proxy between it and the gateway."""

    def __init__(self, directory: Path, kafka: Broker, registry: SchemaRegistry, seed: int) -> None:
        self.dice = random.Random(seed)
        self.proxy = RegistryProxy(registry.url)
        self.direct = HttpRegistry(registry.url)
        self.world = World(directory, f"schemas-{uuid.uuid4().hex[:8]}", kafka.bootstrap, self.proxy.url)
        policy = directory / "policy.yaml"
        policy.write_text(policy.read_text().replace("classes:\n", _CLASSES))
        fixed = self.world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        self.sent: list[Sent] = []
        self.customers = [f"{self.dice.randrange(10**10):010}" for _ in range(CUSTOMERS)]
        self.gateways: list[LoggedGateway] = []
        self._client = RegistryClient(registry.url)
        self._parsed: dict[str, Any] = {}
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all", "linger.ms": 2})
        for customer in self.customers[:WILLING]:
            self.world.allow(int(customer), "email_marketing", "ad_measurement")

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.world.directory / "state"

    def register(self, schema: Schema, topic: str | None = None) -> int:
        """Register a version of a topic's schema, past the proxy; any change is allowed."""
        subject = f"{topic or self.world.source}-value"
        if self.direct.versions(subject):
            self.direct.set_compatibility(subject, "NONE")
        return self.direct.register(subject, json.dumps(schema), "AVRO")

    def start(self) -> LoggedGateway:
        """Start a gateway and wait until it is ready."""
        gateway = LoggedGateway(self.world)
        self.gateways.append(gateway)
        until(lambda: gateway.process.poll() is not None or _ready(gateway), gateway.log, 90)
        assert gateway.process.poll() is None, gateway.log()[-4000:]
        return gateway

    def send(self, schema_id: int, schema: Schema, *, partition: int, count: int = 1, reason: str = "") -> None:
        """Write records of a version, and note what must become of them."""
        self.write((schema_id, schema, partition, reason) for _ in range(count))

    def write(self, wanted: Iterator[tuple[int, Schema, int, str]]) -> None:
        """Write records, each given as schema id, schema, partition and reason, in this order."""
        for schema_id, schema, partition, reason in wanted:
            sent = Sent(len(self.sent), partition, reason)
            self.sent.append(sent)
            event = self._event(sent.number, schema)
            self._produce(sent, wire.frame(schema_id, self._encode(schema, event)))
        assert self._producer.flush(30) == 0
        assert all(sent.offset >= 0 for sent in self.sent)

    def committed(self, partition: int) -> int:
        """Return how far a source partition is processed."""
        group = f"{self.world.name}.interactions"
        return self.world.admin.committed(group, self.world.source, [partition])[partition].offset or 0

    def drained(self, *partitions: int) -> bool:
        """Whether everything that was written to some partitions is processed."""
        # Offsets of an open transaction are read as unstable, which is an error and no answer.
        answers = self.world.admin.committed_each(
            f"{self.world.name}.interactions", self.world.source, list(partitions)
        )
        ends = {number: self._end(number) for number in partitions}
        return all((getattr(answers[number], "offset", None) or 0) >= end for number, end in ends.items())

    def seconds_to_drain(self, *partitions: int, within_seconds: float = 60) -> float:
        """Wait until everything is processed, and return how long that took."""
        started = time.monotonic()
        until(lambda: self.drained(*partitions), self.gateways[-1].log, within_seconds)
        return time.monotonic() - started

    def judge(self) -> Judgement:
        """Compare all outputs and dead letters with what was sent, and look for canaries everywhere."""
        judgement = Judgement(records=len(self.sent))
        found: dict[int, Counter[_Fate]] = {}
        for fate in self._fates(judgement):
            found.setdefault(fate.number, Counter())[fate] += 1
        for sent in self.sent:
            withheld = not sent.reason and sent.number % CUSTOMERS >= WILLING
            expected = {_Fate(sent.number, output, sent.reason) for output in OUTPUTS if not withheld}
            fates = found.get(sent.number, Counter())
            judgement.lost += [sent.number] * ({fate.output for fate in expected} > {fate.output for fate in fates})
            judgement.doubled += [sent.number] * any(count > 1 for count in fates.values())
            if not set(fates) <= expected:
                judgement.wrong.append(f"record {sent.number}: {sorted(fates)}, expected reason '{sent.reason}'")
        judgement.leaks = self._scan()
        return judgement

    def close(self) -> None:
        """End everything."""
        for gateway in self.gateways:
            gateway.stop()
        self.proxy.close()

    def _event(self, number: int, schema: Schema) -> dict[str, Any]:
        event: dict[str, Any] = {
            "kind": f"number-{number}",
            "customer_id": self.customers[number % CUSTOMERS],
            "occurred_at": time.time_ns() // 1_000_000,
        }
        for entry in schema["fields"]:
            name = entry["name"]
            if name not in event:
                canary = f"{MARKER}{number:x}{name}{MARKER}"
                long = "long" in entry["type"]
                event[name] = number if long else f"detail {number}" if _kept(entry) else canary
                if "contact.email" in entry.get("confluent:tags", []):
                    event[name] = f"{canary}@example.com"
        return event

    def _encode(self, schema: Schema, event: Mapping[str, Any]) -> bytes:
        text = json.dumps(schema)
        if text not in self._parsed:
            self._parsed[text] = fastavro.parse_schema(json.loads(text))
        data = io.BytesIO()
        fastavro.schemaless_writer(data, self._parsed[text], event)
        return data.getvalue()

    def _produce(self, sent: Sent, value: bytes) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                sent.offset = message.offset() or 0

        key = self.customers[sent.number % CUSTOMERS].encode()
        self._producer.produce(self.world.source, value, key, sent.partition, on_delivery=delivered)
        self._producer.poll(0)

    def _end(self, partition: int) -> int:
        return max((sent.offset + 1 for sent in self.sent if sent.partition == partition), default=0)

    def _fates(self, judgement: Judgement) -> Iterator[_Fate]:
        places = {(sent.partition, sent.offset): sent.number for sent in self.sent}
        for output in OUTPUTS:
            judgement.outputs[output] = {}
            for record in self.world.read(f"raw.{output}"):
                value = self._decode(record)
                number = int(value["kind"].removeprefix("number-"))
                judgement.outputs[output][number] = value
                yield _Fate(number, output, "")
        for record in self.world.read("raw.dead-letters"):
            letter = self._decode(record)
            place = (letter["source_partition"], letter["source_offset"])
            yield _Fate(places[place], letter["output"].rpartition(".")[2], letter["reason"])

    def _decode(self, record: Read) -> dict[str, Any]:
        schema_id, datum = wire.unframe(record.value)
        value = fastavro.schemaless_reader(io.BytesIO(datum), self._client.schema(schema_id), None)
        assert isinstance(value, dict)
        return value

    def _scan(self) -> list[Hit]:
        scanner = CanaryScanner(self.customers, [])
        hits: list[Hit] = []
        for output in (*OUTPUTS, "dead-letters"):
            records = self.world.read(f"raw.{output}")
            hits += scanner.scan_records(output, ((record.key, record.value) for record in records))
        for gateway in self.gateways:
            hits += scanner.scan("log", gateway.log().encode())
            if gateway.process.poll() is None:
                hits += scanner.scan("metrics", gateway.get("/metrics")[1].encode())
        for path in self.state.rglob("*"):
            if path.is_file():
                hits += scanner.scan_file(path)
        assert scanner.searched_bytes > 0
        return hits


def _ready(gateway: RunningGateway) -> bool:
    try:
        return gateway.get("/readyz")[0] == http.client.OK
    except OSError:
        return False  # It ends at this moment.


def _kept(entry: Mapping[str, Any]) -> bool:
    return bool({"event.detail", "event.type"} & set(entry.get("confluent:tags", [])))
