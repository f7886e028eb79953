"""Treatments that differ from person to person, and families of browsers, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from tokenweir.cli import app

SCENARIO = Path(__file__).parents[1] / "scenarios" / "persons.yaml"
HOME = {"lat": 52.5, "lon": 13.4, "label": "Home canary"}
EVENTS: list[dict[str, Any]] = [
    {"customer_id": 7, "birthday": "1990-05-01", "place": HOME, "agent": "canary Firefox/120.0"},
    {"customer_id": 7, "birthday": "1990-05-11", "place": {**HOME, "lat": 52.4999}},
    {"customer_id": 8, "birthday": "1990-05-01", "place": HOME},
    {"birthday": "1990-05-01", "place": HOME, "agent": "canary"},
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory with the scenario's policy for lines of JSON, its schema, and events."""
    scenario = YAML(typ="safe", pure=True).load(SCENARIO)
    number = {"type": ["number", "null"]}
    text, whole = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
    place = {"type": "object", "properties": {"lat": number, "lon": number, "label": text}}
    names = {"customer_id": whole, "member": text, "birthday": text, "visited": whole, "left": text, "agent": text}
    schema = {"type": "object", "title": "Event", "properties": {**names, "place": place}}
    policy = scenario["policy"].replace("format: avro", "format: json, schema: event.json")
    (tmp_path / "policy.yaml").write_text(policy)
    (tmp_path / "event.json").write_text(json.dumps(schema))
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in EVENTS))
    return tmp_path


def run(*arguments: str) -> Result:
    """Run a command that must succeed."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_sanitize_moves_and_blurs_alike_under_one_keyset(files: Path, engine: str) -> None:
    """Two runs agree, nothing of the events leaves, and each person has days and points of their own."""
    run("keys", "init", "--keys", str(files / "keys"), "--policy", str(files / "policy.yaml"))

    def outputs() -> tuple[list[Any], str]:
        arguments = ("--policy", str(files / "policy.yaml"), "--stream", "raw", "--audience", "crm")
        more = ("--keys", str(files / "keys"), "--engine", engine, "-o", str(files / "out.jsonl"))
        run("sanitize", str(files / "events.jsonl"), *arguments, *more)
        text = (files / "out.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()], text

    records, text = outputs()
    assert records == outputs()[0]
    assert "canary" not in text
    assert "1990-05-01" not in text
    first, second, other, nobody = records
    assert first["place"] == second["place"] != other["place"]
    assert first["birthday"] != other["birthday"]
    assert first["agent"] == "Firefox"
    assert nobody == {"agent": "Other"}


def test_plan_and_explain_say_what_happens(files: Path) -> None:
    """Both show the treatment as the policy writes it; what is withheld from nobody's records is said."""
    policy = ("--policy", str(files / "policy.yaml"))
    shown = run("plan", *policy).stdout
    for treatment in ("generalize shift_days: 365", "generalize noise: laplace, metres: 500", "user_agent: family"):
        assert treatment in shown
    said = run("explain", "raw", "birthday", *policy).stdout
    assert "generalize shift_days: 365, always" in said
    assert "withheld where the record is about nobody" in said
    assert "withheld where the record is about nobody" not in run("explain", "raw", "agent", *policy).stdout


def test_the_derived_schema_names_the_treatment(files: Path) -> None:
    """A consumer reads in the schema that a date was moved, and keeps the type."""
    policy = ("--policy", str(files / "policy.yaml"))
    derived = json.loads(run("schema", "derive", "raw", *policy, "--audience", "crm").stdout)
    birthday = derived["properties"]["birthday"]
    assert birthday["x-tokenweir"] == {"class": "birth", "treatment": "generalize"}
    assert {branch["type"] for branch in birthday["anyOf"]} == {"null", "string"}
