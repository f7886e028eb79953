"""A running gateway whose KEK is at a provider: silence is borne for a while, a no stops it, a yes starts it again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.keyservers import TOKEN
from tests.support.keyworlds import KeyWorld, key_world
from tests.support.rig import Broker, SchemaRegistry
from tests.support.worlds import RunningGateway, World, until

pytestmark = pytest.mark.integration

_PATIENCE_SECONDS = 90  # Each question is a process of its own, which takes its time on a loaded machine.


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    """Run a Vault."""
    with key_world("vault", tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def world(provider: KeyWorld, kafka: Broker, registry: SchemaRegistry, tmp_path: Path) -> World:
    """Make a world whose keyset is wrapped by that Vault."""
    directory = tmp_path / "world"
    directory.mkdir()
    world = World(directory, f"kek-{uuid.uuid4().hex[:8]}", kafka.bootstrap, registry.url)
    for file in (directory / "keys").iterdir():
        file.unlink()
    lines = "".join(f"      {name}: '{value}'\n" for name, value in provider.section["vault"].items())
    with world.config.open("a") as configuration:
        configuration.write(f"keys:\n  kek_recheck_seconds: 1\n  kek_grace_seconds: 3600\n  kek:\n    vault:\n{lines}")
    for verb in (("keys", "init"), ("doctor", "--fix")):
        done = world.cli(*verb)
        assert done.returncode == 0, done.stderr
    return world


def sent(world: World, gateway: RunningGateway, count: int) -> set[bytes]:
    """Send an event of customer 7, and return the keys of all that left; ``count`` is how many that must be."""
    world.send(7, partition=0)
    until(lambda: len(world.read("raw.crm")) == count, gateway.log, _PATIENCE_SECONDS)
    return {record.key for record in world.read("raw.crm")}


def test_silence_is_borne_and_a_no_stops(world: World, provider: KeyWorld) -> None:
    """With the same tokens before, while the provider is silent, and after it had said no; no secret is ever told."""
    world.allow(7, "email_marketing")
    gateway = world.start()
    try:
        until(gateway.ready, gateway.log, _PATIENCE_SECONDS)
        first = sent(world, gateway, 1)
        provider.service.fault = "unavailable"
        until(lambda: "[-]keys" in gateway.get("/readyz?verbose")[1], gateway.log, _PATIENCE_SECONDS)
        assert sent(world, gateway, 2) == first
        assert gateway.metric("tokenweir_kek_unconfirmed_seconds") > 1
        provider.service.fault = None
        until(gateway.ready, gateway.log, _PATIENCE_SECONDS)
        assert gateway.events("kek_recovered")

        provider.service.fault = "denied"

        until(lambda: gateway.process.poll() is not None, gateway.log, _PATIENCE_SECONDS)
        assert gateway.process.returncode == 3
        assert "error: Vault transit key transit/first may not be used" in gateway.log()
        assert gateway.events("kek_lost")[0]["reason"] == "refused"
        told = gateway.log()
    finally:
        gateway.stop()
    refused = world.refused_run()
    assert refused.returncode == 3
    assert "may not be used" in refused.stderr
    provider.service.fault = None
    again = world.start()
    try:
        until(again.ready, again.log, _PATIENCE_SECONDS)
        assert sent(world, again, 3) == first
        told += again.log()
    finally:
        again.stop()
    for text in (told, refused.stdout, refused.stderr):
        assert "CANARY" not in text
        assert TOKEN not in text
