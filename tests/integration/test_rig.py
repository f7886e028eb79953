"""The rig itself: a broker that keeps what it acknowledged through a crash, and a registry that answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.support.artifacts import PartMissingError, java, pinned_version
from tests.support.processes import DidNotStartError, Server
from tests.support.rig import Broker, SchemaRegistry, registry_answers

pytestmark = pytest.mark.integration


def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    errors: list[object] = []
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert errors == [None]


def _read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "rig", "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [message.value() for message in consumer.consume(count, timeout=30)]
    finally:
        consumer.close()


def test_a_broker_keeps_its_data_and_address_through_kills(broker_factory: Callable[..., Broker]) -> None:
    """What was acknowledged before a SIGKILL is read after the start that follows, at the same address."""
    broker = broker_factory({"message.max.bytes": "2000000"})
    broker.start()
    broker.create_topic("kept", 1, {"retention.ms": "-1"})
    _produce(broker.bootstrap, "kept", b"before")
    address = broker.bootstrap

    broker.kill()
    broker.start()
    _produce(broker.bootstrap, "kept", b"after")

    assert broker.bootstrap == address
    assert _read(address, "kept", 2) == [b"before", b"after"]
    assert any(broker.log_directory.glob("kept-0/*.log"))


def test_the_shared_broker_refuses_unknown_topics(kafka: Broker) -> None:
    """Topics are not created by asking for them, as on a production cluster."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "rig", "log_level": 0})
    try:
        error = consumer.list_topics("never.created", timeout=10).topics["never.created"].error
    finally:
        consumer.close()

    assert error is not None


def test_the_registry_answers_on_its_compatible_api(registry: SchemaRegistry) -> None:
    """The address leads to the Confluent-compatible API."""
    assert registry.url.endswith("/apis/ccompat/v7")
    assert registry_answers(registry.url)


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    """A failed start raises, with what the process said."""
    server = Server(["/bin/sh", "-c", "echo no such setting; exit 3"], tmp_path, tmp_path / "log")

    with pytest.raises(DidNotStartError, match="no such setting"):
        server.start(lambda: False, timeout_seconds=10)
    assert not server.running


def test_a_server_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """When the process that started a server is killed, the server is killed as well."""
    script = (
        "import os, pathlib, signal, sys\n"
        "from tests.support.processes import Server\n"
        "directory = pathlib.Path(sys.argv[1])\n"
        "server = Server(['/bin/sleep', '600'], directory, directory / 'log')\n"
        "server.start(lambda: True)\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    stat = Path(f"/proc/{int(done.stdout)}/stat")

    for _ in range(100):
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        subprocess.run(["/bin/sleep", "0.1"], check=True)
    pytest.fail("the server is still running")


def test_a_machine_without_java_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of a skip names the missing part."""
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(PartMissingError, match="Java is not installed"):
        java()


def test_versions_are_pinned_in_the_pom() -> None:
    """Broker and registry versions are exact, never a range."""
    assert pinned_version("kafka") == "4.1.0"
    assert pinned_version("apicurio") == "2.6.13.Final"
