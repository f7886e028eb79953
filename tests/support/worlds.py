"""Small worlds for tests of the command line: topics, a schema, a policy, a configuration and a running gateway."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from typer.testing import CliRunner

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.keysource import init_keyset
from tokenweir.adapters.registry import HttpRegistry
from tokenweir.cli import app

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "record",
    "name": "Interaction",
    "namespace": "shop",
    "fields": [
        {"name": "kind", "type": "string", "confluent:tags": ["event.type"]},
        {"name": "customer_id", "type": "string", "confluent:tags": ["id.customer"]},
        {
            "name": "occurred_at",
            "type": {"type": "long", "logicalType": "timestamp-millis"},
            "confluent:tags": ["event.time"],
        },
        {"name": "email", "type": ["null", "string"], "default": None, "confluent:tags": ["contact.email"]},
    ],
}
NEXT_SCHEMA: Final[Mapping[str, Any]] = {
    **SCHEMA,
    "fields": [
        *SCHEMA["fields"],
        {"name": "second_email", "type": ["null", "string"], "default": None, "confluent:tags": ["contact.email"]},
    ],
}

POLICY: Final = """
version: 1
revision: 3
purposes:
  email_marketing: {title: Offers by e-mail, basis: consent, retention_days: 365}
  ad_measurement: {title: Measuring advertisements, basis: consent, retention_days: 30}
subjects:
  customer: {class: id.customer, form: {digits: 10}}
classes:
  event.type: {title: Kind of event, do: keep, always: true}
  event.time:
    title: Time of the event
    links: event
    treatments: [{for: [crm], do: keep}, {do: {generalize: {time: hour}}}]
  id.customer: {title: Customer number, do: {tokenize: customer}}
  contact.email: {title: E-mail address, when: [email_marketing], do: {tokenize: email}}
tokens:
  customer: {format: digits, length: 10}
  email: {format: email, domain: tokenize}
audiences:
  crm:
    title: Our campaign team
    purposes: [email_marketing]
    recipients: [{id: campaigns, name: Campaign team, role: internal}]
  ads:
    title: Advertising partner
    purposes: [ad_measurement]
    never: ["contact.**"]
    recipients: [{id: acme, name: Acme Ads Inc, role: controller, country: US, transfer: SCC, contract: D-17}]
streams:
  interactions:
    source: {topic: NAME.raw, format: avro}
    subjects: [{type: customer, path: customer_id}]
    event_time: occurred_at
    outputs: [{audience: crm, key: subject}, {audience: ads, key: subject}]
"""

_ROOT: Final = Path(__file__).parents[2]
_CONFIG: Final = """
version: 1
kafka:
  bootstrap_servers: "BOOTSTRAP"
  properties: {session.timeout.ms: 3000, heartbeat.interval.ms: 500}
registry: {url: "REGISTRY", unknown_schema_seconds: 2}
policy: {file: policy.yaml}
consent: {topic: NAME.consent, max_staleness_seconds: 2}
gateway: {group_prefix: NAME, workers: WORKERS, start: START}
admin: {port: 0}
logging: {format: json}
"""


class Done(NamedTuple):
    """How a verb ended."""

    returncode: int
    stdout: str
    stderr: str


class Read(NamedTuple):
    """A record that was read."""

    partition: int
    key: bytes
    value: bytes
    timestamp_ms: int


class World:
    """A source topic with a schema, and a directory with policy, configuration and keys."""

    def __init__(  # noqa: PLR0917 - what a world consists of.
        self,
        directory: Path,
        name: str,
        bootstrap: str,
        registry: str,
        workers: int = 1,
        start: str = "earliest",
    ) -> None:
        self.name, self.directory, self.source = name, directory, f"{name}.raw"
        self._bootstrap = bootstrap
        self.admin = Admin({"bootstrap.servers": bootstrap})
        self.registry = HttpRegistry(registry)
        self.admin.create_topic(self.source, 2)
        self.schema_id = self.register(SCHEMA)
        words = {"NAME": name, "BOOTSTRAP": bootstrap, "REGISTRY": registry, "WORKERS": str(workers), "START": start}
        for file, text in (("policy.yaml", POLICY), ("tokenweir.yaml", _CONFIG)):
            (directory / file).write_text(re.sub("|".join(words), lambda found: words[found[0]], text))
        keys = directory / "keys"
        init_keyset(keys / "keyset.json", keys / "kek.key", ["crm", "ads"], datetime.now(UTC))
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True}
        )

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "tokenweir.yaml"

    def cli(self, *arguments: str, given: str = "") -> Done:
        """Run a verb to its end with this world's configuration, in this process, which saves the imports."""
        result = CliRunner().invoke(app, [*arguments, "--config", str(self.config)], input=given)
        return Done(result.exit_code, self.without_config(result.stdout), self.without_config(result.stderr))

    def refused_run(self) -> Done:
        """Run ``tokenweir run``, which is expected to end by itself."""
        command = [sys.executable, "-m", "tokenweir", "run", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return Done(done.returncode, self.without_config(done.stdout), self.without_config(done.stderr))

    def without_config(self, said: str) -> str:
        """Return what was said without the configuration in the commands that it proposes: it is another each time."""
        return said.replace(f" --config {self.config}", "")

    def register(self, schema: Mapping[str, Any]) -> int:
        """Register a version of the source's schema and return its id."""
        return self.registry.register(f"{self.source}-value", json.dumps(schema), "AVRO")

    def send(
        self,
        customer: int,
        count: int = 1,
        *,
        partition: int = -1,
        schema_id: int | None = None,
        kind: str = "click",
        timestamp_ms: int = 0,
    ) -> None:
        """Send events of a customer and wait until they are written."""
        for _ in range(count):
            event = {
                "kind": kind,
                "customer_id": f"{customer:010}",
                "occurred_at": time.time_ns() // 1_000_000,
                "email": f"someone{customer}@example.com",
                "second_email": None,
            }
            schema = NEXT_SCHEMA if schema_id not in (None, self.schema_id) else SCHEMA
            data = io.BytesIO()
            fastavro.schemaless_writer(data, fastavro.parse_schema(json.loads(json.dumps(schema))), event)
            frame = b"\0" + struct.pack(">I", self.schema_id if schema_id is None else schema_id)
            self._producer.produce(
                self.source, frame + data.getvalue(), str(customer).encode(), partition, timestamp=timestamp_ms
            )
        assert self._producer.flush(20) == 0

    def bomb(self, mebibytes: int) -> None:
        """Write a record of zeros to the first source partition; compressed it is a thousandth of its size."""
        limit = 2_000_000_000
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "message.max.bytes": 1_000_000_000,
                "compression.type": "gzip",
                "queue.buffering.max.kbytes": 2_000_000,
                "message.timeout.ms": 120_000,
                "batch.size": limit,
            }
        )
        value = b"\0" + struct.pack(">I", self.schema_id) + bytes(mebibytes << 20)
        failures: list[object] = []
        producer.produce(
            self.source, value, None, 0, on_delivery=lambda error, _: failures.append(error) if error else None
        )
        assert producer.flush(120) == 0
        assert not failures, failures

    def allow(self, customer: int, *purposes: str) -> None:
        """Write an allow of a minute ago, and wait until it is written."""
        moment = datetime.fromtimestamp(time.time() - 60, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        state = {"version": 1, "decided_at": moment, "decisions": dict.fromkeys(purposes, "allow")}
        self._producer.produce(f"{self.name}.consent", json.dumps(state).encode(), f"customer:{customer:010}".encode())
        assert self._producer.flush(20) == 0

    def write(self, topic: str, key: bytes, value: bytes, partition: int) -> None:
        """Write any record to a topic of this world, and wait until it is written."""
        self._producer.produce(f"{self.name}.{topic}", value, key, partition)
        assert self._producer.flush(20) == 0

    def read(self, topic: str) -> list[Read]:
        """Return all committed records of a topic of this world, named without the world's own prefix."""
        topic = f"{self.name}.{topic}"
        ends = self.admin.high_watermarks(topic, range(self.admin.topics()[topic]), "read_committed")
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": f"{self.name}-reader",
                "enable.auto.commit": "false",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": "true",
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        waiting = {partition for partition, end in ends.items() if end}
        records: list[Read] = []
        deadline = time.monotonic() + 20
        while waiting and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                records.append(_read(message))
            elif message is not None:
                waiting.discard(message.partition() or 0)
        consumer.close()
        return records

    def start(self, module: str = "tokenweir") -> RunningGateway:
        """Start a gateway and wait until its admin port is open."""
        return RunningGateway(self, module)


def _read(message: Message) -> Read:
    key, value = message.key() or b"", message.value() or b""
    assert isinstance(key, bytes)
    assert isinstance(value, bytes)
    return Read(message.partition() or 0, key, value, message.timestamp()[1])


class RunningGateway:
    """``tokenweir run`` in a process of its own."""

    def __init__(self, world: World, module: str = "tokenweir") -> None:
        self._world = world
        self._log = (world.directory / "run.log").open("a+b")
        self._begin = self._log.seek(0, os.SEEK_END)
        command = [sys.executable, "-m", module, "run", "--config", str(world.config)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)
        until(lambda: bool(self.events("admin_listening")) or self.process.poll() is not None, self.log)
        self.port = int(self.events("admin_listening")[0]["port"])

    def log(self) -> str:
        """Everything that the gateway has said so far."""
        return self._world.without_config(os.pread(self._log.fileno(), 10_000_000, self._begin).decode())

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == name]

    def pid(self, kind: str) -> int:
        """The process id of the newest child of a kind."""
        return int([event for event in self.events("process_started") if event["kind"] == kind][-1]["pid"])

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin port; return status and text."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, series: str) -> float:
        """The value of one series as it is written in the exposition format."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        raise LookupError(series)

    def ready(self) -> bool:
        """Whether the gateway says that it is ready; one that has ended fails the test."""
        assert self.process.poll() is None, self.log()[-4000:]
        return self.get("/readyz")[0] == 200

    def allow(self, customer: int, *purposes: str) -> None:
        """Write an allow of a minute ago, and wait until it is applied."""
        self._world.allow(customer, *purposes)
        self.wait_for_consent()

    def wait_for_consent(self) -> None:
        """Wait until everything that is on the consent topic now is applied."""
        topic, admin = f"{self._world.name}.consent", self._world.admin
        ends = admin.high_watermarks(topic, range(admin.topics()[topic]))
        series = 'tokenweir_consent_position{{partition="{}"}}'.format
        until(lambda: all(self.metric(series(number)) >= end for number, end in ends.items()), self.log)

    def stop(self) -> int:
        """Stop it in order and return its exit code; whatever it logged was declared."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            # It may be stopped twice: by its test, and by whoever started it.
            said = "" if self._log.closed else self.log()
            self._log.close()
            assert '"refused":' not in said, "a line of the log has a field that its event does not declare"


def until(condition: Callable[[], bool], log: Callable[[], str] = str, seconds: float = 30) -> None:
    """Wait until something is so; a failure shows the end of a log."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s; the log ends with\n{log()[-4000:]}")
        time.sleep(0.1)
