"""Every provider of a KEK: round trips, refusals in our own words, bounded waits, and nothing told that is secret."""

from __future__ import annotations

import base64
import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.keyworlds import PROVIDERS, KeyWorld, key_world, old_vault_world

from tokenweir.adapters.kek import STATE, FileKek, Kek, KekContext, open_kek, remote
from tokenweir.adapters.keychanges import rewrap
from tokenweir.adapters.keysource import init_keyset, load_keyset
from tokenweir.config.loader import load_config_text
from tokenweir.core.keys import Keyset
from tokenweir.core.tokens.specs import DigitsSpec
from tokenweir.errors import FindingsError, KekUnreachableError, KeysError, WrappedRootError

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
CRM = KekContext("crm", 1)
ROOT = b"CANARY-root-of-exactly-32-bytes!"

pytestmark = pytest.mark.filterwarnings("default")  # Of clients that are not ours.


@pytest.fixture(params=PROVIDERS)
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    """Run each provider."""
    # Clients that are new to a loaded machine are slow; pauses are the same in kind.
    monkeypatch.setattr(remote, "_CALL_SECONDS", 60.0)
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.01)
    with key_world(request.param, tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a keyset file."""
    return tmp_path / "keys" / "keyset.json"


def sample(keyset: Keyset) -> str:
    """Return a token that a keyset makes."""
    tokenizer = keyset.tokenizer("crm", "customer", DigitsSpec(format="digits", length=10))
    return tokenizer.tokenize("0123456789")


def test_round_trip(world: KeyWorld) -> None:
    """A root that was wrapped is opened again by another client, for its context."""
    wrapped = world.kek().wrap(ROOT, CRM)

    assert ROOT not in wrapped
    assert world.kek().unwrap(wrapped, CRM).reveal() == ROOT


@pytest.mark.parametrize("context", [KekContext("crm", 2), KekContext("ads", 1), STATE])
def test_a_root_opens_for_its_place_only(world: KeyWorld, context: KekContext) -> None:
    """Key domain and epoch are authenticated with the root."""
    wrapped = world.kek().wrap(ROOT, CRM)

    with pytest.raises(WrappedRootError):
        world.kek().unwrap(wrapped, context)


def test_every_byte_counts(world: KeyWorld) -> None:
    """A wrapped root of which any byte was changed does not open; nor does a part of it, nor anything else."""
    kek = world.kek()
    wrapped = kek.wrap(ROOT, CRM)
    # Each costs a question; a seventh of them meets header, nonce, ciphertext and tag.
    # Vault's begin with "vault:v1:", where it takes the version 0 for 1.
    for place in {*range(9 if world.service.provider == "vault" else 0, len(wrapped), 7), len(wrapped) - 1}:
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(KeysError) as caught:
            kek.unwrap(bytes(changed), CRM)
        assert not isinstance(caught.value, KekUnreachableError), place
    for other in (b"", wrapped[:-1], wrapped[:40], bytes(64)):
        with pytest.raises(KeysError):
            kek.unwrap(other, CRM)


def test_tokens_are_the_same_after_a_restart(world: KeyWorld, path: Path) -> None:
    """A keyset that was made opens again, with the same tokens; a new key domain is added beside."""
    init_keyset(path, world.kek(), ["crm"], NOW)
    first = sample(load_keyset(path, world.kek()))

    init_keyset(path, world.kek(), ["ads", "crm"], NOW)

    again = load_keyset(path, world.kek())
    assert sample(again) == first
    assert again.domains == ("ads", "crm")


def test_the_file_names_provider_and_key_and_holds_no_root(world: KeyWorld, path: Path) -> None:
    """``keyset.json`` says which KEK it needs."""
    init_keyset(path, world.kek(), ["crm"], NOW)

    content = json.loads(path.read_text("utf-8"))
    kek = world.kek()
    assert content["kek"] == {"provider": world.service.provider, "id": kek.id}
    root = kek.unwrap(base64.b64decode(content["roots"][0]["wrapped"]), CRM).reveal()
    for form in (root.hex(), base64.b64encode(root).decode(), base64.urlsafe_b64encode(root).decode()):
        assert form not in path.read_text("utf-8")


def test_a_keyset_moves_between_keys(world: KeyWorld, path: Path) -> None:
    """From a file to a provider, to another key there, and to that key's newest version: the tokens stay."""
    file = path.with_name("kek.key")
    init_keyset(path, file, ["crm"], NOW)
    first = sample(load_keyset(path, file))
    before: Path | Kek = file
    for after in (world.kek(), world.kek(world.other), world.kek(world.other)):
        wrapped = path.read_bytes()
        rewrap(path, before, after, NOW)
        assert path.read_bytes() != wrapped
        assert sample(load_keyset(path, after)) == first
        before = after
    with pytest.raises(KeysError):
        load_keyset(path, file)
    providers = [kek["provider"] for kek in json.loads(path.read_text("utf-8"))["former_keks"]]
    assert providers == ["file", world.service.provider]


def test_a_move_that_fails_changes_nothing(world: KeyWorld, path: Path) -> None:
    """While the new key's provider is silent or says no, the keyset stays under the old one."""
    file = path.with_name("kek.key")
    init_keyset(path, file, ["crm"], NOW)
    before = path.read_bytes()
    for fault in ("denied", "unavailable"):
        world.service.fault = fault
        with pytest.raises(KeysError):
            rewrap(path, file, world.kek(), NOW)
        assert path.read_bytes() == before


def test_swapped_roots_are_refused(world: KeyWorld, path: Path) -> None:
    """Whoever can write the file cannot give one key domain the root of another."""
    init_keyset(path, world.kek(), ["ads", "crm"], NOW)
    content = json.loads(path.read_text("utf-8"))
    ads, crm = content["roots"]
    ads["wrapped"], crm["wrapped"] = crm["wrapped"], ads["wrapped"]
    path.write_text(json.dumps(content), "utf-8")

    with pytest.raises(KeysError, match="does not open"):
        load_keyset(path, world.kek())


def test_another_key_is_refused(world: KeyWorld, path: Path) -> None:
    """A key of another name, another key under the same name, and another provider open nothing."""
    init_keyset(path, world.kek(), ["crm"], NOW)

    with pytest.raises(KeysError, match=r"is not the KEK|does not open under"):
        load_keyset(path, world.kek(world.other))
    with pytest.raises(KeysError, match="is wrapped by a KEK of provider"):
        load_keyset(path, path.with_name("kek.key"))
    world.replace()
    with pytest.raises(KeysError, match="does not open under"):
        load_keyset(path, world.kek())


def test_a_destroyed_key_is_told(world: KeyWorld, path: Path) -> None:
    """A KEK that its owner has disabled or destroyed opens nothing, and the message says so."""
    init_keyset(path, world.kek(), ["crm"], NOW)
    world.destroy()

    with pytest.raises(KeysError, match="disabled, to be deleted, destroyed") as caught:
        load_keyset(path, world.kek())
    assert not isinstance(caught.value, KekUnreachableError)


@pytest.mark.parametrize(
    ("fault", "words", "unreachable"),
    [
        ("denied", "may not be used", False),
        ("gone", "disabled, to be deleted, destroyed", False),
        ("throttled", "asked too often", True),
        ("unavailable", "does not answer usefully", True),
        ("slow", "does not answer usefully", True),
        ("drip", "does not answer usefully", True),
        ("cut", "does not answer usefully", True),
        ("garbage", "does not answer usefully", True),
    ],
)
def test_faults_end_in_time_in_our_own_words(
    world: KeyWorld,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fault: str,
    words: str,
    unreachable: bool,
) -> None:
    """Nothing opens, nothing is written, and neither what the provider said nor a secret is told anywhere."""
    caplog.set_level(logging.DEBUG, "tokenweir")
    kek = world.kek()
    wrapped = kek.wrap(ROOT, CRM)
    world.service.fault = fault
    if fault in {"slow", "drip"}:
        monkeypatch.setattr(remote, "_CALL_SECONDS", 0.6)
        monkeypatch.setattr(remote, "_PATIENCE_SECONDS", 0.5)
    begun = time.monotonic()

    with pytest.raises(KeysError, match=words) as unwrapping:
        kek.unwrap(wrapped, CRM)
    with pytest.raises(KeysError, match=words) as wrapping:
        kek.wrap(ROOT, CRM)
    with pytest.raises(KeysError, match=words):
        init_keyset(path, kek, ["crm"], NOW)

    assert time.monotonic() - begun < 30  # Slow and dripping ones would take a minute each.
    assert not path.exists()
    for caught in (unwrapping, wrapping):
        assert isinstance(caught.value, KekUnreachableError) is unreachable
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        for secret in ("CANARY", ROOT.hex(), base64.b64encode(ROOT).decode(), world.secret):
            assert secret not in str(caught.value)
            assert secret not in caplog.text


@pytest.mark.parametrize("fault", ["throttled", "unavailable", "cut"])
def test_what_passes_is_tried_again(world: KeyWorld, fault: str) -> None:
    """Two refusals that may pass cost two more questions, and no error."""
    kek = world.kek()
    wrapped = kek.wrap(ROOT, CRM)
    world.service.fault, world.service.passing, world.service.requests = fault, 2, 0

    assert kek.unwrap(wrapped, CRM).reveal() == ROOT
    assert world.service.requests >= 3


@pytest.mark.parametrize("fault", ["denied", "gone"])
def test_a_plain_no_is_not_asked_again(world: KeyWorld, fault: str) -> None:
    """Whoever says no is not asked four times; Azure's client asks for the public key too."""
    kek = world.kek()
    wrapped = kek.wrap(ROOT, CRM)
    world.service.fault, world.service.requests = fault, 0

    with pytest.raises(KeysError):
        kek.unwrap(wrapped, CRM)
    assert world.service.requests <= 2


def test_retries_are_bounded(world: KeyWorld) -> None:
    """Four questions, then it is an error; Azure's client asks two for each."""
    kek = world.kek()
    wrapped = kek.wrap(ROOT, CRM)
    world.service.fault, world.service.requests = "throttled", 0

    with pytest.raises(KekUnreachableError):
        kek.unwrap(wrapped, CRM)
    assert 4 <= world.service.requests <= 8


def test_without_credentials(world: KeyWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever has no credentials is told so; that says nothing about the key."""
    wrapped = world.kek().wrap(ROOT, CRM)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential")
    (tmp_path / "token").unlink(missing_ok=True)

    with pytest.raises(KekUnreachableError, match="no valid credentials"):
        world.kek().unwrap(wrapped, CRM)


def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra to install is named."""
    sections = {
        "aws": ("boto3", "key: alias/x"),
        "gcp": ("google.cloud.kms_v1", "key: projects/p/locations/l/keyRings/r/cryptoKeys/k"),
        "azure": ("azure.keyvault.keys.crypto", "{vault_url: 'https://x.vault.azure.net', key: k}"),
    }
    for provider, (module, text) in sections.items():
        for loaded in (f"tokenweir.adapters.kek.{provider}", module):
            monkeypatch.delitem(sys.modules, loaded, raising=False)
        monkeypatch.setitem(sys.modules, module, None)
        body = text if text.startswith("{") else "{" + text + "}"
        section = load_config_text(f"version: 1\nkeys: {{kek: {{{provider}: {body}}}}}", "c.yaml", {}).keys.kek
        with pytest.raises(KeysError, match=rf"pip install 'tokenweir\[{provider}\]'"):
            open_kek(section)


def test_an_old_vault_that_binds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ignores associated data makes no root open for another place."""
    with old_vault_world(tmp_path, monkeypatch) as world:
        wrapped = world.kek().wrap(ROOT, CRM)
        assert world.kek().unwrap(wrapped, CRM).reveal() == ROOT
        with pytest.raises(WrappedRootError):
            world.kek().unwrap(wrapped, KekContext("crm", 2))


def test_older_versions_of_a_key_open(world: KeyWorld) -> None:
    """A key that its provider has rotated opens what its earlier versions wrapped."""
    wrapped = world.kek().wrap(ROOT, CRM)
    add = getattr(world.service, "add", None)
    if add is None:
        pytest.skip("AWS KMS shows no versions, and moto cannot rotate")
    add(next(iter(world.service.keys)))  # type: ignore[attr-defined] # All but AWS have keys.

    again = world.kek().wrap(ROOT, CRM)
    assert world.kek().unwrap(wrapped, CRM).reveal() == ROOT
    assert world.kek().unwrap(again, CRM).reveal() == ROOT


def test_contexts_are_distinct() -> None:
    """No two contexts have the same associated data or digest; the file's are those of earlier versions."""
    contexts = [STATE, KekContext("a", 1), KekContext("a", 11), KekContext("a1", 1), KekContext("a", 2)]
    assert len({each.data() for each in contexts}) == len({each.digest() for each in contexts}) == len(contexts)
    assert KekContext("crm", 1).data() == b"\x00\x00\x00\x11tokenweir-keyset1\x00\x00\x00\x03crm\x00\x00\x00\x011"


def test_the_file_provider_keeps_the_interface(tmp_path: Path) -> None:
    """The KEK in a file is one as the others are."""
    kek: Kek = FileKek(tmp_path / "kek.key")
    assert kek.make(None)
    assert not kek.make(tmp_path / "keyset.json")
    wrapped = kek.wrap(ROOT, CRM)
    assert kek.unwrap(wrapped, CRM).reveal() == ROOT
    with pytest.raises(WrappedRootError):
        kek.unwrap(wrapped, STATE)
    with pytest.raises(WrappedRootError):
        kek.unwrap(b"short", CRM)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{file: a, aws: {key: alias/x}}", "not both `file` and `aws`"),
        ("{aws: {key: alias/x}, vault: {address: 'https://v:8200', key: k}}", "not both `aws` and `vault`"),
        ("{aws: {}}", "missing"),
        ("{gcp: {key: projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1}}", "'key' must match"),
        ("{azure: {vault_url: 'http://x.vault.azure.net', key: k}}", "vault_url"),
        ("{vault: {address: 'https://user:secret@v:8200', key: k}}", "address"),
        ("{vault: {address: 'http://vault:8200', key: k}}", "address"),
        ("{vault: {address: 'http://127.0.0.1.example.com:8200', key: k}}", "address"),
        ("{vault: {address: 'https://v:8200', key: k, token: hvs.CANARY}}", "token"),
        ("{kms: {key: k}}", "kms"),
    ],
)
def test_configuration_names_exactly_one_provider(text: str, words: str) -> None:
    """What the model refuses, without repeating a value."""
    with pytest.raises(FindingsError) as caught:
        load_config_text(f"version: 1\nkeys: {{kek: {text}}}", "c.yaml", {})
    assert words in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_variables_reach_the_providers() -> None:
    """``TOKENWEIR__KEYS__KEK__…`` gives every key of a provider, and takes the place of the default file."""
    environ = {
        "TOKENWEIR__KEYS__KEK__VAULT__ADDRESS": "https://vault:8200",
        "TOKENWEIR__KEYS__KEK__VAULT__KEY": "tokenweir",
    }
    section = load_config_text("version: 1", "c.yaml", environ).keys.kek
    assert section.file is None
    assert section.vault is not None
    assert section.vault.key == "tokenweir"
    assert section.vault.mount == "transit"
