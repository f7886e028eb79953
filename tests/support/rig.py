"""A real Kafka broker and a real schema registry on this machine, for the integration tests and the benchmarks.

``python -m tests.support.rig up`` starts both in the foreground and prints their addresses.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.support.artifacts import java, kafka_jars, registry_distribution
from tests.support.processes import DidNotStartError, Server, free_port

REGISTRY_API = "/apis/ccompat/v7"
"""Where Apicurio serves the API that Confluent's schema registry defined."""

SINGLE_NODE: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Members join at once, and a test may use a session that ends soon after a kill.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # The broker looks for expired transactions every second instead of every ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # A killed broker may register again once its session has run out, so a restart waits this long.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
}
"""What makes one broker a whole cluster; shared with the container."""

_JAVA_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


class Broker(Protocol):
    """A Kafka broker that a test can use, and crash if it is the test's own."""

    bootstrap: str

    @property
    def log_directory(self) -> Path:
        """Directory of the topic segments; a container's is copied out at each call."""

    def start(self) -> None:
        """Start it, again with the same data and address, and wait until it answers."""

    def kill(self) -> None:
        """End it at once, without a word to anyone (SIGKILL)."""

    def stop(self) -> None:
        """End it in order."""

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its partitions have a leader."""


class SchemaRegistry(Protocol):
    """A schema registry that a test can use; ``url`` is the root of the Confluent-compatible API."""

    url: str

    def start(self) -> None:
        """Start it and wait until it answers. Its content lives in memory."""

    def stop(self) -> None:
        """End it."""


class KafkaBroker:
    """A single-node KRaft broker, run from its jars and bound to 127.0.0.1."""

    def __init__(
        self,
        directory: Path,
        *,
        version: str | None = None,
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = _JAVA_OPTIONS,
        advertised_port: int | None = None,
    ) -> None:
        """Prepare a broker whose data, configuration and log lie in ``directory``; nothing is started yet.

        Args:
            directory: An empty directory that belongs to this broker.
            version: The Kafka version; the pinned one if None.
            settings: Broker properties in addition to, or instead of, :data:`SINGLE_NODE`.
            java_options: Options of the virtual machine.
            advertised_port: The port that a second listener, :attr:`behind_proxy`, tells its clients to use.

        Raises:
            PartMissingError: Java or the jars are missing.
        """
        self._classpath = f"{kafka_jars(version)}/*"
        self._java = [java(), *java_options, "-cp", self._classpath]
        self._directory = directory
        self._settings = dict(settings or {})
        self._properties = directory / "server.properties"
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self._advertised_port = advertised_port
        self.behind_proxy = f"127.0.0.1:{free_port()}"
        """Where a proxy on the advertised port finds the second listener."""
        self._server = Server([*self._java, "kafka.Kafka", str(self._properties)], directory, directory / "broker.log")

    @property
    def log_directory(self) -> Path:
        """Directory of the topic segments, ``{topic}-{partition}`` each."""
        return self._directory / "data"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether the broker's process is alive."""
        return self._server.running

    def start(self) -> None:
        """Start the broker, with the data that it has, and wait until it answers.

        Raises:
            DidNotStartError: The broker ended or did not answer in time.
        """
        if not self._properties.exists():
            self._format()
        self._server.start(lambda: broker_answers(self.bootstrap))

    def kill(self) -> None:
        """End the broker with SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        """End the broker in order."""
        self._server.stop()

    def suspend(self) -> None:
        """Freeze the broker (SIGSTOP)."""
        self._server.suspend()

    def resume(self) -> None:
        """Let a frozen broker go on (SIGCONT)."""
        self._server.resume()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its partitions have a leader."""
        create_topic(self.bootstrap, name, partitions, config)

    def _second_listener(self, controller: str) -> Mapping[str, str]:
        if self._advertised_port is None:
            return {}
        first = f"PLAINTEXT://{self.bootstrap}"
        return {
            "listeners": f"{first},PROXIED://{self.behind_proxy},CONTROLLER://{controller}",
            "advertised.listeners": f"{first},PROXIED://127.0.0.1:{self._advertised_port}",
            "listener.security.protocol.map": f"{SINGLE_NODE['listener.security.protocol.map']},PROXIED:PLAINTEXT",
        }

    def _format(self) -> None:
        """Write the configuration and give the data directory its cluster id."""
        controller = f"127.0.0.1:{free_port()}"
        settings = {
            **SINGLE_NODE,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.log_directory),
            **self._second_listener(controller),
            **self._settings,
        }
        self._directory.mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        tool = [*self._java, "kafka.tools.StorageTool"]
        arguments = ["format", "-t", "dG9rZW53ZWlyLXRlc3QtMQ", "-c", str(self._properties)]
        done = subprocess.run([*tool, *arguments], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            self._properties.unlink()
            raise DidNotStartError(f"the storage could not be formatted:\n{(done.stdout + done.stderr)[-2000:]}")


class Registry:
    """An Apicurio registry, run from its distribution, in memory, bound to 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        """Prepare a registry whose log lies in ``directory``; nothing is started yet.

        Raises:
            PartMissingError: Java or the distribution is missing.
        """
        distribution = registry_distribution()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{REGISTRY_API}"
        jar = next(distribution.glob("*-runner.jar"))
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}"]
        directory.mkdir(parents=True, exist_ok=True)
        self._server = Server([java(), *options, "-jar", str(jar)], distribution, directory / "registry.log")

    def start(self) -> None:
        """Start the registry, empty, and wait until it answers.

        Raises:
            DidNotStartError: The registry ended or did not answer in time.
        """
        self._server.start(lambda: registry_answers(self.url))

    def kill(self) -> None:
        """End the registry with SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        """End the registry; it has nothing to save."""
        self._server.kill()

    def suspend(self) -> None:
        """Freeze the registry (SIGSTOP): it accepts connections and never answers."""
        self._server.suspend()

    def resume(self) -> None:
        """Let a frozen registry go on (SIGCONT)."""
        self._server.resume()


def create_topic(bootstrap: str, name: str, partitions: int, config: Mapping[str, str] | None) -> None:
    """Create a topic with one replica and wait until its partitions have a leader."""
    admin = _admin(bootstrap)
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
    admin.create_topics([topic], operation_timeout=30, request_timeout=30)[name].result(40)
    for _ in range(300):
        described = admin.list_topics(name, timeout=10).topics[name]
        leaders = [partition.leader for partition in described.partitions.values()]
        if len(leaders) == partitions and min(leaders) >= 0:
            return
        threading.Event().wait(0.05)
    raise DidNotStartError(f"topic {name} has no leader")


def registry_answers(url: str) -> bool:
    """Tell whether a registry lists its subjects."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", f"{parts.path}/subjects")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def broker_answers(bootstrap: str) -> bool:
    """Tell whether a broker gives its metadata."""
    try:
        return bool(_admin(bootstrap).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def _admin(bootstrap: str) -> AdminClient:
    # Log level 0 leaves only emergencies: refused connections are expected while a broker starts.
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a broker and a registry until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.rig", description=main.__doc__)
    parser.add_argument("verb", choices=["up"])
    parser.add_argument("--kafka-version", default=None)
    parser.add_argument("--no-registry", action="store_true")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="tokenweir-rig-") as directory:
        broker = KafkaBroker(Path(directory, "kafka"), version=options.kafka_version)
        registry = None if options.no_registry else Registry(Path(directory, "registry"))
        try:
            broker.start()
            sys.stdout.write(f"TOKENWEIR__KAFKA__BOOTSTRAP_SERVERS={broker.bootstrap}\n")
            if registry is not None:
                registry.start()
                sys.stdout.write(f"TOKENWEIR__REGISTRY__URL={registry.url}\n")
            sys.stdout.flush()
            ended.wait()
        finally:
            if registry is not None:
                registry.stop()
            broker.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
