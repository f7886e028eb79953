"""``tokenweir demo``: the story as it must come out, and commands that work as they are shown."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastavro
import pytest
from typer.testing import CliRunner

from tokenweir.app import demodata
from tokenweir.app.demo import Played, Stage, Step, play
from tokenweir.cli import app
from tokenweir.config import load_config
from tokenweir.core.outcome import Fate

RUNNER = CliRunner()
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def played() -> Played:
    """Play the story once."""
    return play(Stage(), NOW_MS)


def _event(played: Played, number: int) -> Step:
    return next(step for step in played.steps if step.event is not None and step.event.number == number)


def test_the_story_has_its_fates(played: Played) -> None:
    """Allowed, denied, unknown, partly allowed, broken, withdrawn: each record has the fate that it must have."""
    fates = {
        step.event.number: (step.fates["crm"], step.fates["ads"]) for step in played.steps if step.event is not None
    }

    assert fates == {
        1: ("sanitized", "sanitized"),
        2: ("withheld", "withheld"),
        3: ("withheld", "withheld"),
        4: ("sanitized", "withheld"),
        5: ("rejected", "rejected"),
        6: ("sanitized", "sanitized"),
        7: ("withheld", "withheld"),
        8: ("sanitized", "withheld"),
        9: ("withheld", "sanitized"),
        10: ("withheld", "withheld"),
    }
    assert played.counts["crm"] == {Fate.SANITIZED: 4, Fate.WITHHELD: 5, Fate.REJECTED: 1}
    assert all(counts.total() == 10 for counts in played.counts.values())


def test_the_withdrawal_stands_between_two_events(played: Played) -> None:
    """The same person's event left before the withdrawal and does not after it."""
    words = [step.what for step in played.steps]
    withdrawal = words.index("withdraws everything")
    before = [step for step in played.steps[:withdrawal] if step.who == "Ada" and step.event is not None]
    after = [step for step in played.steps[withdrawal:] if step.who == "Ada" and step.event is not None]

    assert before[-1].fates["crm"] == "sanitized"
    assert after[0].fates["crm"] == "withheld"
    assert after[0].why == "everything denied"


def test_every_field_is_explained(played: Played) -> None:
    """Before, after and why of the first event: class, treatment, purpose and decision for both audiences."""
    fields = {field.path: field for field in _event(played, 1).fields}

    email = fields["email"]
    assert (email.class_name, email.before) == ("contact.email", "ada@shop.example")
    assert email.audiences["crm"].after.endswith("@shop.example")
    assert email.audiences["crm"].after != email.before
    assert email.audiences["crm"].why == "tokenize email · email_marketing allowed"
    assert email.audiences["ads"].after == "-"
    assert email.audiences["ads"].why == "never leaves: ads never gets contact.**"
    assert fields["location.latitude"].audiences["crm"].after == "47.376887"
    assert fields["location.latitude"].audiences["ads"].after != "47.376887"
    assert fields["items[*].price"].audiences["ads"].after == "130, 10"
    assert fields["note"].audiences["crm"].why == "never leaves: drop"
    assert fields["customer_id"].audiences["crm"].after != fields["customer_id"].audiences["ads"].after


def test_a_denied_purpose_withholds_a_field(played: Played) -> None:
    """Dan allows location offers and no e-mail: his position leaves, his address does not, and both say why."""
    fields = {field.path: field for field in _event(played, 4).fields}

    assert fields["location.latitude"].audiences["crm"].why == "keep · location_offers allowed"
    assert fields["email"].audiences["crm"].after == "-"
    assert fields["email"].audiences["crm"].why == "withheld · email_marketing denied"


def test_the_demo_prints_the_whole_loop() -> None:
    """Without a terminal the demo is plain text of at most 100 columns, and shows every part."""
    result = RUNNER.invoke(app, ["demo"])

    assert result.exit_code == 0, result.output
    for words in (
        "What happens",
        "Field by field",
        "What became of the records",
        "What to try next",
        "subject_invalid",
    ):
        assert words in result.stdout
    assert "\x1b" not in result.stdout
    tables = result.stdout.partition("What to try next")[0]
    assert max(map(len, tables.splitlines())) <= 100
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())


@pytest.mark.parametrize("columns", ["80", "160"])
def test_the_demo_fits_other_widths(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow screens get a row for each audience, wide ones before and after side by side."""
    monkeypatch.setenv("COLUMNS", columns)

    result = RUNNER.invoke(app, ["demo"])

    tables = result.stdout.partition("What to try next")[0]
    assert max(map(len, tables.splitlines())) <= int(columns)
    assert ("why: treatment" in tables) is (columns == "160")


def test_the_demo_through_kafka() -> None:
    """The embedded broker carries every record, gives the committed ones back, and is not praised for more."""
    result = RUNNER.invoke(app, ["demo", "--kafka"])

    assert result.exit_code == 0, result.output
    assert "customer.interactions.crm: 4 records read back and decoded" in result.stdout
    assert "customer.interactions.ads: 3 records read back and decoded" in result.stdout
    assert "customer.interactions.dead-letters: 2 records read back and decoded" in result.stdout
    assert "proves nothing" in result.stdout


def test_written_files_are_not_replaced(tmp_path: Path) -> None:
    """A second ``--write`` into the same directory refuses, so that nobody loses an edited policy."""
    assert RUNNER.invoke(app, ["demo", "--write", str(tmp_path)]).exit_code == 0
    (tmp_path / "policy.yaml").write_text("mine")

    result = RUNNER.invoke(app, ["demo", "--write", str(tmp_path)])

    assert result.exit_code == 1
    assert (tmp_path / "policy.yaml").read_text() == "mine"


def test_every_command_that_is_shown_works(tmp_path: Path) -> None:
    """The commands under the demo and under ``--write`` run as they stand, in a directory of the user's own."""
    program = [sys.executable, "-m", "tokenweir"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKENWEIR")}

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    shown = run([*program, "demo"])
    commands = [line.strip() for line in shown.stdout.partition("What to try next")[2].splitlines()]
    commands = [line for line in commands if line and not line.startswith("#")]
    assert len(commands) == 7
    results = {command: run(shlex.split(command)) for command in commands}

    for command, result in results.items():
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    by_verb: dict[str, Any] = {
        command.partition("tokenweir ")[2].split()[0]: result for command, result in results.items()
    }
    assert by_verb["lint"].stderr.startswith("no findings")
    assert "tokenize email if email_marketing" in by_verb["plan"].stdout
    assert '"customer"' in by_verb["sanitize"].stdout
    written = tmp_path / "tokenweir-demo" / "out" / "events.crm.avro"
    with written.open("rb") as source:
        assert len(list(fastavro.reader(source))) == 2
    again = run([*program, "demo", "--write", "other"])
    assert "other/events.avro" in again.stdout
    assert "lint -c other/tokenweir.yaml" in again.stderr


def test_the_written_gateway_is_ready_for_a_broker(tmp_path: Path) -> None:
    """The second configuration has the same policy and keys, and a registry with ids, so that ``run`` can use it."""
    demodata.write(tmp_path, NOW_MS, bytes(16))
    first, second = (load_config(tmp_path / name, {}) for name in (demodata.CONFIG, demodata.GATEWAY))

    assert (first.policy, first.keys) == (second.policy, second.keys)
    assert second.registry.url == "http://localhost:8081/apis/ccompat/v7"
    moved = load_config(tmp_path / demodata.GATEWAY, {"TOKENWEIR__KAFKA__BOOTSTRAP_SERVERS": "kafka:1"})
    assert moved.kafka.bootstrap_servers == "kafka:1"


def test_written_events_are_those_of_the_story(tmp_path: Path) -> None:
    """The container holds the ten records, and the lines are those of them that looked at a page."""
    demodata.write(tmp_path, NOW_MS, bytes(16))

    with (tmp_path / "events.avro").open("rb") as source:
        records: list[Any] = list(fastavro.reader(source))
    assert [record["event_id"] for record in records] == [f"e-{number:04}" for number in range(1, 11)]
    assert len((tmp_path / "web.jsonl").read_text().splitlines()) == 8
    assert len((tmp_path / "consent.jsonl").read_text().splitlines()) == 5
