"""The configuration: its file, the environment over it, secrets, and what is said when it is wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from pydantic import SecretStr

from tokenweir.config import (
    RULES,
    Config,
    config_from_environment,
    config_json_schema,
    load_config,
    load_config_text,
    normalised,
    override_names,
)
from tokenweir.core.librdkafka import OWNED, PROPERTIES, check_properties
from tokenweir.errors import FileFormatError, Finding, FindingsError
from tokenweir.yamlsource import RULES as YAML_RULES
from tokenweir.yamlsource import read_yaml

SHIPPED = Path(__file__).parents[2] / "deploy" / "config"

#: Stands for a password; no message, dump or repr may show it.
CANARY = "correct-horse-battery"


def findings(text: str, environ: dict[str, str] | None = None, file: str = "c.yaml") -> list[Finding]:
    """Return what is found in a configuration that must not load."""
    with pytest.raises(FindingsError) as caught:
        load_config_text(text, file, environ or {})
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    return caught.value.findings


def found(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the findings as ``line:column: rule``, or as ``VARIABLE: rule`` for the environment."""
    return [
        f"{each.line}:{each.column}: {each.rule}" if each.line else f"{each.file}: {each.rule}"
        for each in findings(text, environ)
    ]


CASES = [
    ("", ["1:1: missing-key"]),
    ("version: 2\n", ["1:10: wrong-value"]),
    ("version: true\n", ["1:10: wrong-value"]),
    ("- 1\n", ["1:1: wrong-type"]),
    ("version: 1\nkafka: x\n", ["2:8: wrong-type"]),
    ("version: 1\nkafak: {}\n", ["2:1: unknown-key"]),
    ("version: 1\nversion: 1\n", ["2:1: duplicate-key"]),
    ("version: 1\nstate: &s {directory: d}\n", ["2:8: anchor"]),
    ("version: 1\nkafka:\n\tbootstrap_servers: b\n", ["3:1: tab"]),
    ("version: 1\nkafka: {bootstrap_servers: ''}\n", ["2:28: out-of-range"]),
    ("version: 1\nkafka: {properties: {a: [1]}}\n", ["2:25: wrong-type"]),
    ("version: 1\nkafka: {properties: {a: }}\n", ["2:24: wrong-type"]),
    ("version: 1\nregistry: {url: 'ftp://x'}\n", ["2:17: wrong-value"]),
    ("version: 1\nregistry: {url: 'http://x', directory: d}\n", ["2:11: wrong-value"]),
    ("version: 1\nregistry: {url: 'http://u:p@x'}\n", ["2:11: wrong-value"]),
    ("version: 1\nregistry: {username: u}\n", ["2:11: wrong-value"]),
    ("version: 1\nregistry: {register: always}\n", ["2:22: wrong-value"]),
    ("version: 1\nregistry: {unknown_schema_seconds: -1}\n", ["2:36: out-of-range"]),
    ("version: 1\nregistry: {unknown_schema_seconds: soon}\n", ["2:36: wrong-type"]),
    ("version: 1\npolicy: {file: p.yaml, approvals: a.yaml}\n", ["2:24: unknown-key"]),
    ("version: 1\npolicy: {file: ''}\n", ["2:16: wrong-value"]),
    ("version: 1\npolicy: {file: 3}\n", ["2:16: wrong-value"]),
    ("version: 1\nkeys: {kek: {aws: arn}}\n", ["2:19: wrong-type"]),
    ("version: 1\nkeys: {kek: {kms: arn}}\n", ["2:14: unknown-key"]),
    ("version: 1\nconsent: {topic: a b}\n", ["2:18: wrong-value"]),
    ("version: 1\nconsent: {max_staleness_seconds: 0}\n", ["2:34: out-of-range"]),
    ("version: 1\ngateway: {workers: 0}\n", ["2:20: out-of-range"]),
    ("version: 1\ngateway: {workers: '2'}\n", ["2:20: wrong-type"]),
    ("version: 1\ngateway: {ordinal: 1.5}\n", ["2:20: wrong-type"]),
    ("version: 1\ngateway: {engine: natve, start: late}\n", ["2:19: wrong-value", "2:33: wrong-value"]),
    ("version: 1\ngateway: {commit: {interval: 3}}\n", ["2:20: unknown-key"]),
    ("version: 1\ngateway: {commit: {interval_ms: 60000}}\n", ["2:33: out-of-range"]),
    ("version: 1\ndead_letters: {topic: '{stream}.dead'}\n", ["2:23: wrong-value"]),
    ("version: 1\nadmin: {port: 65536}\n", ["2:15: out-of-range"]),
    ("version: 1\nlogging: {level: verbose}\n", ["2:18: wrong-value"]),
    ("version: 1\nstate: {directory: '${NOPE}'}\n", ["2:20: undefined-variable"]),
    ("version: 1\nstate: {directory: '${NO-PE}'}\n", ["2:20: variable-syntax"]),
    ("version: 1\nstate: {directory: 'a${'}\n", ["2:20: variable-syntax"]),
    ("version: 1\ngateway: {workers: '${WORD}'}\n", ["2:20: wrong-type"]),
    (f"version: 1\nkafka: {{properties: {{sasl.password: {CANARY}}}}}\n", ["2:37: secret-in-file"]),
    (f"version: 1\nkafka: {{properties: {{ssl.key.password: '${{A:{CANARY}}}'}}}}\n", ["2:40: secret-in-file"]),
    (f"version: 1\nkafka: {{properties: {{ssl.key.pem: 'x${{SECRET}}{CANARY}'}}}}\n", ["2:35: secret-in-file"]),
    ("version: 1\nkafka: {properties: {sasl.oauthbearer.client.secret: 12345}}\n", ["2:54: secret-in-file"]),
    (f"version: 1\nregistry: {{username: u, password: {CANARY}}}\n", ["2:35: secret-in-file"]),
    ("version: 1\nkafka: {properties: {sasl.password_file: /no/such/file}}\n", ["2:42: unreadable-file"]),
    ("version: 1\nkafka: {properties: {sasl.password_file: 3}}\n", ["2:42: wrong-type"]),
    ("version: 1\npurposes: {}\nclasses: {}\n", ["1:1: other-file"]),
    (
        "version: 1\nkafka: {properties: {sasl.password: '${SECRET}', sasl.password_file: f}}\n",
        ["2:50: secret-twice"],
    ),
    ("version: 1\nregistry: {username: u, password_file: /no/such/file}\n", ["2:40: unreadable-file"]),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=range(len(CASES)))
def test_each_fault_is_found_at_its_place(text: str, expected: list[str]) -> None:
    """Every fault has its line, column and rule."""
    assert found(text, {"WORD": "many", "SECRET": CANARY}) == expected


def test_all_faults_are_reported_at_once() -> None:
    """The file's syntax, its secrets and its model, and the environment, stand in one list."""
    text = f"version: 1\nkafka: {{properties: {{sasl.password: {CANARY}}}, x: 1}}\nadmin: {{port: -1}}\nadmin: 1\n"
    environ = {"TOKENWEIR__GATEWAY__WORKERS": "many", "TOKENWEIR__GATEWY__WORKERS": "1"}
    assert found(text, environ) == [
        "TOKENWEIR__GATEWAY__WORKERS: wrong-type",
        "TOKENWEIR__GATEWY__WORKERS: unknown-override",
        "2:37: secret-in-file",
        "2:61: unknown-key",
        "3:15: out-of-range",
        "4:1: duplicate-key",
    ]


def test_messages_say_what_to_do() -> None:
    """Suggestions come with unknown keys, variables and overrides."""
    text = "version: 1\ngatway: {}\nstate: {directory: '${DIR}'}\n"
    assert [str(each) for each in findings(text, {"TOKENWEIR__GATEWAY__WORKER": "1"})] == [
        "TOKENWEIR__GATEWAY__WORKER: unknown-override: names no key (did you mean 'TOKENWEIR__GATEWAY__WORKERS'?)",
        "c.yaml:2:1: unknown-key: 'gatway' (did you mean 'gateway'?)",
        "c.yaml:3:20: undefined-variable: the variable DIR is not set (set it, or give a default: ${DIR:default})",
    ]


def test_a_choice_is_not_repeated_in_a_message() -> None:
    """A value that came from a variable may be a secret in the wrong place."""
    assert "must be one of" in str(findings("version: 1\nlogging: {level: '${S}'}\n", {"S": CANARY})[0])


@pytest.mark.parametrize(
    ("value", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A:d}", {}, "d"),
        ("${A:d}", {"A": "x"}, "x"),
        ("${A:d}", {"A": ""}, ""),
        ("${A:}", {}, ""),
        ("${A:http://h:1/p}", {}, "http://h:1/p"),
        ("a${A}b${B:c}d", {"A": "1"}, "a1bcd"),
        ("${{A}}", {"A": "x"}, "${A}"),
        ("${{A:b}}-${A}", {"A": "x"}, "${A:b}-x"),
        ("${A}", {"A": "${B}", "B": "x"}, "${B}"),
        ("$A", {"A": "x"}, "$A"),
    ],
)
def test_variables_are_filled_in_once(value: str, environ: dict[str, str], expected: str) -> None:
    """Defaults, escapes, and no second round over what a variable holds."""
    text = f"version: 1\nkafka: {{properties: {{client.id: '{value}'}}}}\n"
    assert load_config_text(text, "c.yaml", environ).kafka.properties == {"client.id": expected}


def test_variables_take_the_type_of_their_key() -> None:
    """A number may come from a variable, quoted or not."""
    text = "version: 1\ngateway:\n  workers: ${W:4}\n  ordinal: '${O:}'\nconsent: {max_staleness_seconds: '${S}'}\n"
    config = load_config_text(text, "c.yaml", {"S": "2.5"})
    assert (config.gateway.workers, config.gateway.ordinal, config.consent.max_staleness_seconds) == (4, None, 2.5)


def test_the_environment_replaces_the_file() -> None:
    """An override wins, and what it replaces need not be usable; properties are replaced as a whole."""
    text = "version: 1\ngateway: {workers: '${NOPE}', engine: auto}\nkafka: {properties: {client.id: a, debug: b}}\n"
    environ = {
        "TOKENWEIR__GATEWAY__WORKERS": "3",
        "TOKENWEIR__GATEWAY__COMMIT__INTERVAL_MS": "50",
        "TOKENWEIR__KAFKA__BOOTSTRAP_SERVERS": "k:1",
        "TOKENWEIR__KAFKA__PROPERTIES": '{"linger.ms": 5, "sasl.password": "' + CANARY + '"}',
        "TOKENWEIR__REGISTRY__REGISTER": "never",
        "TOKENWEIR_OTHER": "ignored",
    }
    config = load_config_text(text, "c.yaml", environ)
    assert config.gateway.workers == 3
    assert config.gateway.commit.interval_ms == 50
    assert config.registry.register_ == "never"
    assert config.kafka.client_properties()["bootstrap.servers"] == "k:1"
    assert config.kafka.plain_properties() == {
        "linger.ms": 5,
        "sasl.password": CANARY,
    }


@pytest.mark.parametrize("value", ["", "x", "[]", '"a"', "{"])
def test_properties_from_the_environment_are_a_json_mapping(value: str) -> None:
    """Anything else is one finding that names the variable."""
    assert found("version: 1\n", {"TOKENWEIR__KAFKA__PROPERTIES": value}) == [
        "TOKENWEIR__KAFKA__PROPERTIES: wrong-value"
    ]


@pytest.mark.parametrize(
    ("section", "environ", "variable", "remedy"),
    [
        (
            "{directory: schemas}",
            {"URL": "http://r:1"},
            "URL",
            "'url' comes from TOKENWEIR__REGISTRY__URL, the rest of 'registry' from c.yaml:2:11",
        ),
        (
            "{url: 'http://r:1'}",
            {"DIRECTORY": "schemas"},
            "DIRECTORY",
            "'directory' comes from TOKENWEIR__REGISTRY__DIRECTORY, the rest of 'registry' from c.yaml:2:11",
        ),
        ("{ca_file: ca.pem}", {"URL": "http://me:word@r"}, "URL", "'url' comes from TOKENWEIR__REGISTRY__URL"),
        ("{}", {"PASSWORD": CANARY}, "PASSWORD", "'password' comes from TOKENWEIR__REGISTRY__PASSWORD"),
        ("", {"USERNAME": "me"}, "USERNAME", "'username' comes from TOKENWEIR__REGISTRY__USERNAME"),
    ],
)
def test_what_does_not_fit_together_names_the_variable(
    section: str, environ: dict[str, str], variable: str, remedy: str
) -> None:
    """Keys that are wrong together are not blamed on the file if one of them comes from a variable."""
    prefix = "TOKENWEIR__REGISTRY__"
    text = f"version: 1\nregistry: {section}\n"
    (finding,) = findings(text, {prefix + name: value for name, value in environ.items()})
    assert (finding.file, finding.line, finding.rule) == (prefix + variable, 0, "wrong-value")
    assert finding.remedy.startswith(remedy)


def test_what_does_not_fit_together_in_the_file_is_found_there() -> None:
    """A variable for another key of the section does not take the blame."""
    text = "version: 1\nregistry: {directory: schemas, url: 'http://r:1'}\n"
    assert found(text, {"TOKENWEIR__REGISTRY__REGISTER": "never"}) == ["2:11: wrong-value"]


def test_no_file_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment alone makes a configuration; its paths start at the working directory."""
    monkeypatch.chdir(tmp_path)
    config = config_from_environment({"TOKENWEIR__STATE__DIRECTORY": "st", "TOKENWEIR__REGISTRY__DIRECTORY": "sch"})
    assert config.state.directory == tmp_path / "st"
    assert config.policy.file == tmp_path / "policy.yaml"
    assert config.registry.url is None
    with pytest.raises(FindingsError, match="TOKENWEIR__ADMIN__PORT: wrong-type"):
        config_from_environment({"TOKENWEIR__ADMIN__PORT": "http"})


def test_every_key_has_an_override() -> None:
    """Each leaf of the model can be set by its variable."""
    names = override_names()
    assert len(names) == len(set(names.values()))
    assert names["TOKENWEIR__KEYS__KEK__FILE"] == ("keys", "kek", "file")
    assert names["TOKENWEIR__REGISTRY__REGISTER"] == ("registry", "register")


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults and given paths start at the configuration's directory, variables at the working directory."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "c.yaml").write_text("version: 1\nkeys: {directory: ../k}\nregistry: {ca_file: /abs/ca.pem}\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("etc/c.yaml"), {"TOKENWEIR__POLICY__FILE": "p.yaml"})
    assert config.keys.directory == tmp_path / "etc" / ".." / "k"
    assert config.keys.kek.file == tmp_path / "etc" / "keys" / "kek.key"
    assert config.state.directory == tmp_path / "etc" / "state"
    assert config.policy.file == tmp_path / "p.yaml"
    assert config.registry.ca_file == Path("/abs/ca.pem")


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    """One newline at the end does not count; the property has the name without the suffix."""
    (tmp_path / "pw").write_text(f"{CANARY} \n")
    (tmp_path / "key").write_text("line 1\nline 2\n\n")
    text = (
        "version: 1\nkafka: {properties: {sasl.password_file: pw, ssl.key.pem_file: key}}\n"
        "registry: {username: u, password_file: pw}\n"
    )
    config = load_config_text(text, str(tmp_path / "c.yaml"), {})
    assert config.kafka.plain_properties() == {
        "sasl.password": f"{CANARY} ",
        "ssl.key.pem": "line 1\nline 2\n",
    }
    assert config.registry.password == SecretStr(f"{CANARY} ")
    assert check_properties(config.kafka.plain_properties()) == []


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8"), (b"a" * 65537, "longer")]
)
def test_secret_files_that_hold_no_secret(tmp_path: Path, content: bytes, reason: str) -> None:
    """An empty password is never what is meant."""
    (tmp_path / "pw").write_bytes(content)
    text = "version: 1\nkafka: {properties: {sasl.password_file: pw}}\n"
    (finding,) = findings(text, file=str(tmp_path / "c.yaml"))
    assert (finding.rule, finding.line, finding.column) == ("unreadable-file", 2, 42)
    assert reason in finding.message


def test_secrets_are_never_shown() -> None:
    """Neither the text of a configuration nor its dump has a secret, and a spawned process still gets it."""
    text = "version: 1\nkafka: {properties: {sasl.password: '${S}'}}\nregistry: {username: u, password: '${S}'}\n"
    config = load_config_text(text, "c.yaml", {"S": CANARY})
    for shown in (repr(config), str(config), json.dumps(normalised(config)), repr(vars(config))):
        assert CANARY not in shown
    assert normalised(config)["kafka"]["properties"] == {"sasl.password": "**********"}
    assert CANARY not in repr(config._source.document)
    copy: Config = pickle.loads(pickle.dumps(config))  # noqa: S301 - It was pickled in this line.
    assert copy == config
    assert copy.kafka.plain_properties()["sasl.password"] == CANARY


def test_every_secret_of_librdkafka_is_known() -> None:
    """No property that holds a password or a private key can be written into the file."""
    words = ("password", "passphrase", "secret", "key.pem")
    names = [name for name in PROPERTIES if any(word in name for word in words) and name not in OWNED]
    assert len(names) >= 5
    for name in names:
        assert found(f"version: 1\nkafka: {{properties: {{{name}: {CANARY}}}}}\n") == [
            f"2:{24 + len(name)}: secret-in-file"
        ]
    assert [name for name in PROPERTIES if name.endswith("_file")] == []


def test_other_checks_find_the_place_of_a_key() -> None:
    """What only the program can check, such as the names of properties, is reported at its line."""
    config = load_config_text("version: 1\nkafka:\n  properties:\n    group.id: x\n", "c.yaml", {})
    (problem,) = check_properties(config.kafka.plain_properties())
    finding = config.finding(("kafka", "properties", problem.key), "property", "no")
    assert str(finding) == "c.yaml:4:5: property: no"
    overridden = config_from_environment({"TOKENWEIR__KAFKA__PROPERTIES": '{"group.id": "x"}'})
    assert (
        overridden.finding(("kafka", "properties", "group.id"), "property", "no").file == "TOKENWEIR__KAFKA__PROPERTIES"
    )


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Absent files and other encodings are errors of the command, not findings."""
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"c\.yaml: "):
        load_config(path, {})


def test_a_list_is_overridden_as_json() -> None:
    """As a mapping is; what is no list is a finding that names the variable."""
    name = "TOKENWEIR__SERVE__OIDC__ALGORITHMS"
    config = load_config_text("version: 1\n", "c.yaml", {name: '["Ed25519"]'})
    assert config.serve.oidc.algorithms == ["Ed25519"]
    for text in ("Ed25519", '{"a": 1}', '["none"]', "[]"):
        with pytest.raises(FindingsError) as caught:
            load_config_text("version: 1\n", "c.yaml", {name: text})
        assert {finding.file for finding in caught.value.findings} == {name}


@pytest.mark.parametrize(
    "text",
    [
        "serve: {tls: {certificate: a.pem}}",
        "serve: {tls: {client_ca: a.pem}}",
        "serve: {oidc: {issuer: https://login.example.com}}",
        "serve: {oidc: {issuer: https://login.example.com, audience: a}}",
    ],
)
def test_half_an_identity_is_refused(text: str) -> None:
    """What only makes sense together is given together."""
    with pytest.raises(FindingsError, match=r"go together|needs"):
        load_config_text(f"version: 1\n{text}\n", "c.yaml", {})


def test_empty_sections_are_their_defaults() -> None:
    """A section whose keys are all commented out is no error."""
    text = "version: 1\nkafka:\nkeys:\n  kek:\n"
    assert load_config_text(text, "c.yaml", {}) == load_config_text("version: 1\n", "c.yaml", {})


def test_the_reference_configuration_has_every_key_with_its_default() -> None:
    """The shipped reference is complete and says the truth."""
    path = SHIPPED / "reference.yaml"
    data = read_yaml(path.read_text(), path.name).data
    assert load_config(path, {}) == load_config_text("version: 1\n", str(path), {})
    for key_path in override_names().values():
        value: Any = data
        for key in key_path:
            if value is None:
                break  # A section that is absent by default; its keys stand beside it.
            assert key in value, key_path
            value = value[key]


def test_the_minimal_configuration_points_at_the_shipped_policy() -> None:
    """Both shipped files go together."""
    config = load_config(SHIPPED / "minimal.yaml", {})
    assert config.policy.file == SHIPPED / "minimal-policy.yaml"
    assert config.policy.file.exists()
    assert config.registry.url == "http://localhost:8081/apis/ccompat/v7"


def test_the_json_schema_is_draft_7_and_takes_variables() -> None:
    """Editors accept the shipped files and variables for any value, and refuse unknown keys."""
    schema = config_json_schema()
    Draft7Validator.check_schema(schema)
    validator = Draft7Validator(schema)
    for name in ("minimal.yaml", "reference.yaml"):
        assert list(validator.iter_errors(read_yaml((SHIPPED / name).read_text(), name).data)) == []
    assert validator.is_valid({"version": 1, "gateway": {"workers": "${W}", "engine": "${E:auto}"}})
    assert not validator.is_valid({"version": 1, "gateway": {"workers": "2"}})
    assert not validator.is_valid({"version": 1, "gatway": {}})
    assert not validator.is_valid({"gateway": {}})


def test_every_rule_is_explained_and_tested() -> None:
    """The table has sentences, and each of its own rules has a case."""
    cases = {line.split(": ")[-1] for _, expected in CASES for line in expected} | {"unknown-override"}
    own = [rule for rule in RULES if rule not in cases]
    assert set(own) <= set(YAML_RULES) | {"bad-name"}
    assert all(sentence.endswith(".") for sentence in RULES.values())
