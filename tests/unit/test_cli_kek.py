"""The command line with a KEK at a provider: make, show and use keys; refuse with 3 and a plain sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest
from tests.support.keyworlds import KeyWorld, key_world
from typer.testing import CliRunner, Result

from tokenweir.adapters.kek import remote
from tokenweir.app import demodata
from tokenweir.cli import app
from tokenweir.config import load_config
from tokenweir.runtime.children import ChildSpec
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.supervisor import spawn

pytestmark = pytest.mark.filterwarnings("default")  # Of clients that are not ours.


@pytest.fixture(params=["aws", "gcp", "vault"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWorld]:
    """Give the demo's files in the working directory, with a KEK at a provider."""
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.01)
    directory = tmp_path / "demo"
    directory.mkdir()
    demodata.write(directory, time.time_ns() // 1_000_000, bytes(16))
    monkeypatch.chdir(directory)
    with key_world(request.param, tmp_path, monkeypatch) as found:
        (directory / "tokenweir.yaml").write_text(
            found.configuration() + "policy: {file: policy.yaml}\n", encoding="utf-8"
        )
        yield found


def call(*arguments: str) -> Result:
    """Run a verb."""
    return CliRunner().invoke(app, arguments)


def named(world: KeyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the KEK in the environment instead of the configuration."""
    for provider, fields in world.section.items():
        for name, value in fields.items():
            monkeypatch.setenv(f"TOKENWEIR__KEYS__KEK__{provider.upper()}__{name.upper()}", value)


def sanitize(output: str, *arguments: str) -> Result:
    """Sanitize the demo's events for one audience."""
    given = ("events.avro", "--policy", "policy.yaml", "--consent", "consent.jsonl", "-s", "interactions", "-a", "crm")
    return call("sanitize", *given, "-o", output, *arguments)


def records(path: str) -> list[object]:
    """Return what a file holds."""
    with Path(path).open("rb") as file:
        return list(fastavro.reader(file))


def test_keys_are_made_and_shown(world: KeyWorld) -> None:
    """No KEK file is made; the list says where the KEK is."""
    made = call("keys", "init")

    assert made.exit_code == 0, made.output
    assert [path.name for path in Path("keys").iterdir()] == ["keyset.json"]
    listed = call("keys", "list", "--format", "json")
    document = json.loads(listed.stdout)
    assert document["kek"]["provider"] == world.service.provider
    assert [row["domain"] for row in document["keys"]] == ["ads", "crm"]
    assert "cannot be used" not in listed.stderr
    world.service.fault = "denied"
    assert "cannot be used" in call("keys", "list").stderr


def test_sanitize_gives_the_same_tokens_each_time(world: KeyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--keys DIR`` with the provider from the environment; without it the message says how to name it."""
    assert call("keys", "init").exit_code == 0
    refused = sanitize("none.avro", "--keys", "keys")
    assert refused.exit_code == 3
    assert f"TOKENWEIR__KEYS__KEK__{world.service.provider.upper()}" in refused.stderr
    named(world, monkeypatch)

    results = [sanitize(name, "--keys", "keys") for name in ("first.avro", "second.avro")]

    assert [result.exit_code for result in results] == [0, 0], results[0].output
    assert records("first.avro")
    assert records("first.avro") == records("second.avro")
    sanitize("ephemeral.avro")
    assert records("ephemeral.avro") != records("first.avro")


@pytest.mark.parametrize("fault", ["denied", "gone", "unavailable", "garbage"])
def test_faults_end_with_three(world: KeyWorld, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """One plain sentence, nothing written, nothing secret said, and not one event sanitized."""
    assert call("keys", "init").exit_code == 0
    named(world, monkeypatch)
    world.service.fault = fault

    results = [call("keys", "init"), call("keys", "init", "--keys", "other"), sanitize("none.avro", "--keys", "keys")]

    for result in results:
        assert result.exit_code == 3, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert "CANARY" not in result.stderr
        assert world.secret not in result.stderr
    assert not Path("other/keyset.json").exists()
    assert not Path("none.avro").exists()


def test_a_process_that_asks_ends_as_the_provider_said(world: KeyWorld, capfd: pytest.CaptureFixture[str]) -> None:
    """Within its limit of memory; a no stops the gateway, silence does not, and neither tells a secret."""
    assert call("keys", "init").exit_code == 0
    spec = ChildSpec(Gateway.open(load_config(Path("tokenweir.yaml").absolute(), {})), "keys")
    codes = {}
    for fault in (None, "denied", "gone", "unavailable"):
        world.service.fault = fault
        codes[fault] = spawn(spec).wait(120)

    assert codes == {
        None: ExitCode.DONE,
        "denied": ExitCode.REFUSED,
        "gone": ExitCode.REFUSED,
        "unavailable": ExitCode.UNSERVED,
    }
    said = "".join(capfd.readouterr())
    assert said.count("error: ") == 3
    assert "Traceback" not in said
    assert "CANARY" not in said
    assert world.secret not in said
