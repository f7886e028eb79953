"""``tokenweir lint``: what it finds, in which form, and when it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenweir.app import demodata
from tokenweir.app.renderings import as_github, as_json, as_sarif
from tokenweir.cli import app
from tokenweir.config import load_config
from tokenweir.errors import Finding, FindingsError
from tokenweir.runtime.gateway import Gateway

RUNNER = CliRunner()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the demo's files in the working directory."""
    demodata.write(tmp_path, 1_700_000_000_000, bytes(16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lint(*arguments: str) -> Result:
    """Run the verb."""
    return RUNNER.invoke(app, ["lint", *arguments])


def change(path: Path, old: str, new: str) -> None:
    """Change a file at one place."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_clean_files_pass(directory: Path) -> None:
    """The demo has nothing to find; what was looked at is said on standard error, standard output stays empty."""
    assert (directory / "tokenweir.yaml").exists()
    result = lint()

    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "no findings" in result.stderr
    assert "stream 'web' with 1 schema" in result.stderr


def test_errors_fail_and_are_shown_all_at_once(directory: Path) -> None:
    """Every error has its own line with place and rule, and the exit code is 1."""
    change(directory / "policy.yaml", "do: {tokenize: customer}}", "do: {tokenize: custmer}}")
    change(directory / "policy.yaml", "purposes: [ad_measurement]", "purposes: [ad_mesurement]")

    result = lint()

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(re.match(r"policy\.yaml:\d+:\d+: unknown-token: .*did you mean 'customer'\?", line) for line in lines)
    assert any(re.match(r"policy\.yaml:\d+:\d+: unknown-purpose: ", line) for line in lines)


def test_warnings_do_not_fail(directory: Path) -> None:
    """A token entry that nothing uses is worth a line and no failure."""
    change(directory / "policy.yaml", "tokens:  ", "tokens:\n  spare: {format: uuid}\n  #")

    result = lint()

    assert result.exit_code == 0
    assert "warning: unused" in result.stdout


def test_a_field_without_a_class_is_found(directory: Path) -> None:
    """A new field of a schema that nobody classified is the contributor's first finding."""
    change(directory / demodata.SCHEMA, ', "confluent:tags": ["text.free"]', "")

    result = lint()

    assert result.exit_code == 1
    assert "unclassified-field: 'note' has no class" in result.stdout


def test_a_missing_schema_is_a_finding_beside_others(directory: Path) -> None:
    """A stream whose schema is not there does not hide what is wrong with another stream."""
    (directory / demodata.SCHEMA).unlink()
    change(directory / demodata.WEB_SCHEMA, '"email": {"type": "string"}', '"mail": {"type": "string"}')

    result = lint()

    assert result.exit_code == 1
    assert "schemas: " in result.stdout
    assert "unclassified-field: 'mail' has no class" in result.stdout


def test_policy_alone_says_what_was_not_checked(directory: Path) -> None:
    """Without a configuration the schemas of the registry are not looked at, and that is said."""
    result = lint("--policy", "policy.yaml")

    assert (directory / "policy.yaml").exists()
    assert result.exit_code == 0
    assert "not checked: stream 'interactions', for lack of its schema" in result.stderr
    assert "; 1 not checked" in result.stderr
    [said] = json.loads(lint("--policy", "policy.yaml", "--format", "json").stdout)["not_checked"]
    assert said.startswith("stream 'interactions'")
    assert json.loads(lint("--format", "json").stdout)["not_checked"] == []


def test_schema_files_stand_in_for_the_registry(directory: Path) -> None:
    """``--schema STREAM=FILE`` is checked offline; a file without a stream needs a policy with one stream only."""
    named = lint("--policy", "policy.yaml", "--schema", f"interactions={directory / demodata.SCHEMA}")
    unnamed = lint("--policy", "policy.yaml", "--schema", str(directory / demodata.SCHEMA))
    unknown = lint("--policy", "policy.yaml", "--schema", f"nope={directory / demodata.SCHEMA}")

    assert named.exit_code == 0
    assert "not checked" not in named.stderr
    assert unnamed.exit_code == unknown.exit_code == 2


def test_a_broken_configuration_is_found(directory: Path) -> None:
    """Unknown keys, unknown properties of librdkafka and secrets are findings of the configuration."""
    change(directory / "tokenweir.yaml", "version: 1", "version: 1\nkafak: {}")

    result = lint()

    assert result.exit_code == 1
    assert "tokenweir.yaml:" in result.stdout
    assert "did you mean 'kafka'?" in result.stdout


def test_unknown_kafka_properties_are_found(directory: Path) -> None:
    """A property that librdkafka does not know is found with a suggestion."""
    change(directory / "tokenweir.yaml", "version: 1", 'version: 1\nkafka: {properties: {"fetch.max.byte": 1}}')

    assert "kafka-property: 'fetch.max.byte'" in lint().stdout


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('dead_letters: {topic: "{source}"}', "'customer.interactions' is the source of the stream 'interactions'"),
        ('dead_letters: {topic: "{source}.crm"}', "'web.clicks.crm' is an output of the stream 'web'"),
        ("dead_letters: {topic: consent.decisions}", "'consent.decisions' is the consent topic"),
        ("consent: {topic: web.clicks}", "'web.clicks' is the source of the stream 'web'"),
        ("consent: {topic: web.clicks.ads}", "'web.clicks.ads' is an output of the stream 'web'"),
    ],
)
def test_a_topic_for_two_uses_is_an_error(directory: Path, section: str, said: str) -> None:
    """Dead letters in a source would make dead letters for ever; whatever opens a gateway refuses it too."""
    change(directory / "tokenweir.yaml", "version: 1", f"version: 1\n{section}")

    result = lint()

    assert result.exit_code == 1
    assert re.search(rf"tokenweir\.yaml:3:\d+: topic-clash: {re.escape(said)}", result.stdout)
    for verb in ("run", "doctor", "preview"):
        refused = RUNNER.invoke(app, [verb])
        assert refused.exit_code == 1
        assert said in refused.stderr
    with pytest.raises(FindingsError, match="topic-clash"):
        Gateway.open(load_config(directory / "tokenweir.yaml", {}))


def test_streams_may_share_a_dead_letter_topic(directory: Path) -> None:
    """One topic for all dead letters is no clash."""
    change(directory / "tokenweir.yaml", "version: 1", "version: 1\ndead_letters: {topic: all.dead-letters}")
    assert lint().exit_code == 0


def test_preview_refuses_framed_records_without_a_registry(directory: Path) -> None:
    """Files have no schema ids, so every record would look as if its schema were unknown."""
    assert (directory / "tokenweir.yaml").exists()
    result = RUNNER.invoke(app, ["preview", "--stream", "interactions"])
    assert result.exit_code == 3
    assert "a directory has no schema ids" in result.stderr


def test_an_event_time_of_any_text_is_worth_a_warning(directory: Path) -> None:
    """A text without a format may hold a time; one that the schema calls something else cannot."""
    change(
        directory / demodata.WEB_SCHEMA, '"at": {"type": "string", "format": "date-time"}', '"at": {"type": "string"}'
    )
    warned = lint()
    change(directory / demodata.WEB_SCHEMA, '"at": {"type": "string"}', '"at": {"type": "string", "format": "uri"}')
    refused = lint()

    assert (warned.exit_code, refused.exit_code) == (0, 1)
    assert "warning: event-time-text: 'at'" in warned.stdout
    assert "event-time-type" in refused.stdout


def test_neither_configuration_nor_policy_is_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing named and no tokenweir.yaml there is nothing to lint."""
    monkeypatch.chdir(tmp_path)

    assert lint().exit_code == 2
    assert lint("--policy", "nope.yaml").exit_code == 1


def test_forms_for_programs(directory: Path) -> None:
    """The three other forms are parsable, and paths in them are relative to the working directory."""
    change(directory / "policy.yaml", "do: {tokenize: customer}}", "do: {tokenize: custmer}}")

    document = json.loads(lint("--format", "json").stdout)
    sarif = json.loads(lint("--format", "sarif").stdout)
    github = lint("--format", "github").stdout

    assert document["errors"] == len([each for each in document["findings"] if each["severity"] == "error"]) > 0
    assert document["findings"][0]["file"] == "policy.yaml"
    result = sarif["runs"][0]["results"][0]
    location = result["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "policy.yaml"
    assert location["region"]["startLine"] == document["findings"][0]["line"]
    assert sarif["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert github.startswith("::error file=policy.yaml,title=")


def test_github_form_escapes_what_would_end_a_command() -> None:
    """Line ends, colons and commas cannot begin another workflow command or property."""
    finding = Finding("a,b:c.yaml", 3, 4, "rule", "50 %\n::error::x", "do, this", "warning")

    assert as_github([finding]) == (
        "::warning file=a%2Cb%3Ac.yaml,title=rule,line=3,col=4::50 %25%0A::error::x (do, this)"
    )


def test_findings_without_a_place() -> None:
    """A finding whose line is not known has no region and no line."""
    finding = Finding("schema (id 3)", 0, 0, "schema", "message")

    assert as_github([finding]) == "::error file=schema (id 3),title=schema::message"
    assert "region" not in json.loads(as_sarif([finding]))["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert json.loads(as_json([finding]))["findings"][0]["line"] == 0
