"""Every token format through a policy: what ``sanitize`` writes with either engine, and what ``explain`` shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.goldentokens import ADAPTER, golden_tokens
from tests.support.native import native_module
from typer.testing import CliRunner

from tokenweir.app.samples import sample_value
from tokenweir.cli import app
from tokenweir.core.tokens import build
from tokenweir.errors import InvalidValueError

GOLDEN = [(f"f{index}", parameters, value) for index, (parameters, value, _) in enumerate(golden_tokens())]

#: A value that no format takes but opaque and name, which take anything, has this in it.
CANARY = "\u2603canary-7f3a"


def policy() -> str:
    """Return a policy with one field for every pinned entry."""
    document = {
        "version": 1,
        "purposes": {"work": {"title": "Work", "basis": "contract", "assessment": "A-1", "retention_days": 30}},
        "subjects": {"customer": {"class": "id.customer", "form": {"digits": 10}}},
        "classes": {
            "id.customer": {"do": {"tokenize": "customer"}},
            **{f"class.{name}": {"do": {"tokenize": name}} for name, _, _ in GOLDEN},
        },
        "tokens": {
            "customer": {"format": "digits", "length": 10},
            **{name: parameters for name, parameters, _ in GOLDEN},
        },
        "audiences": {
            "team": {
                "title": "Team",
                "purposes": ["work"],
                "recipients": [{"id": "a", "name": "A", "role": "internal"}],
            }
        },
        "streams": {
            "lines": {
                "source": {"topic": "lines", "format": "json", "schema": "schema.json"},
                "subjects": [{"type": "customer", "path": "customer_id"}],
                "fields": {"customer_id": "id.customer", **{name: f"class.{name}" for name, _, _ in GOLDEN}},
                "outputs": [{"audience": "team"}],
            }
        },
    }
    return json.dumps(document)


@pytest.fixture(name="directory", scope="module")
def _directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("formats")
    (directory / "policy.yaml").write_text(policy(), "utf-8")
    names = ["customer_id", *(name for name, _, _ in GOLDEN)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    (directory / "schema.json").write_text(json.dumps(schema), "utf-8")
    fitting = {"customer_id": "0000012345", **{name: value for name, _, value in GOLDEN}}
    foreign = {"customer_id": "0000012345", **{name: CANARY for name, _, _ in GOLDEN}}
    (directory / "in.jsonl").write_text(f"{json.dumps(fitting)}\n{json.dumps(foreign)}\n", "utf-8")
    arguments = ["keys", "init", "--keys", str(directory / "keys"), "--policy", str(directory / "policy.yaml")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return directory


def sanitized(directory: Path, engine: str) -> tuple[list[dict[str, Any]], str]:
    """Return the records that an engine writes, and everything that was said."""
    arguments = [
        "sanitize",
        str(directory / "in.jsonl"),
        "--policy",
        str(directory / "policy.yaml"),
        "--stream",
        "lines",
    ]
    output = directory / f"{engine}.jsonl"
    arguments += ["--keys", str(directory / "keys"), "--engine", engine, "-o", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    text = output.read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()], text + result.output


def test_sanitize_makes_the_same_tokens_with_both_engines(directory: Path) -> None:
    """A value that fits becomes a token, another is withheld, and neither value is seen anywhere."""
    native_module()
    reference, said = sanitized(directory, "reference")

    native, also_said = sanitized(directory, "native")

    assert native == reference
    fitting, foreign = reference
    assert set(fitting) == {"customer_id", *(name for name, _, _ in GOLDEN)}
    for name, parameters, value in GOLDEN:
        if parameters["format"] != "permutation":
            assert fitting[name] != value
        takes_anything = parameters["format"] in {"opaque", "name"}
        assert (foreign.get(name) is not None) is takes_anything, name
    assert "canary" not in said + also_said


def test_explain_shows_a_sample_token_of_every_entry(directory: Path) -> None:
    """Each field has its domain, a made-up value that fits, and a token of it."""
    arguments = ["explain", "lines", "--policy", str(directory / "policy.yaml"), "--format", "json"]

    result = CliRunner().invoke(app, [*arguments, "--schema", str(directory / "schema.json")])

    assert result.exit_code == 0, result.output
    notes = {note["path"]: note["tokens"] for note in json.loads(result.stdout)["fields"]}
    for name, parameters, _ in GOLDEN:
        (token,) = notes[name]
        spec = ADAPTER.validate_python(parameters)
        assert token["format"] == parameters["format"]
        assert token["sample_value"] == sample_value(spec)
        assert token["sample_token"]


@pytest.mark.parametrize("parameters", [parameters for _, parameters, _ in GOLDEN], ids=str)
def test_samples_fit_their_entries(parameters: dict[str, Any]) -> None:
    """The made-up value of an entry is a value of it."""
    spec = ADAPTER.validate_python(parameters)

    build(spec).prepare(sample_value(spec))


@pytest.mark.parametrize("parameters", [parameters for _, parameters, _ in GOLDEN], ids=str)
def test_no_format_takes_what_it_does_not_know(parameters: dict[str, Any]) -> None:
    """The error for a foreign value has nothing of it."""
    if parameters["format"] in {"opaque", "name"}:
        return
    with pytest.raises(InvalidValueError) as caught:
        build(ADAPTER.validate_python(parameters)).prepare(CANARY)

    assert "canary" not in str(caught.value)
