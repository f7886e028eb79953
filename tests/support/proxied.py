"""A broker behind a proxy, and a world whose gateway reaches the broker through it, while the test's clients do not."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.support.artifacts import PartMissingError
from tests.support.processes import free_port
from tests.support.proxy import KafkaProxy
from tests.support.rig import KafkaBroker, SchemaRegistry
from tests.support.worlds import World

SEED: Final = int(os.environ.get("TOKENWEIR_SEED", "3"))

APPLIER: Final = "tokenweir.applier"
"""The client id of the applier's clients; a worker's is its transactional id."""


class ProxiedBroker:
    """A running broker and the proxy on the way to it."""

    def __init__(self, broker: KafkaBroker, proxy: KafkaProxy) -> None:
        self.broker, self.proxy = broker, proxy

    def world(
        self,
        directory: Path,
        registry: SchemaRegistry,
        *,
        workers: int = 1,
        properties: Mapping[str, int] | None = None,
    ) -> World:
        """Make a world with topics of its own.

        Args:
            directory: An empty directory.
            registry: The schema registry.
            workers: How many the gateway has.
            properties: Further librdkafka properties of the gateway.
        """
        world = World(directory, f"w{uuid.uuid4().hex[:8]}", self.broker.bootstrap, registry.url, workers)
        more = "".join(f"{name}: {value}, " for name, value in (properties or {}).items())
        text = world.config.read_text().replace("properties: {", f"properties: {{{more}")
        world.config.write_text(text)
        fixed = world.cli("doctor", "--fix", "--format", "json")
        assert fixed.returncode == 0, fixed.stdout
        world.config.write_text(text.replace(self.broker.bootstrap, self.proxy.address))
        return world


@contextmanager
def proxied_broker(directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[ProxiedBroker]:
    """Run a broker, with these properties, and a proxy in front; skip where a part is missing, but never in CI."""
    port = free_port()
    try:
        broker = KafkaBroker(directory, settings=settings, advertised_port=port)
    except PartMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have every part: {error}", pytrace=False)
        pytest.skip(str(error))
    broker.start()
    try:
        with KafkaProxy(broker.behind_proxy, port, SEED) as proxy:
            yield ProxiedBroker(broker, proxy)
    finally:
        broker.kill()
