"""What a person reads when something is wrong: the words, where they go, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner, Result

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.jsonhttp import JsonClient
from tokenweir.adapters.kafka_errors import KafkaFault, in_words
from tokenweir.adapters.keysource import load_keyset
from tokenweir.adapters.registry import DirectoryRegistry
from tokenweir.app import consentwriter, demodata
from tokenweir.app.consentlines import read_lines
from tokenweir.app.files import open_source
from tokenweir.cli import app
from tokenweir.cli.console import blocks, fitting_widths, harmless
from tokenweir.cli.group import VerbGroup
from tokenweir.core.policy.check_text import load
from tokenweir.errors import FindingsError, KeysError, PreflightError, RegistryError
from tokenweir.words import counted

RUNNER = CliRunner()
POLICY_KEYS = "version: 1\npurposes: {}\nclasses: {}\n"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the demo's files in the working directory."""
    demodata.write(tmp_path, 1_700_000_000_000, bytes(16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **environ: str) -> Result:
    """Run a verb."""
    return RUNNER.invoke(app, arguments, env=environ)


def change(path: Path, old: str, new: str) -> None:
    """Change a file at one place."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def raising(error: BaseException) -> typer.Typer:
    """Return a command line whose one verb raises."""
    made = typer.Typer(cls=VerbGroup, rich_markup_mode=None, pretty_exceptions_enable=False)

    @made.command()
    def verb() -> None:
        raise error

    @made.command()
    def other() -> None:
        """Exist, so that this is a group."""

    return made


@pytest.mark.parametrize("arguments", [["plan"], ["explain", "web"], ["doctor"], ["preview"]])
def test_findings_are_json_where_json_is_asked_for(directory: Path, arguments: list[str]) -> None:
    """Standard output is one document with the findings, as lint gives them; standard error is for people."""
    change(directory / "policy.yaml", "do: {tokenize: customer}}", "do: {tokenize: custmer}}")

    result = run(*arguments, "--format", "json", TOKENWEIR__KAFKA__BOOTSTRAP_SERVERS="localhost:1")

    assert result.exit_code == 1
    [finding] = [each for each in json.loads(result.stdout)["findings"] if each["severity"] == "error"]
    assert finding["rule"] == "unknown-token"
    assert finding["message"] == "there is no token entry 'custmer'"
    assert "unknown-token" in result.stderr


def test_findings_after_a_plan_do_not_make_a_second_document(directory: Path) -> None:
    """A plan that was printed stays the only document on standard output."""
    (directory / "bad.avsc").write_text('{"type": "record", "name": "R", "fields": [{"name": "x", "type": "string"}]}')

    result = run("plan", "--stream", "interactions", "--schema", "interactions=bad.avsc", "--format", "json")

    assert result.exit_code == 1
    assert "streams" in json.loads(result.stdout)


def test_lint_says_why_the_policy_was_not_checked(directory: Path) -> None:
    """A configuration with errors is named as the reason, whether or not it names a policy."""
    (directory / "tokenweir.yaml").write_text("version: 1\npolicy: {file: policy.yaml}\nkafkaa: {}\n")

    assert "not checked: the policy: the configuration has errors" in run("lint").stderr


@pytest.mark.parametrize("verb", ["lint", "plan"])
def test_the_environment_alone_is_a_configuration(directory: Path, verb: str) -> None:
    """As for the verbs that talk to a cluster, no file is needed."""
    (directory / "tokenweir.yaml").unlink()

    result = run(verb, TOKENWEIR__POLICY__FILE="policy.yaml", TOKENWEIR__REGISTRY__DIRECTORY="schemas")

    assert result.exit_code == 0, result.output
    assert run(verb).exit_code == 2


def test_swapped_files_are_told_apart(directory: Path) -> None:
    """A policy given as configuration, and the reverse, are one finding that says which option is right."""
    assert (directory / "policy.yaml").exists()
    policy = run("lint", "-c", "policy.yaml").stdout.splitlines()
    configuration = run("lint", "-p", "tokenweir.yaml").stdout.splitlines()

    assert policy == ["policy.yaml:1:1: other-file: this is a policy and no configuration (give it with --policy)"]
    assert configuration == [
        "tokenweir.yaml:1:1: other-file: this is a configuration and no policy (give it with --config)"
    ]


def test_a_variable_in_braces_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML cannot read it: a configuration is told to quote it, a policy that nothing is filled in."""
    monkeypatch.chdir(tmp_path)
    Path("tokenweir.yaml").write_text("version: 1\nadmin: {port: ${PORT}}\n")

    assert 'quote the variable: "${NAME}"' in run("lint").stdout
    with pytest.raises(FindingsError) as caught:
        load("version: 1\n# ${FINE}\ncontroller: {country: ${COUNTRY}}\n", "p.yaml")
    found = [(each.line, each.column) for each in caught.value.findings if each.rule == "interpolation"]
    assert found == [(3, 23)]


def test_a_registry_that_is_down_is_named_with_its_address(directory: Path) -> None:
    """The finding says who does not answer and what to do, and nothing of Python."""
    (directory / "tokenweir.yaml").write_text(
        "version: 1\npolicy: {file: policy.yaml}\nregistry: {url: 'http://127.0.0.1:9'}\n"
    )
    result = run("plan", "--stream", "interactions")

    assert result.exit_code == 1
    assert "the registry at http://127.0.0.1:9 does not answer (start it, or correct registry.url)" in result.stderr
    assert "Error" not in result.stderr


def test_a_missing_directory_of_schemas_is_told_from_a_missing_schema(tmp_path: Path) -> None:
    """Without the directory nothing is known; with it a subject simply has no version."""
    assert DirectoryRegistry(tmp_path).versions("raw-value") == []
    with pytest.raises(RegistryError, match="does not exist"):
        DirectoryRegistry(tmp_path / "no").versions("raw-value")
    with pytest.raises(RegistryError, match="does not answer, or its certificate is not trusted"):
        JsonClient("https://127.0.0.1:9").call("GET", "/subjects")


def test_a_key_file_that_cannot_be_read_is_not_made_anew(tmp_path: Path) -> None:
    """Only a missing file is made by ``keys init``; what is there has to be made readable."""
    (tmp_path / "keyset.json").mkdir()

    with pytest.raises(KeysError, match="make it readable for the user who runs tokenweir"):
        load_keyset(tmp_path / "keyset.json", tmp_path / "kek.key")
    with pytest.raises(KeysError, match="keys init"):
        load_keyset(tmp_path / "other.json", tmp_path / "kek.key")


def test_listed_keys_that_do_not_open_are_pointed_at(tmp_path: Path, directory: Path) -> None:
    """The list is shown as before, and a missing KEK is a warning."""
    assert directory == tmp_path
    assert run("keys", "init", "--keys", "k", "-p", "policy.yaml").exit_code == 0
    assert "warning" not in run("keys", "list", "--keys", "k").stderr
    Path("k/kek.key").unlink()

    result = run("keys", "list", "--keys", "k")

    assert result.exit_code == 0
    assert "warning: these keys cannot be used" in result.stderr


def test_trouble_outside_of_the_files_is_3() -> None:
    """Broker and registry need the world; every problem of a preflight is a line of its own."""
    fault = RUNNER.invoke(raising(KafkaFault("list topics", "_TRANSPORT")), ["verb"])
    registry = RUNNER.invoke(raising(RegistryError("timeout", "slow")), ["verb"])
    preflight = RUNNER.invoke(raising(PreflightError(["one", "two"])), ["verb"])

    assert [fault.exit_code, registry.exit_code, preflight.exit_code] == [3, 3, 3]
    assert preflight.stderr == "error: one\nerror: two\n"


def test_kafka_codes_become_words() -> None:
    """What a code means is said first; a code without words of its own stays as it is."""
    down = KafkaFault("list topics", "_TRANSPORT", retriable=True)
    missing = KafkaFault("describe topic raw", "UNKNOWN_TOPIC_OR_PART")
    other = KafkaFault("list topics", "SASL_AUTHENTICATION_FAILED")

    assert in_words(down, "b:1") == "no broker answers at b:1 (list topics: _TRANSPORT)"
    assert in_words(missing, "b:1") == "topic raw does not exist"
    assert in_words(other, "b:1") == str(other)


@pytest.mark.parametrize(
    "verb",
    [
        ("offsets", "show"),
        ("offsets", "set", "interactions", "--all", "--to", "latest"),
        ("consent", "status"),
        ("consent", "get", "customer:0000000001"),
        ("consent", "acknowledge", "0", "0"),
        ("replay", "interactions"),
    ],
)
def test_a_broker_that_is_down_comes_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    """As doctor says it; what has no remedy is said without one."""
    faults: list[KafkaFault] = []

    def ask(*_arguments: object, **_named: object) -> None:
        raise faults[0]

    monkeypatch.setattr(Admin, "_ask", ask)
    policy = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
    (tmp_path / "policy.yaml").write_text(policy.read_text())
    config = tmp_path / "tokenweir.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'b.invalid:1'}\n")
    faults[:] = [KafkaFault("describe topics", "_TRANSPORT", retriable=True)]
    down = run(*verb, "--config", str(config))
    faults[:] = [KafkaFault("describe topics", "SASL_AUTHENTICATION_FAILED")]
    refused = run(*verb, "--config", str(config))

    assert (down.exit_code, refused.exit_code) == (3, 3)
    assert down.stderr == (
        "error: no broker answers at b.invalid:1 (describe topics: _TRANSPORT): "
        "is the broker up, and kafka.bootstrap_servers right?\n"
    )
    assert refused.stderr == "error: describe topics: SASL_AUTHENTICATION_FAILED\n"


def test_an_import_says_why_it_writes_fewer_records_than_it_read_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later lines win; and what comes in over standard input leaves nobody to ask, which is wrong usage."""
    policy = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
    (tmp_path / "policy.yaml").write_text(policy.read_text())
    config = tmp_path / "tokenweir.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'b.invalid:1'}\n")
    topic = SimpleNamespace(name="decisions", import_states=lambda states, _progress: len(states))
    monkeypatch.setattr(consentwriter, "ConsentTopic", lambda _config, _seal: topic)
    line = (
        '{{"subject":"customer:{:010}","version":1,"decided_at":"2026-01-01T00:00:00Z","decisions":{{"*":"deny"}}}}\n'
    ).format

    def imported(*arguments: str, given: str) -> Result:
        return RUNNER.invoke(app, ["consent", "import", "-", "--config", str(config), *arguments], input=given)

    once = imported(given=line(1) + line(2))
    twice = imported(given=line(1) + line(2) + line(1))
    as_json = imported("--format", "json", given=line(1) * 3)
    forgets = imported(given='{"subject":"customer:0000000001","decisions":null}')

    assert once.stdout == "2 lines read, 2 records written to decisions\n"
    assert twice.stdout == (
        "3 lines read (1 line replaced by a later one for the same key), 2 records written to decisions\n"
    )
    assert json.loads(as_json.stdout) == {
        "topic": "decisions",
        "lines": 3,
        "replaced": 2,
        "written": 1,
        "forgotten": 0,
    }
    assert (forgets.exit_code, forgets.stdout) == (2, "")
    assert "1 state will be forgotten, which cannot be taken back; nothing was written" in forgets.stderr


def test_what_steers_a_terminal_is_spelled_out() -> None:
    """Letters of every script stay; controls, and what turns the order of writing round, do not."""
    assert harmless("Größe, 値, a b") == "Größe, 値, a b"
    assert harmless("a\x1b[31m\x07\x9b\u202e\n\t", kept="\n") == "a\\x1b[31m\\x07\\x9b\\u202e\n\\t"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["config", "schema"], ["version"]])
def test_a_full_disk_is_no_fault_of_tokenweir(arguments: list[str]) -> None:
    """What standard output does not take is said in the system's words."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tokenweir", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "error: cannot write: No space left on device\n"


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ('"decisions": {"mail": "yes"}', "decisions{}.decision: only allow or deny"),
        ('"decided_at": "2026-01-31", "decisions": {}', "decided_at: RFC 3339 with time and zone"),
        ('"decided_at": "2999-01-31T00:00:00Z", "decisions": {}', "decided_at: the time is too far ahead"),
        ('"decision": {}', "unknown key: a line takes subject, version"),
        ('"decisions": []', "decisions: a mapping of purposes"),
        ('"decisions": {', "the line is not JSON"),
    ],
)
def test_a_consent_line_is_explained(member: str, said: str) -> None:
    """Each fault is said in the words of the file, without a value of it."""
    times = "" if "decided_at" in member else '"decided_at": "2026-01-01T00:00:00Z", '
    line = f'{{"subject": "customer:1", "version": 1, {times}{member}}}'
    with pytest.raises(FindingsError) as caught:
        list(read_lines(line, "c.jsonl", 1_800_000_000_000))

    assert said in caught.value.findings[0].message


def test_sanitize_says_where_records_were_rejected(directory: Path) -> None:
    """At most five places, with file, line and field; lines without a record count, and no value is shown."""
    assert directory.exists()
    good = Path("web.jsonl").read_text().splitlines()[0]
    bad = json.dumps(json.loads(good) | {"customer": "x7canary"})
    Path("in.jsonl").write_text("\n".join([good, "", *[bad] * 7, ""]))

    result = run("sanitize", "in.jsonl", "-s", "web", "-a", "crm", "-p", "policy.yaml", "--consent", "consent.jsonl")

    places = [line for line in result.stderr.splitlines() if line.startswith("  in.jsonl: line ")]
    assert places[0].startswith("  in.jsonl: line 3: subject_invalid at ")
    assert len(places) == 5
    assert "canary" not in result.stderr
    assert result.stderr.count("what the file says at its end counts for every event") == 1


def test_places_in_lines_and_containers(tmp_path: Path) -> None:
    """Lines are counted with the blank ones between them."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n{}\n\n\n{}\n")
    with open_source(str(path)) as source:
        places = [source.place(number) for number, _ in enumerate(source.records, start=1)]

    assert places == [f"{path}: line 2", f"{path}: line 5"]


def test_commands_of_the_demo_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with a blank in its name gives commands that a shell reads as meant; keys are kept out of git."""
    monkeypatch.chdir(tmp_path)

    result = run("demo", "--write", "a b")

    assert "lint -c 'a b/tokenweir.yaml'" in result.stderr
    assert "keys/" in Path("a b/.gitignore").read_text().splitlines()


def test_narrow_tables_break_no_names() -> None:
    """Columns give way to names; where there is no room for those, rows stand one below the other."""
    columns, rows = ["field", "class", "crm"], [["customer.email_address", "", "tokenize email for anybody"]]

    assert fitting_widths(columns, rows, 100) == [22, 5, 26]
    assert fitting_widths(columns, rows, 50) == [22, 5, 15]
    assert fitting_widths(columns, rows, 43) == [22, 5, 8]
    assert fitting_widths(columns, rows, 42) == []
    assert blocks(columns, rows) == ["customer.email_address", "  crm: tokenize email for anybody"]


def test_numbers_have_nouns_that_fit() -> None:
    """One is one."""
    assert [counted(number, "topic") for number in (0, 1, 1234)] == ["0 topics", "1 topic", "1,234 topics"]


def test_summaries_are_whole_sentences() -> None:
    """No verb's short help is cut."""
    assert "..." not in run("--help").stdout.replace("[ARGS]...", "")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_refused_run_ends_with_a_line_of_its_log(tmp_path: Path, form: str) -> None:
    """A collector of JSON lines finds why in the last of them; the exit code and the words for people stay."""
    policy = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
    (tmp_path / "policy.yaml").write_text(policy.read_text())
    config = tmp_path / "tokenweir.yaml"
    config.write_text(f"version: 1\nkafka: {{bootstrap_servers: 'b.invalid:1'}}\nlogging: {{format: {form}}}\n")
    command = [sys.executable, "-m", "tokenweir", "run", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    lines = done.stderr.splitlines()
    assert done.returncode == 3
    assert lines[-2].startswith("error: ")
    assert "there is no keyset" in lines[-2]
    if form == "json":
        last = json.loads(lines[-1])
        assert (last["event"], last["exit_code"], last["level"]) == ("gateway_refused", 3, "error")
        assert last["problem"] == lines[-2].removeprefix("error: ").replace(f" --config {config}", "")
    else:
        assert "gateway_refused" in lines[-1]
