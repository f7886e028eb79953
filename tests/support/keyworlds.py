"""For each provider of a KEK: a server, credentials in the environment, and what a configuration says of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.support.keyservers import (
    AZURE_HOST,
    TOKEN,
    AwsService,
    AzureService,
    GcpService,
    KeyServer,
    KeyService,
    VaultService,
    service_account,
)

from tokenweir.adapters.kek import Kek, open_kek
from tokenweir.config.loader import load_config_text

PROVIDERS = ("aws", "gcp", "azure", "vault")
_RING = "projects/demo/locations/europe-west3/keyRings/tokenweir/cryptoKeys"


@dataclass(frozen=True, slots=True)
class KeyWorld:
    """A provider that runs.

    Attributes:
        service: The provider, whose faults can be chosen.
        section: What stands under ``keys.kek``.
        other: The same with another key, which exists.
        destroy: Destroy the first key.
        replace: Put another key in its place, under the same name.
        secret: What must never be told: the credential.
    """

    service: KeyService
    section: dict[str, Any]
    other: dict[str, Any]
    destroy: Callable[[], None]
    replace: Callable[[], None]
    secret: str

    def kek(self, section: dict[str, Any] | None = None) -> Kek:
        """Open the KEK as a configuration does."""
        return open_kek(load_config_text(self.configuration(section), "tokenweir.yaml", {}).keys.kek)

    def configuration(self, section: dict[str, Any] | None = None) -> str:
        """Return the configuration that names the KEK, as YAML (of which JSON is a part)."""
        found = section or self.section
        lines = "".join(f"      {name}: '{value}'\n" for each in found.values() for name, value in each.items())
        return f"version: 1\nkeys:\n  kek:\n    {next(iter(found))}:\n{lines}"


@contextmanager
def key_world(provider: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    """Run a provider."""
    makers = {"aws": _aws, "gcp": _gcp, "azure": _azure, "vault": _vault}
    with makers[provider](directory, monkeypatch) as world:
        yield world


@contextmanager
def _serving(service: KeyService, directory: Path, *hosts: str) -> Iterator[KeyServer]:
    server = KeyServer(service, directory, hosts or ("localhost",))
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _aws(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    host, moto_port = moto.get_host_and_port()
    try:
        with _serving(AwsService(moto_port), directory) as server:
            secret = "CANARYSECRETCANARYSECRETCANARYSECRETCANA"  # noqa: S105 - opens nothing
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
            monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"https://localhost:{server.port}")
            monkeypatch.setenv("AWS_CA_BUNDLE", str(server.ca_file))
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            region = "eu-central-1"
            owner = boto3.client("kms", region_name=region, endpoint_url=f"http://{host}:{moto_port}")
            keys = [owner.create_key()["KeyMetadata"]["Arn"] for _ in range(3)]
            alias = f"alias/tokenweir-{moto_port}-{keys[0][-8:]}"  # moto keeps what other tests have made.
            owner.create_alias(AliasName=alias, TargetKeyId=keys[0])
            yield KeyWorld(
                server.service,
                {"aws": {"key": alias, "region": region}},
                {"aws": {"key": keys[1]}},
                lambda: server.service.gone.add(alias),
                lambda: owner.update_alias(AliasName=alias, TargetKeyId=keys[2]),
                secret,
            )
    finally:
        moto.stop()


@contextmanager
def _gcp(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    service = GcpService()
    with _serving(service, directory) as server:
        endpoint = f"localhost:{server.port}"
        credentials = directory / "account.json"
        service_account(credentials, f"https://{endpoint}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
        first, second = service.add(f"{_RING}/first"), service.add(f"{_RING}/second")

        def replace() -> None:
            del service.keys[first]
            service.add(first)

        yield KeyWorld(
            service,
            {"gcp": {"key": first, "endpoint": endpoint}},
            {"gcp": {"key": second, "endpoint": endpoint}},
            lambda: service.gone.add(first),
            replace,
            credentials.read_text("utf-8")[200:260],
        )


@contextmanager
def _azure(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    service = AzureService()
    look_up = socket.getaddrinfo

    def local(host: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever is given
        return look_up("127.0.0.1" if host == AZURE_HOST else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    with _serving(service, directory, "localhost", AZURE_HOST) as server:
        service.port = server.port
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"https://localhost:{server.port}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "CANARYIDENTITY")
        first, second = service.add("first"), service.add("second")
        vault = f"https://{AZURE_HOST}:{server.port}"

        def replace() -> None:
            versions = dict(service.keys[first])
            del service.keys[first]
            service.add(first)
            # Another key of the same version, which cannot be in the world, is the hardest to tell.
            service.keys[first] = dict.fromkeys(versions, next(iter(service.keys[first].values())))

        yield KeyWorld(
            service,
            {"azure": {"vault_url": vault, "key": first}},
            {"azure": {"vault_url": vault, "key": second}},
            lambda: service.gone.add(first),
            replace,
            TOKEN,
        )


@contextmanager
def _vault(directory: Path, monkeypatch: pytest.MonkeyPatch, service: VaultService | None = None) -> Iterator[KeyWorld]:
    service = service or VaultService()
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    with _serving(service, directory) as server:
        token = directory / "token"
        token.write_text(TOKEN + "\n", "utf-8")
        first, second = service.add("first"), service.add("second")
        common = {
            "address": f"https://localhost:{server.port}",
            "token_file": str(token),
            "ca_file": str(server.ca_file),
        }

        def replace() -> None:
            del service.keys[first]
            service.add(first)

        yield KeyWorld(
            service,
            {"vault": {**common, "key": first}},
            {"vault": {**common, "key": second}},
            lambda: service.gone.add(first),
            replace,
            TOKEN,
        )


@contextmanager
def old_vault_world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    """Run a Vault that ignores associated data."""
    with _vault(directory, monkeypatch, VaultService(old=True)) as world:
        yield world
