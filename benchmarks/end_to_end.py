"""B5: end to end, exactly once, on a real broker: the gateway with one and two workers, and a mirror that only copies.

Broker, registry and gateway share the machine, so the rates are low and the ratios are what counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from tests.support.rig import KafkaBroker, Registry

from benchmarks import workload

_EVENTS: Final = 60_000
_SUBJECTS: Final = 20_000
_PARTITIONS: Final = 8
_SOURCE: Final = "bench.interactions"
_OUTPUT: Final = "bench.interactions.crm"
_CONSENT: Final = "consent.decisions"
_DAY_MS: Final = 86_400_000
_LIMIT_SECONDS: Final = 300


def run() -> dict[str, object]:
    """Return events per second of the gateway and of the mirror, and their ratio."""
    with tempfile.TemporaryDirectory() as directory, _rig(Path(directory)) as (broker, registry):
        schema_id = _register(registry.url)
        _prepare(broker, schema_id)
        copy = _copy(broker.bootstrap)
        found: dict[str, object] = {"events": _EVENTS, "mirror_events_per_second": round(copy)}
        for workers in (1, 2):
            rate = _gateway(Path(directory), broker.bootstrap, registry.url, workers)
            found[f"gateway_{workers}_workers_events_per_second"] = round(rate)
            found[f"gateway_{workers}_workers_share_of_mirror"] = round(rate / copy, 3)
        return found


@contextlib.contextmanager
def _rig(directory: Path) -> Iterator[tuple[KafkaBroker, Registry]]:
    broker, registry = KafkaBroker(directory / "kafka"), Registry(directory / "registry")
    try:
        broker.start()
        registry.start()
        yield broker, registry
    finally:
        registry.stop()
        broker.stop()


def _register(url: str) -> int:
    body = json.dumps({"schema": workload.schema_text()}).encode()
    request = urllib.request.Request(  # noqa: S310 - a registry that was just started here
        f"{url}/subjects/{_SOURCE}-value/versions",
        body,
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        return int(json.load(answer)["id"])


def _prepare(broker: KafkaBroker, schema_id: int) -> None:
    broker.create_topic(_SOURCE, _PARTITIONS)
    for topic in (_OUTPUT, f"{_SOURCE}.dead-letters", "bench.copy"):
        broker.create_topic(topic, _PARTITIONS, {"retention.ms": str(_DAY_MS)})
    broker.create_topic(_CONSENT, 4, {"cleanup.policy": "compact"})
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "linger.ms": 20, "partitioner": "murmur2_random", "acks": "all"}
    )
    state = {"version": 1, "decided_at": "2020-01-01T00:00:00Z", "decisions": {"email_marketing": "allow"}}
    for subject in range(_SUBJECTS):
        producer.produce(_CONSENT, json.dumps(state).encode(), f"customer:{subject:010d}".encode())
        producer.poll(0)
    frame = b"\x00" + schema_id.to_bytes(4, "big")
    for number, event in enumerate(workload.events(_EVENTS, _SUBJECTS, time.time_ns() // 1_000_000)):
        producer.produce(_SOURCE, frame + event, partition=number % _PARTITIONS)
        producer.poll(0)
    producer.flush()


def _copy(bootstrap: str) -> float:
    """Copy every event in transactions of the gateway's size; the least that any such program does."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench.copy",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": "bench.copy", "linger.ms": 2, "retry.backoff.ms": 5}
    )
    producer.init_transactions()
    consumer.subscribe([_SOURCE])
    copied = 0
    started = 0.0
    while copied < _EVENTS:
        messages = [message for message in consumer.consume(2_000, 0.1) if message.error() is None]
        if not messages:
            continue
        started = started or time.monotonic()
        producer.begin_transaction()
        for message in messages:
            producer.produce("bench.copy", message.value())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        copied += len(messages)
    elapsed = time.monotonic() - started
    consumer.close()
    return copied / elapsed


def _gateway(directory: Path, bootstrap: str, registry_url: str, workers: int) -> float:
    home = directory / f"gateway-{workers}"
    home.mkdir()
    prefix = f"bench{workers}"
    (home / "policy.yaml").write_text(workload.POLICY)
    (home / "tokenweir.yaml").write_text(
        f"version: 1\nkafka: {{bootstrap_servers: '{bootstrap}'}}\nregistry: {{url: '{registry_url}'}}\n"
        f"gateway: {{group_prefix: {prefix}, workers: {workers}}}\nadmin: {{port: 0}}\nlogging: {{level: error}}\n"
    )
    command = [sys.executable, "-m", "tokenweir"]
    config = ["--config", str(home / "tokenweir.yaml")]
    subprocess.run([*command, "keys", "init", *config], check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen([*command, "run", *config])
    try:
        return _measure(bootstrap, f"{prefix}.interactions", process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _measure(bootstrap: str, group: str, process: subprocess.Popen[bytes]) -> float:
    """Return the rate between the first commit that was seen and the last."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    places = [TopicPartition(_SOURCE, number) for number in range(_PARTITIONS)]
    futures = admin.list_offsets({place: OffsetSpec.latest() for place in places})  # type: ignore[no-untyped-call]  # Untyped there.
    end = sum(future.result().offset for future in futures.values())
    deadline = time.monotonic() + _LIMIT_SECONDS
    first: tuple[float, int] | None = None
    while time.monotonic() < deadline and process.poll() is None:
        answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])[group].result()
        done = sum(max(place.offset, 0) for place in answer.topic_partitions)
        if done and first is None:
            first = (time.monotonic(), done)
        if done >= end and first is not None:
            return float(end - first[1]) / (time.monotonic() - first[0])
        time.sleep(0.1)
    raise RuntimeError(f"the gateway did not finish within {_LIMIT_SECONDS} s (exit {process.poll()}, {os.getpid()})")
