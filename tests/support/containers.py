"""The same real parts as containers, for machines with Docker and without Java.

testcontainers has no class for the image of the Apache project, so this is one.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testcontainers.core.container import DockerContainer
from tests.support.artifacts import pinned_version
from tests.support.processes import DidNotStartError, free_port
from tests.support.rig import REGISTRY_API, SINGLE_NODE, broker_answers, create_topic, registry_answers

_DATA = "/tmp/kafka-data"  # noqa: S108 - a path inside the container.


def docker_answers() -> bool:
    """Tell whether a Docker daemon answers on this machine."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, check=False, timeout=30).returncode == 0


def image_environment(properties: Mapping[str, str]) -> dict[str, str]:
    """Return broker properties as the apache/kafka image takes them: ``KAFKA_NODE_ID`` for ``node.id``."""
    return {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in properties.items()}


class ContainerBroker:
    """A single-node broker in a container; the interface of :class:`tests.support.rig.Broker`."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        port = free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        properties = {
            **SINGLE_NODE,
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": "1@localhost:9093",
            "log.dirs": _DATA,
            **(settings or {}),
        }
        self._container = DockerContainer(f"apache/kafka:{pinned_version('kafka')}").with_bind_ports(9092, port)
        for name, value in image_environment(properties).items():
            self._container.with_env(name, value)
        self._created = False

    @property
    def log_directory(self) -> Path:
        """A copy of the topic segments as they are now."""
        copy = Path(tempfile.mkdtemp(prefix="tokenweir-segments-"))
        stream, _ = self._wrapped().get_archive(_DATA)
        with tempfile.TemporaryFile() as archive:
            archive.writelines(stream)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(copy, filter="data")
        return copy / Path(_DATA).name

    def start(self) -> None:
        """Create the container, or start it again with the same data and address, and wait until it answers."""
        if self._created:
            self._wrapped().start()
        else:
            self._container.start()
            self._created = True
        _wait(lambda: broker_answers(self.bootstrap), "the broker's container")

    def kill(self) -> None:
        """End the broker with SIGKILL; the container and its data stay until the test run ends."""
        if self._created and self._wrapped().status != "exited":
            self._wrapped().kill()

    def stop(self) -> None:
        """End the broker and remove the container."""
        self._container.stop()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until its partitions have a leader."""
        create_topic(self.bootstrap, name, partitions, config)

    def _wrapped(self) -> Any:  # noqa: ANN401 - the docker library ships no types.
        container = self._container.get_wrapped_container()
        container.reload()
        return container


class ContainerRegistry:
    """An Apicurio registry in a container; the interface of :class:`tests.support.rig.SchemaRegistry`."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{REGISTRY_API}"
        image = f"apicurio/apicurio-registry-mem:{pinned_version('apicurio')}"
        self._container = DockerContainer(image).with_bind_ports(8080, port)

    def start(self) -> None:
        """Start the container and wait until the registry answers."""
        self._container.start()
        _wait(lambda: registry_answers(self.url), "the registry's container")

    def stop(self) -> None:
        """Remove the container."""
        self._container.stop()


def _wait(answers: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + 120
    while not answers():
        if time.monotonic() > deadline:
            raise DidNotStartError(f"{name} does not answer")
        time.sleep(0.2)
