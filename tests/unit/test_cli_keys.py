"""``tokenweir keys``: making and showing the keyset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenweir.adapters.keysource import load_keyset
from tokenweir.app import demodata
from tokenweir.cli import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the demo's files in the working directory."""
    demodata.write(tmp_path, 1_700_000_000_000, bytes(16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*arguments: str) -> Result:
    """Run the verb."""
    return RUNNER.invoke(app, ["keys", *arguments])


def test_init_makes_what_the_configuration_names(directory: Path) -> None:
    """The KEK, the keyset and a root for each key domain are made, and can be opened; the KEK is for its owner only."""
    result = keys("init")

    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert load_keyset(directory / "keys/keyset.json", directory / "keys/kek.key").domains == ("ads", "crm")
    assert (directory / "keys/kek.key").stat().st_mode & 0o777 == 0o600


def test_init_again_changes_nothing(directory: Path) -> None:
    """A second run replaces no key."""
    keys("init")
    before = (directory / "keys/keyset.json").read_bytes()

    result = keys("init")

    assert result.exit_code == 0
    assert "nothing was missing" in result.stderr
    assert (directory / "keys/keyset.json").read_bytes() == before


def test_init_adds_the_roots_of_new_audiences(directory: Path) -> None:
    """A key domain that the policy got since gets its root; the others stay."""
    keys("init")
    path = directory / "policy.yaml"
    path.write_text(
        path.read_text().replace("title: Advertising partner", "title: A\n    key_domain: partner"), "utf-8"
    )

    assert "partner" in keys("init").stderr
    assert "crm" in keys("list").stdout


def test_a_directory_can_be_named(directory: Path) -> None:
    """``--keys DIR`` is DIR/keyset.json and DIR/kek.key."""
    assert keys("init", "--keys", "mine", "--policy", "policy.yaml").exit_code == 0
    assert sorted(path.name for path in (directory / "mine").iterdir()) == ["kek.key", "keyset.json"]


def test_list_shows_no_secret(directory: Path) -> None:
    """Text and JSON show domain, epoch, status and date, and nothing of what is wrapped."""
    keys("init")
    wrapped = json.loads((directory / "keys/keyset.json").read_text())["roots"][0]["wrapped"]

    text, document = keys("list"), json.loads(keys("list", "--format", "json").stdout)

    assert [row["domain"] for row in document["keys"]] == ["ads", "crm"]
    assert document["keys"][0].keys() == {"domain", "epoch", "status", "created_at", "changed_at"}
    assert wrapped not in text.output


def test_without_keys_list_refuses(directory: Path) -> None:
    """A keyset that is not there ends with 3; no configuration and no directory with 2."""
    assert keys("list").exit_code == 3
    (directory / "tokenweir.yaml").unlink()
    assert keys("list").exit_code == 2
    (directory / "policy.yaml").unlink()
    assert keys("init", "--keys", "other").exit_code == 2


def test_a_lost_kek_is_refused(directory: Path) -> None:
    """A keyset without its KEK is not given a new one: nothing would open."""
    keys("init")
    (directory / "keys/kek.key").unlink()

    result = keys("init")

    assert result.exit_code == 3
    assert "backup" in result.stderr
