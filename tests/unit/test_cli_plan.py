"""``plan``, ``explain``, ``schema`` and ``config``: what a contributor is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from tokenweir.adapters.registry import DirectoryRegistry, Kind, Reference
from tokenweir.app import demodata
from tokenweir.app.fileschemas import consent_json_schema
from tokenweir.app.samples import sample_token, sample_value
from tokenweir.cli import app
from tokenweir.core import strictjson
from tokenweir.core.consent import read_state
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.tokens.specs import (
    AlphanumericSpec,
    DigitsSpec,
    EmailSpec,
    HexSpec,
    IntegerSpec,
    OpaqueSpec,
    PanSpec,
    PatternSpec,
    PhoneSpec,
    TokenSpec,
    UuidSpec,
)
from tokenweir.errors import DecodeError

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the demo's files in the working directory."""
    demodata.write(tmp_path, 1_700_000_000_000, bytes(16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run a verb."""
    return RUNNER.invoke(app, list(arguments))


def _fields(document: dict[str, Any], stream: int = 0) -> dict[str, dict[str, Any]]:
    return {field["path"]: field for field in document["streams"][stream]["schemas"][0]["fields"]}


def test_plan_as_json_has_every_field_and_audience() -> None:
    """The plan for programs says class, origin and treatment of every field, and when a record leaves."""
    document = json.loads(run("plan", "--format", "json").stdout)

    assert document["format_version"] == 1
    fields = _fields(document)
    assert fields["email"]["class_name"] == "contact.email"
    assert fields["email"]["class_from"] == "tag PII_EMAIL"
    assert fields["email"]["audiences"] == {
        "crm": "tokenize email if email_marketing",
        "ads": "never leaves: ads never gets contact.**",
    }
    assert fields["location.latitude"]["class_from"] == "location: tag location.exact"
    assert fields["page_url"]["audiences"]["crm"] == "generalize url: {path: 1, query: []}"
    assert fields["note"]["audiences"] == {"crm": "never leaves: drop", "ads": "never leaves: drop"}
    assert _fields(document, 1)["page"]["class_from"] == "fields page"
    crm, ads = document["streams"][0]["outputs"]
    assert crm["requires"] == "leaves only with consent for email_marketing or location_offers"
    assert (ads["topic"], ads["timestamp"], ads["key_domain"]) == ("customer.interactions.ads", "day", "ads")


def test_plan_as_text_is_aligned_in_a_pipe() -> None:
    """Each field is one line that ``grep`` finds whole; no rule, no colour."""
    result = run("plan", "--stream", "interactions")

    assert result.exit_code == 0
    [line] = [line for line in result.stdout.splitlines() if line.startswith("email ")]
    assert re.split(r" {2,}", line)[-2:] == [
        "tokenize email if email_marketing",
        "never leaves: ads never gets contact.**",
    ]
    assert "\x1b" not in result.stdout
    assert "web.clicks" not in result.stdout


def test_plan_shows_the_plan_and_then_fails(directory: Path) -> None:
    """A field without a class is in the table, and the finding follows on standard error."""
    path = directory / demodata.SCHEMA
    path.write_text(path.read_text().replace(', "confluent:tags": ["text.free"]', ""), "utf-8")

    result = run("plan")

    assert result.exit_code == 1
    assert "(none)" in result.stdout
    assert "unclassified-field" in result.stderr


def test_explain_says_why() -> None:
    """One field: class, origin, rules in order, purposes in words, derived schema, and a sample token."""
    text = run("explain", "interactions", "email").stdout

    assert "class contact.email (E-mail address), from tag PII_EMAIL" in text
    assert "1. tokenize email, when email_marketing passes" in text
    assert "2. otherwise withheld" in text
    assert "purpose email_marketing (Offers by e-mail): basis consent, leaves only with the person's allow" in text
    assert '"tokenweir": {"class": "contact.email", "treatment": "tokenize", "token": "email"}' in text
    assert "sample alice@shop.example -> " in text
    assert "customer_id" not in text


def test_explain_finds_containers_and_deep_places() -> None:
    """A path of a container explains what is in it; an element of an array has its own derived declaration."""
    document = json.loads(run("explain", "interactions", "location", "--format", "json").stdout)
    deep = json.loads(run("explain", "interactions", "items[*].price", "--format", "json").stdout)
    lines = json.loads(run("explain", "web", "email", "--format", "json").stdout)

    assert [field["path"] for field in document["fields"]] == ["location.latitude", "location.longitude"]
    derived = json.loads(deep["fields"][0]["audiences"][0]["derived"])
    assert derived["name"] == "price"
    assert "email" in json.loads(lines["fields"][0]["audiences"][0]["derived"])


def test_explain_suggests_fields() -> None:
    """An unknown field and an unknown stream are usage errors with what there is."""
    field, stream = run("explain", "interactions", "emial"), run("explain", "interaction")

    assert field.exit_code == stream.exit_code == 2
    assert "email" in field.stderr
    assert "interactions, web" in stream.stderr


@pytest.mark.parametrize(
    "spec",
    [
        DigitsSpec(format="digits", length="8..12"),
        IntegerSpec(format="integer", min=-5, max=10**7),
        AlphanumericSpec(format="alphanumeric", length=30, case="upper"),
        HexSpec(format="hex", length=40),
        PatternSpec(format="pattern", pattern=r"ORD-([0-9]{8})-([A-Z]{2})"),
        UuidSpec(format="uuid"),
        PanSpec(format="pan", keep_last=4),
        PhoneSpec(format="phone"),
        EmailSpec(format="email"),
        OpaqueSpec(format="opaque", reversible=True),
    ],
)
def test_every_format_has_a_sample(spec: TokenSpec) -> None:
    """The made-up value of each format is valid for it, and its token is another text."""
    assert sample_token("entry", spec) != sample_value(spec)


def test_derive_prints_one_schema_or_all() -> None:
    """With an audience it is the schema itself, without one an object by registry subject."""
    one = json.loads(run("schema", "derive", "interactions", "--audience", "ads").stdout)
    every = json.loads(run("schema", "derive", "interactions").stdout)

    assert one["namespace"] == "example.shop.ads"
    assert "email" not in {field["name"] for field in one["fields"]}
    assert every.keys() == {"customer.interactions.crm-value", "customer.interactions.ads-value"}
    assert every["customer.interactions.ads-value"] == one


def test_derive_writes_files_that_a_registry_directory_takes(directory: Path) -> None:
    """``-o DIR`` writes a file for each registry subject and says their names."""
    result = run("schema", "derive", "interactions", "-o", "derived")

    names = sorted(path.name for path in (directory / "derived").iterdir())
    assert names == ["customer.interactions.ads-value.avsc", "customer.interactions.crm-value.avsc"]
    assert sorted(result.stdout.split()) == [f"derived/{name}" for name in names]


def test_derive_for_an_unknown_audience_is_usage() -> None:
    """An audience that the stream does not serve is named with those that it does."""
    assert run("schema", "derive", "interactions", "-a", "nobody").exit_code == 2


def test_register_needs_a_registry_that_takes_schemas() -> None:
    """A directory is only read, so registering there fails and says so."""
    result = run("schema", "register")

    assert result.exit_code == 3
    assert "only read" in result.stderr


class _RecordingRegistry(DirectoryRegistry):
    """A directory for the sources, and a memory for what is registered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.levels: dict[str, str] = {}
        self.registered: list[tuple[str, Kind]] = []

    def set_compatibility(self, subject: str, level: str) -> None:
        """Remember the level."""
        self.levels[subject] = level

    def register(self, subject: str, text: str, kind: Kind, references: Sequence[Reference] = ()) -> int:
        """Remember the schema."""
        assert json.loads(text)
        assert not references
        self.registered.append((subject, kind))
        return len(self.registered)


def test_register_registers_outputs_and_dead_letters(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every derived schema goes to the subject of its topic at FULL_TRANSITIVE, and so do the dead letters."""
    registry = _RecordingRegistry(directory / "schemas")
    monkeypatch.setattr("tokenweir.app.workspace.open_registry", lambda _config: registry)

    result = run("schema", "register", "--format", "json")

    assert result.exit_code == 0, result.output
    # The stream of bare JSON has no registry subjects, only dead letters.
    assert registry.registered == [
        ("customer.interactions.crm-value", "AVRO"),
        ("customer.interactions.ads-value", "AVRO"),
        ("customer.interactions.dead-letters-value", "AVRO"),
        ("web.clicks.dead-letters-value", "AVRO"),
    ]
    assert set(registry.levels.values()) == {"FULL_TRANSITIVE"}
    rows = json.loads(result.stdout)["schemas"]
    assert [row["id"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize(("kind", "title"), [("config", "configuration"), ("policy", "policy"), ("consent", "consent")])
def test_config_schema_prints_json_schemas(kind: str, title: str) -> None:
    """Each kind of file has a draft-7 schema; ``--policy`` is the policy's."""
    schema = json.loads(run("config", "schema", kind).stdout)

    jsonschema.Draft7Validator.check_schema(schema)
    assert title in schema["title"]
    assert json.loads(run("config", "schema", "--policy").stdout)["title"] == "tokenweir policy"


_STATE = {"subject": "customer:1", "version": 1, "decided_at": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("line", "valid"),
    [
        ({**_STATE, "decisions": {"mail": "allow", "*": "deny", "mail@acme": "deny"}}, True),
        ({**_STATE, "decisions": {"mail": {"decision": "allow", "decided_at": "2020-01-01T00:00:00Z"}}}, True),
        ({**_STATE, "decisions": {"mail": {"decision": "allow", "expires_at": None, "notice": "n"}}}, True),
        ({**_STATE, "decisions": {}, "jurisdiction": "US-CA", "minor": True}, True),
        ({**_STATE, "decisions": {"*": "allow"}}, False),
        ({**_STATE, "decisions": {"mail@acme": "allow"}}, False),
        ({**_STATE, "decisions": {"mail": "yes"}}, False),
        ({**_STATE, "decisions": {"mail": {}}}, False),
        ({**_STATE, "decisions": {}, "extra": 1}, False),
        ({**_STATE, "version": 2, "decisions": {}}, False),
        ({"subject": "customer:1", "decisions": {}}, False),
    ],
)
def test_the_consent_schema_agrees_with_the_reader(line: dict[str, Any], *, valid: bool) -> None:
    """What an editor accepts, the reader accepts, and what it marks, the reader refuses."""
    errors = list(jsonschema.Draft7Validator(consent_json_schema()).iter_errors(line))
    value = strictjson.parse(json.dumps(line).encode(), numbers="python")
    assert isinstance(value, dict)
    value.pop("subject")
    try:
        read_state(value, 1_700_000_000_000)
        accepted = True
    except DecodeError:
        accepted = False

    assert accepted is valid
    assert (not errors) is valid


def test_the_demo_policy_follows_its_own_schema() -> None:
    """The generated JSON Schema accepts the policy that the loader accepts."""
    text = demodata.text(demodata.POLICY)
    schema = json.loads(run("config", "schema", "policy").stdout)

    assert load_policy(text, "policy.yaml").policy.version == 1
    assert not list(jsonschema.Draft7Validator(schema).iter_errors(YAML(typ="safe").load(text)))
