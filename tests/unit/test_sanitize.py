"""``tokenweir sanitize``: files in, files out, and nothing else anywhere."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from tokenweir.app.containers import ContainerReader, ContainerWriter, same_layout
from tokenweir.cli import app

POLICY = """\
version: 1
purposes:
  mail: {title: Offers, basis: consent, retention_days: 365}
  ads: {title: Advertisements, basis: consent, retention_days: 365}
subjects:
  customer: {class: id.customer, form: {digits: 10}}
classes:
  event.type: {do: keep, always: true}
  event.time: {links: event, do: {generalize: {time: hour}}}
  id.customer: {do: {tokenize: customer}}
  contact.email: {when: [mail], do: {tokenize: email}}
  free: {do: drop}
tokens:
  customer: {format: digits, length: 10}
  email: {format: email}
audiences:
  crm: {title: Team, purposes: [mail], recipients: [{id: a, name: A, role: internal}]}
  ads: {title: Partner, purposes: [ads], never: ["contact.**"], recipients: [{id: b, name: B, role: controller}]}
streams:
  avro:
    source: {topic: events, format: avro}
    subjects: [{type: customer, path: customer_id}]
    event_time: occurred_at
    outputs: [{audience: crm, key: subject}, {audience: ads, key: subject}]
  lines:
    source: {topic: lines, format: json, schema: lines.json}
    subjects: [{type: customer, path: customer_id}]
    fields: {event_type: event.type, customer_id: id.customer, email: contact.email, note: free}
    outputs: [{audience: crm}, {audience: ads}]
  framed:
    source: {topic: framed, format: json_schema}
    subjects: [{type: customer, path: customer_id}]
    fields: {event_type: event.type, customer_id: id.customer, email: contact.email, note: free}
    outputs: [{audience: crm}]
"""

FIELDS: list[dict[str, Any]] = [
    {"name": "event_type", "type": "string", "confluent:tags": ["event.type"]},
    {
        "name": "occurred_at",
        "type": {"type": "long", "logicalType": "timestamp-millis"},
        "confluent:tags": ["event.time"],
    },
    {"name": "customer_id", "type": "string", "confluent:tags": ["id.customer"]},
    {"name": "email", "type": ["null", "string"], "default": None, "confluent:tags": ["contact.email"]},
    {"name": "note", "type": ["null", "string"], "default": None, "confluent:tags": ["free"]},
]
SCHEMA: dict[str, Any] = {"type": "record", "name": "Event", "namespace": "shop", "fields": FIELDS}
LINES_SCHEMA = {
    "type": "object",
    "required": ["event_type", "customer_id"],
    "additionalProperties": False,
    "properties": {name: {"type": "string"} for name in ("event_type", "customer_id", "email", "note")},
}

CANARY = "canary0canary"
RUNNER = CliRunner()


class Files:
    """A directory with a policy, schemas, and whatever a test adds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("policy.yaml", POLICY)
        self.write("lines.json", json.dumps(LINES_SCHEMA))

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self.directory / name

    def write(self, name: str, text: str) -> Path:
        """Write a text file."""
        self.path(name).write_text(text, "utf-8")
        return self.path(name)

    def container(self, name: str, records: Sequence[dict[str, Any]], codec: str = "deflate") -> Path:
        """Write an Avro container file."""
        with self.path(name).open("wb") as target:
            fastavro.writer(target, SCHEMA, records, codec=codec)
        return self.path(name)

    def consent(self, **decisions: dict[str, str]) -> Path:
        """Write a consent file: ``c1={"mail": "allow"}`` is customer 0000000001."""
        lines = [
            {
                "subject": f"customer:{int(who[1:]):010}",
                "version": 1,
                "decided_at": "2020-01-01T00:00:00Z",
                "decisions": said,
            }
            for who, said in decisions.items()
        ]
        return self.write("consent.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))

    def sanitize(self, *arguments: str | Path, stdin: bytes | None = None) -> Result:
        """Run the verb with this policy."""
        command = ["sanitize", *map(str, arguments), "--policy", str(self.path("policy.yaml"))]
        return RUNNER.invoke(app, command, input=stdin)

    def read(self, name: str) -> list[Any]:
        """Return the records of a container."""
        with self.path(name).open("rb") as source:
            records: list[Any] = list(fastavro.reader(source))
        return records


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Give a directory with a policy."""
    return Files(tmp_path)


def event(number: int = 1, **other: object) -> dict[str, Any]:
    """Return a record of customer ``number``."""
    return {
        "event_type": "click",
        "occurred_at": int(time.time() * 1000) - 60_000,
        "customer_id": f"{number:010}",
        "email": f"person{number}@shop.example",
        "note": None,
        **other,
    }


ALLOW_ALL = {"mail": "allow", "ads": "allow"}


def test_container_gives_a_container_for_each_audience(files: Files) -> None:
    """A directory as output gets one container for each audience, with the derived schema in its header."""
    events = files.container("events.avro", [event(1), event(2), event(3)])
    consent = files.consent(c1=ALLOW_ALL, c2={"ads": "allow"}, c3={"*": "deny"})

    result = files.sanitize(events, "-s", "avro", "--consent", consent, "-o", f"{files.path('out')}/")

    assert result.exit_code == 0, result.stderr
    [crm] = files.read("out/events.crm.avro")
    ads = files.read("out/events.ads.avro")
    assert crm["event_type"] == "click"
    assert crm["customer_id"] != "0000000001"
    assert crm["customer_id"].isdigit()
    assert len(crm["customer_id"]) == 10
    assert crm["email"].endswith(".example")
    assert crm["occurred_at"].minute == crm["occurred_at"].second == 0
    assert len(ads) == 2
    assert all(set(record) == {"event_type", "occurred_at", "customer_id"} for record in ads)
    assert ads[0]["customer_id"] != crm["customer_id"]


def test_the_json_report_has_exactly_the_documented_keys(files: Files) -> None:
    """With ``--format json`` standard error is one object: read, outputs, rejections by record and output."""
    events = files.container("events.avro", [event(1), event(2), event(customer_id="none")])

    result = files.sanitize(
        events,
        "-s",
        "avro",
        "--consent",
        files.consent(c1={"mail": "allow"}),
        "-o",
        f"{files.path('out')}/",
        "--format",
        "json",
    )

    assert json.loads(result.stderr) == {
        "read": 3,
        "outputs": {
            "crm": {"sanitized": 1, "withheld": 1, "rejected": 1},
            "ads": {"sanitized": 0, "withheld": 2, "rejected": 1},
        },
        "rejections": {"subject_invalid": 2},
    }
    assert result.stdout == ""


def test_without_consent_and_keys_both_are_said(files: Files) -> None:
    """Unknown decisions and keys for one run are said, so that nobody takes them for the real thing."""
    result = files.sanitize(files.container("events.avro", [event()]), "-s", "avro", "-a", "crm", "-o", files.path("x"))

    assert result.exit_code == 0
    assert "every decision is unknown" in result.stderr
    assert "for this run only" in result.stderr
    assert files.read("x") == []


def test_lines_give_lines(files: Files) -> None:
    """A stream of format json takes lines and gives lines, on standard output if nothing else is said."""
    lines = files.write("lines.jsonl", "".join(f"{json.dumps(line)}\n\n" for line in _lines(1, 2)))

    result = files.sanitize(lines, "-s", "lines", "-a", "crm", "--consent", files.consent(c1=ALLOW_ALL))

    [line] = result.stdout.splitlines()
    assert json.loads(line).keys() == {"event_type", "customer_id", "email"}


def _lines(*numbers: int) -> list[dict[str, str]]:
    return [
        {"event_type": "click", "customer_id": f"{number:010}", "email": f"p{number}@shop.example", "note": "x"}
        for number in numbers
    ]


def test_standard_input_is_a_dash(files: Files) -> None:
    """``-`` reads lines and containers from standard input."""
    line = (json.dumps(_lines(1)[0]) + "\n").encode()
    consent = files.consent(c1=ALLOW_ALL)
    container = files.container("events.avro", [event(1)]).read_bytes()

    lines = files.sanitize("-", "-s", "lines", "-a", "ads", "--consent", consent, stdin=line)
    avro = files.sanitize("-", "-s", "avro", "-o", f"{files.path('o')}/", "--consent", consent, stdin=container)

    assert json.loads(lines.stdout)["event_type"] == "click"
    assert avro.exit_code == 0
    assert len(files.read("o/stdin.ads.avro")) == 1


def test_rejected_lines_are_counted_and_no_failure(files: Files) -> None:
    """A line that cannot be decoded is rejected for every audience, and the exit code is 0."""
    lines = files.write("lines.jsonl", '{"event_type": "click"\n{"event_type": 5, "customer_id": "0000000001"}\n')

    result = files.sanitize(lines, "-s", "lines", "-a", "crm", "--format", "json")

    assert result.exit_code == 0
    assert json.loads(result.stderr)["rejections"] == {"malformed": 1, "schema_mismatch": 1}


def test_lines_need_a_stream_of_lines(files: Files) -> None:
    """Lines for an Avro stream, and a container for a stream of lines, are files of the wrong kind."""
    lines = files.write("lines.jsonl", "{}\n")
    events = files.container("events.avro", [event()])

    for file, stream in ((lines, "avro"), (events, "lines")):
        result = files.sanitize(file, "-s", stream, "-a", "crm")
        assert result.exit_code == 1
        assert f"stream '{stream}'" in result.stderr


def test_a_stream_with_a_registry_needs_a_schema_for_lines(files: Files) -> None:
    """Lines of a json_schema stream are read with ``--schema``; without it the command line is incomplete."""
    lines = files.write("lines.jsonl", json.dumps(_lines(1)[0]))

    assert files.sanitize(lines, "-s", "framed").exit_code == 2
    named = files.sanitize(
        lines, "-s", "framed", "--schema", files.path("lines.json"), "--consent", files.consent(c1=ALLOW_ALL)
    )
    assert json.loads(named.stdout)["event_type"] == "click"


def test_schema_option_replaces_tags_and_not_the_layout(files: Files) -> None:
    """``--schema`` may give a container other tags; data of another layout would be misread, so it is refused."""
    events = files.container("events.avro", [event(note="hello")])
    fields = [{**field, "confluent:tags": ["event.type"]} if field["name"] == "note" else field for field in FIELDS]
    retagged = files.write("retagged.avsc", json.dumps({**SCHEMA, "fields": fields}))
    shorter = files.write("shorter.avsc", json.dumps({**SCHEMA, "fields": FIELDS[:-1]}))
    consent = files.consent(c1=ALLOW_ALL)
    arguments = ("-s", "avro", "-a", "crm", "--consent", consent, "-o", files.path("x"))

    tagged = files.sanitize(events, *arguments, "--schema", retagged)
    misread = files.sanitize(events, *arguments, "--schema", shorter)

    assert tagged.exit_code == 0
    assert files.read("x")[0]["note"] == "hello"
    assert misread.exit_code == 1
    assert "another schema" in misread.stderr


def test_several_audiences_need_a_directory(files: Files) -> None:
    """One file cannot hold what two audiences get."""
    events = files.container("events.avro", [event()])

    for arguments in ((), ("-o", files.path("one.avro"))):
        result = files.sanitize(events, "-s", "avro", *arguments)
        assert result.exit_code == 2
        assert "crm, ads" in result.stderr
    assert not files.path("one.avro").exists()


@pytest.mark.parametrize(
    "arguments", [("-s", "nope"), ("-s", "avro", "-a", "nope"), ("-a", "crm"), ("-s", "avro", "--format", "yaml")]
)
def test_wrong_names_are_usage_errors(files: Files, arguments: tuple[str, ...]) -> None:
    """An unknown stream, audience or format, and no stream where there are several, end with 2."""
    assert files.sanitize(files.container("events.avro", [event()]), *arguments).exit_code == 2


def test_two_inputs_of_one_name_are_refused(files: Files) -> None:
    """In a directory, two inputs with one stem would overwrite each other's outputs."""
    events = files.container("events.avro", [event()])

    assert files.sanitize(events, events, "-s", "avro", "-o", f"{files.path('out')}/").exit_code == 2


def test_several_inputs_go_into_one_output(files: Files) -> None:
    """Containers with equal schemas are joined, more than a batch of records too."""
    first = files.container("first.avro", [event(1)] * 1500)
    second = files.container("second.avro", [event(2)] * 3)

    result = files.sanitize(
        first, second, "-s", "avro", "-a", "crm", "-o", files.path("x"), "--consent",
        files.consent(c1=ALLOW_ALL, c2=ALLOW_ALL),
    )  # fmt: skip

    assert result.exit_code == 0
    tokens = [record["customer_id"] for record in files.read("x")]
    assert len(tokens) == 1503
    assert len(set(tokens[:1500])) == 1
    assert tokens[0] != tokens[-1]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_codecs(files: Files, codec: str) -> None:
    """Every codec that Python itself can undo is read."""
    events = files.container("events.avro", [event(1)] * 5, codec)

    result = files.sanitize(
        events, "-s", "avro", "-a", "crm", "-o", files.path("x"), "--consent", files.consent(c1=ALLOW_ALL)
    )

    assert result.exit_code == 0
    assert len(files.read("x")) == 5


def _damaged(content: bytes) -> dict[str, bytes]:
    return {
        "header": content[:20],
        "codec": content.replace(b"deflate", b"defiate"),
        "truncated": content[:-5],
        "flipped": content[:-30] + bytes([content[-30] ^ 0xFF]) + content[-29:],
        "sync": content[:-1] + bytes([content[-1] ^ 0xFF]),
    }


@pytest.mark.parametrize("damage", ["header", "codec", "truncated", "flipped", "sync"])
def test_a_damaged_container_fails_and_leaves_nothing(files: Files, damage: str) -> None:
    """A container that cannot be read ends with 1; no incomplete file appears, and an older one stays."""
    content = files.container("events.avro", [event(1, note=CANARY)] * 50).read_bytes()
    files.path("events.avro").write_bytes(_damaged(content)[damage])
    files.write("x.avro", "older")

    result = files.sanitize(files.path("events.avro"), "-s", "avro", "-a", "crm", "-o", files.path("x.avro"))

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert CANARY not in result.output
    assert files.path("x.avro").read_text() == "older"
    assert not list(files.directory.glob(".x.avro.*"))


def test_a_block_that_claims_more_records_than_bytes_is_refused(files: Files) -> None:
    """A count that no data stands behind costs nothing."""
    target = io.BytesIO()
    schema = json.dumps({"type": "record", "name": "Empty", "fields": []})
    writer = ContainerWriter(target, schema, bytes(16))
    for _ in range(3):
        writer.write(b"")
    writer.flush()
    files.path("empty.avro").write_bytes(target.getvalue())

    result = files.sanitize(files.path("empty.avro"), "-s", "avro", "-a", "crm")

    assert result.exit_code == 1


def test_a_missing_file_fails(files: Files) -> None:
    """A file that is not there, and a directory that is no file, end with 1 and the system's words."""
    for path in (files.path("nope.avro"), files.directory):
        result = files.sanitize(path, "-s", "avro", "-a", "crm")
        assert result.exit_code == 1
        assert str(path) in result.stderr


@pytest.mark.parametrize("target", ["events.avro", "link.avro", "policy.yaml", "consent.jsonl", "lines.json"])
def test_no_file_that_is_read_is_overwritten(files: Files, target: str) -> None:
    """An output that is an input, the policy or the consent, by whatever name, is refused before anything is read."""
    events = files.container("events.avro", [event()])
    files.path("link.avro").symlink_to(events)
    consent = files.consent(c1=ALLOW_ALL)
    stream = "lines" if target == "lines.json" else "avro"
    before = files.path(target).read_bytes()

    result = files.sanitize(events, "-s", stream, "-a", "crm", "--consent", consent, "-o", files.path(target))

    assert result.exit_code == 2
    assert "would be overwritten" in result.stderr
    assert files.path(target).read_bytes() == before


def test_no_input_is_overwritten_in_a_directory(files: Files) -> None:
    """The name that an output gets in a directory may be that of another input, or of a key file."""
    first, second = files.container("a.avro", [event()]), files.container("a.crm.avro", [event()])
    before = second.read_bytes()

    result = files.sanitize(first, second, "-s", "avro", "-o", f"{files.directory}/")

    assert result.exit_code == 2
    assert second.read_bytes() == before


def test_an_output_that_cannot_be_written_fails(files: Files) -> None:
    """A missing directory is said, not made."""
    result = files.sanitize(
        files.container("events.avro", [event()]), "-s", "avro", "-a", "crm", "-o", files.path("no/such/x.avro")
    )

    assert result.exit_code == 1
    assert "No such file" in result.stderr


def test_a_device_is_written_to_and_not_replaced(files: Files) -> None:
    """``-o /dev/null`` leaves the device what it is."""
    result = files.sanitize(files.container("events.avro", [event()]), "-s", "avro", "-a", "crm", "-o", "/dev/null")

    assert result.exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_lasting_keys_give_lasting_tokens(files: Files) -> None:
    """Two runs with ``--keys`` give equal tokens, two runs without it do not."""
    events = files.container("events.avro", [event(1)])
    keys = files.path("keys")
    made = RUNNER.invoke(app, ["keys", "init", "--keys", str(keys), "--policy", str(files.path("policy.yaml"))])
    consent = files.consent(c1=ALLOW_ALL)

    def token(name: str, *more: str) -> str:
        arguments = ("-s", "avro", "-a", "crm", "--consent", consent, "-o", files.path(name))
        assert files.sanitize(events, *arguments, *more).exit_code == 0
        found: str = files.read(name)[0]["customer_id"]
        return found

    assert made.exit_code == 0
    assert token("a", "--keys", str(keys)) == token("b", "--keys", str(keys))
    assert token("c") != token("d")


def test_missing_keys_are_refused(files: Files) -> None:
    """``--keys`` with a directory that holds none ends with 3 and says what makes them."""
    result = files.sanitize(
        files.container("events.avro", [event()]), "-s", "avro", "-a", "crm", "--keys", files.path("none")
    )

    assert result.exit_code == 3
    assert "keys init" in result.stderr


def _state(decisions: str) -> str:
    return (
        '{"subject": "customer:0000000001", "version": 1, "decided_at": "2020-01-01T00:00:00Z", '
        f'"decisions": {decisions}}}'
    )


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('{"subject": "customer:0000000001", "version": 1', ":2:"),
        ('{"version": 1}', ":2:1:"),
        ('{"subject": "customer:1", "version": 1, "decided_at": "2020-01-01T00:00:00Z", "decisions": {}}', ":2:1:"),
        (_state('{"*": "allow"}'), ":2:"),
        (_state(f'{{"mail": "{CANARY}"}}'), ":2:"),
        (_state(f'{{"{CANARY}@": "deny"}}'), ":2:"),
        (_state('{"mial": "deny"}'), ":2:1: consent-line: the policy has no purpose 'mial': did you mean 'mail'"),
        (_state('{"mail@bb": "deny"}'), ":2:1: consent-line: the policy has no recipient 'bb'"),
        (
            _state('{"*": "deny"}').replace("customer:", "custmer:"),
            ":2:1: consent-line: the policy has no subject type 'custmer': did you mean 'customer'",
        ),
    ],
)
def test_a_bad_consent_line_refuses_the_file(files: Files, line: str, place: str) -> None:
    """A line that is skipped may be a withdrawal, so the whole file is refused, with line and column."""
    consent = files.write("consent.jsonl", f"\n{line}\n")

    result = files.sanitize(
        files.container("events.avro", [event()]),
        "-s",
        "avro",
        "-a",
        "crm",
        "-o",
        files.path("x"),
        "--consent",
        consent,
    )

    assert result.exit_code == 1
    assert f"{consent}{place}" in result.stderr
    assert CANARY not in result.output
    assert not files.path("x").exists()


@pytest.mark.parametrize("path", ["$key", "$headers{customer}"])
def test_a_subject_outside_of_the_value_refuses_the_stream(files: Files, path: str) -> None:
    """Files have no keys and headers: the next subject, or nobody, would decide for the one who is not there."""
    second = f"subjects: [{{type: customer, path: '{path}'}}, {{type: customer, path: customer_id}}]"
    files.write("policy.yaml", POLICY.replace("subjects: [{type: customer, path: customer_id}]", second, 1))

    result = files.sanitize(
        files.container("events.avro", [event()]),
        "-s",
        "avro",
        "-a",
        "crm",
        "-o",
        files.path("x"),
        "--consent",
        files.consent(c1=ALLOW_ALL),
    )

    assert result.exit_code == 2
    assert f"stream 'avro' finds a customer in {path}: " in result.stderr
    assert not files.path("x").exists()


def test_later_consent_lines_win(files: Files) -> None:
    """A later line of the same source replaces an earlier one; a null forgets it."""
    allow = {"version": 1, "decided_at": "2020-01-01T00:00:00Z", "decisions": ALLOW_ALL}
    deny = {"version": 1, "decided_at": "2021-01-01T00:00:00Z", "decisions": {"*": "deny"}}
    lines = [
        {"subject": "customer:0000000001", **allow},
        {"subject": "customer:0000000001", **deny},
        {"subject": "customer:0000000002", **deny},
        {"subject": "customer:0000000002", **allow},
        {"subject": "customer:0000000003", **allow},
        {"subject": "customer:0000000003", "decisions": None},
    ]
    consent = files.write("consent.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    events = files.container("events.avro", [event(1), event(2), event(3)])

    result = files.sanitize(
        events, "-s", "avro", "-a", "crm", "-o", files.path("x"), "--consent", consent, "--format", "json"
    )

    assert json.loads(result.stderr)["outputs"]["crm"] == {"sanitized": 1, "withheld": 2, "rejected": 0}


def test_policy_faults_are_findings(files: Files) -> None:
    """A policy that does not go with the schema ends with 1 and shows where."""
    files.write("policy.yaml", POLICY.replace("  event.time: {links: event, do: {generalize: {time: hour}}}\n", ""))

    result = files.sanitize(files.container("events.avro", [event()]), "-s", "avro", "-a", "crm")

    assert result.exit_code == 1
    assert "policy.yaml:" in result.stderr


def test_no_protected_value_shows_anywhere(files: Files) -> None:
    """A canary in every protected field and in every kind of broken record is in no output, report or message."""
    records = [
        event(1, customer_id="0000000001", email=f"{CANARY}@shop.example", note=CANARY),
        event(2, email=f"not an address {CANARY}", note=CANARY),
        event(3, customer_id=CANARY, email=CANARY),
        event(4, customer_id=f"4{CANARY}"),
    ]
    broken = [
        {"event_type": "click", "customer_id": "0000000001", "email": f"{CANARY}@x.example", "note": CANARY},
        {"event_type": "click", "customer_id": CANARY},
        {"event_type": "click", "customer_id": "0000000001", CANARY: CANARY},
        {"event_type": {CANARY: 1}, "customer_id": CANARY},
    ]
    texts = [json.dumps(line) for line in broken]
    texts += [f'{{"event_type": "{CANARY}', f'{{"note": "{CANARY}", "note": "{CANARY}"}}', CANARY, f'"{CANARY}"']
    lines = files.write("lines.jsonl", "\n".join(texts))
    consent = files.consent(**{f"c{number}": ALLOW_ALL for number in range(1, 5)})
    out = files.path("out")

    results = [
        files.sanitize(files.container("events.avro", records), "-s", "avro", "--consent", consent, "-o", f"{out}/"),
        files.sanitize(lines, "-s", "lines", "--consent", consent, "-o", f"{out}/"),
        files.sanitize(lines, "-s", "lines", "-a", "crm", "--consent", consent, "--format", "json"),
        files.sanitize(lines, "-s", "avro", "-a", "crm"),
    ]

    assert [result.exit_code for result in results] == [0, 0, 0, 1]
    for result in results:
        assert CANARY not in result.output
    written = sorted(path.name for path in out.iterdir())
    assert written == ["events.ads.avro", "events.crm.avro", "lines.ads.jsonl", "lines.crm.jsonl"]
    assert len(files.read("out/events.crm.avro")) == 2
    for name in written:
        content = (
            json.dumps(files.read(f"out/{name}"), default=str)
            if name.endswith("avro")
            else files.path(f"out/{name}").read_text()
        )
        assert CANARY not in content
        assert content.strip()


@settings(max_examples=40, deadline=None)
@given(records=st.lists(st.tuples(st.text(max_size=30), st.integers(-(2**40), 2**40)), max_size=40))
def test_container_writer_writes_what_others_read(records: list[tuple[str, int]]) -> None:
    """A container made of datums is read by fastavro, and cut by our reader into the very same datums."""
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "text", "type": "string"}, {"name": "number", "type": "long"}],
    }
    datums = []
    for text, number in records:
        datum = io.BytesIO()
        fastavro.schemaless_writer(datum, schema, {"text": text, "number": number})
        datums.append(datum.getvalue())
    target = io.BytesIO()
    writer = ContainerWriter(target, json.dumps(schema), bytes(range(16)))
    for index, value in enumerate(datums):
        writer.write(value)
        if index % 7 == 0:
            writer.flush()
    writer.flush()
    content = target.getvalue()
    found: list[Any] = list(fastavro.reader(io.BytesIO(content)))

    assert [(r["text"], r["number"]) for r in found] == records
    assert list(ContainerReader("memory", io.BytesIO(content))) == datums


def test_large_containers_have_several_blocks() -> None:
    """Memory does not grow with the file: a block ends at 64 KiB."""
    target = io.BytesIO()
    writer = ContainerWriter(target, '"string"', bytes(16))
    for _ in range(200):
        writer.write(b"\xd0\x0f" + b"x" * 1000)
    writer.flush()
    target.seek(0)

    assert sum(1 for _ in fastavro.block_reader(target)) > 2


def test_same_layout_looks_at_names_and_types_alone() -> None:
    """Tags, docs and defaults do not change how data is read; another type or order does."""
    tagged = json.dumps({**SCHEMA, "doc": "x", "fields": [{**field, "confluent:tags": []} for field in FIELDS]})
    swapped = json.dumps({**SCHEMA, "fields": list(reversed(FIELDS))})

    assert same_layout(json.dumps(SCHEMA), tagged)
    assert not same_layout(json.dumps(SCHEMA), swapped)
    assert not same_layout("nonsense", "nonsense")
