"""The archive of policies, and the report of a leak: topics in memory, schemas in files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from tokenweir.adapters.admin import TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.keysource import KeyRow
from tokenweir.app import breach
from tokenweir.cli import app
from tokenweir.core.policy.loader import load_policy
from tokenweir.errors import FileFormatError
from tokenweir.runtime.policyarchive import Period, PolicyArchive

_POLICY: Final = (Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml").read_text()
_DAY_MS: Final = 86_400_000
_DAY_0: Final = 1_795_305_600_000  # 2026-11-22T00:00:00Z.
_SCHEMA: Final = {
    "type": "record",
    "name": "Interaction",
    "namespace": "shop",
    "fields": [
        {"name": "kind", "type": "string", "confluent:tags": ["event.type"]},
        {"name": "customer_id", "type": "string", "confluent:tags": ["id.customer"]},
        {
            "name": "occurred_at",
            "type": {"type": "long", "logicalType": "timestamp-millis"},
            "confluent:tags": ["event.time"],
        },
        {"name": "email", "type": ["null", "string"], "default": None, "confluent:tags": ["contact.email"]},
    ],
}


# The archive


def test_a_policy_is_kept_with_its_start_and_its_end(tmp_path: Path) -> None:
    """A start without an end before it ends the earlier policy: that gateway was killed."""
    archive = PolicyArchive(tmp_path)
    assert archive.periods() == []
    archive.begin("a", 1, "text a", 100)
    archive.begin("b", 2, "text b", 200)
    archive.end("b", 300)
    archive.begin("a", 1, "another text", 400)

    assert archive.periods() == [Period("a", 1, 100, 200), Period("b", 2, 200, 300), Period("a", 1, 400, None)]
    assert archive.text("a") == "text a"
    assert archive.text("c") is None


@pytest.mark.parametrize(
    ("since", "until", "inside"), [(0, 99, False), (0, 100, True), (200, 300, True), (201, 300, False)]
)
def test_a_period_overlaps_a_span_that_shares_a_moment(since: int, until: int, inside: bool) -> None:  # noqa: FBT001
    """One that has not ended reaches to any time."""
    assert Period("a", 1, 100, 200).overlaps(since, until) is inside
    assert Period("a", 1, 100).overlaps(10_000, 20_000)


def test_half_a_line_of_a_killed_process_is_dropped_and_never_joined_with_the_next(tmp_path: Path) -> None:
    """Damage before the end is another matter: it would hide a policy."""
    archive = PolicyArchive(tmp_path)
    archive.begin("a", 1, "text", 100)
    log = tmp_path / "policies" / "log.jsonl"
    whole = log.read_bytes()
    for cut in range(1, len(whole)):
        log.write_bytes(whole + whole[:cut])
        archive.end("a", 200)
        assert archive.periods() == [Period("a", 1, 100, 200)]
    log.write_bytes(b"{}\n" + whole)
    with pytest.raises(FileFormatError, match=r"log\.jsonl:1"):
        archive.periods()


# The report


@dataclass(frozen=True, slots=True)
class _Message:
    """A record of an output."""

    number: int
    at: int
    raw_key: bytes | None
    time_ms: int
    raw_value: bytes | None = b"x"

    def key(self) -> bytes | None:
        """Its key."""
        return self.raw_key

    def value(self) -> bytes | None:
        """Its value."""
        return self.raw_value

    def partition(self) -> int:
        """Its partition."""
        return self.number

    def offset(self) -> int:
        """Its offset."""
        return self.at

    def timestamp(self) -> tuple[int, int]:
        """Its time."""
        return 1, self.time_ms


_CRM: Final = [
    _Message(0, 10, b"1111111111", _DAY_0 - 1),
    _Message(0, 11, b"2222222222", _DAY_0 + 5),
    _Message(1, 3, b"2222222222", _DAY_0 + 6),
    _Message(1, 4, b"3333333333", _DAY_0 + 7),
    _Message(1, 5, None, _DAY_0 + 8),
    _Message(1, 6, b"4444444444", _DAY_0 + 2 * _DAY_MS),
]


def _told(*tokens: str) -> bytes:
    """Return the value of a signal."""
    return json.dumps({"tokens": [{"entry": "customer", "epoch": 1, "token": token} for token in tokens]}).encode()


_TOPICS: Final[Mapping[str, list[_Message]]] = {
    "customer.interactions.crm": _CRM,
    "customer.interactions.crm.erasures": [
        _Message(0, 0, b"3333333333", _DAY_0, _told("7777777777", "3333333333")),
        _Message(0, 1, b"1111111111", _DAY_0, _told("1111111111")),
        _Message(0, 2, b"2222222222", _DAY_0, _told("2222222222")),
        _Message(0, 3, b"2222222222", _DAY_0, None),
    ],
    # The same output in the second epoch of its keys.
    "customer.interactions.crm.e2": [_Message(0, 0, b"7777777777", _DAY_0 + 9)],
    # Its times are rounded down to the day.
    "customer.interactions.ads": [_Message(0, 0, b"9999999999", _DAY_0)],
}


class _Admin:
    """Answers for these topics."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def describe_topic(self, name: str) -> TopicDescription:
        """Describe one."""
        if name not in _TOPICS:
            raise KafkaFault("describe", "UNKNOWN_TOPIC_OR_PART")
        return TopicDescription(name, "id", 2, None)

    def offsets_at(self, topic: str, partitions: Iterable[int], timestamp_ms: int) -> dict[int, int | None]:
        """Find the first record of a time."""
        return {
            number: next(
                (each.at for each in _TOPICS[topic] if each.number == number and each.time_ms >= timestamp_ms), None
            )
            for number in partitions
        }

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Say that nothing was deleted."""
        return dict.fromkeys(partitions, 0)

    def high_watermarks(self, _topic: str, partitions: Iterable[int], _isolation: str = "") -> dict[int, int]:
        """Say where they end."""
        return dict.fromkeys(partitions, 100)


def _read_until(_properties: object, topic: str, spans: Mapping[int, tuple[int, int]]) -> Iterator[_Message]:
    for each in _TOPICS[topic]:
        if each.number in spans and spans[each.number][0] <= each.at < spans[each.number][1]:
            yield each


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of two policies: the first kept e-mail from everybody."""
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "customer.interactions-value.avsc").write_text(json.dumps(_SCHEMA))
    (tmp_path / "policy.yaml").write_text(_POLICY)
    (tmp_path / "tokenweir.yaml").write_text(
        'version: 1\nkafka: {bootstrap_servers: "127.0.0.1:1"}\nregistry: {directory: schemas}\n'
        "policy: {file: policy.yaml}\n"
    )
    archive = PolicyArchive(tmp_path / "state")
    for text, revision, start in (
        (_POLICY.replace("when: [email_marketing], do: {tokenize: email}", "do: drop"), 1, _DAY_0 - 10 * _DAY_MS),
        (_POLICY, 2, _DAY_0 + _DAY_MS // 2),
    ):
        archive.begin(load_policy(text, "p").digest, revision, text, start)
    monkeypatch.setattr(breach, "Admin", _Admin)
    monkeypatch.setattr(breach, "read_until", _read_until)
    return tmp_path


def _report(directory: Path, *arguments: str) -> dict[str, Any]:
    command = ["report", "breach", *arguments, "--format", "json", "--config", str(directory / "tokenweir.yaml")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_people_are_counted_once_each_in_the_span_alone(directory: Path) -> None:
    """With the offsets and times between which their records stand; tokens only on request."""
    asked = ("--since", "2026-11-22T00:00:00Z", "--until", "2026-11-22T18:00:00Z", "--audience", "crm")
    (found,) = _report(directory, *asked)["outputs"]
    assert (found["records"], found["subjects"], found["records_without_key"], found["erased_since"]) == (4, 2, 1, 1)
    assert found["partitions"] == {"0": [11, 11], "1": [3, 5]}
    assert (found["first_at"], found["recipients"]) == ("2026-11-22T00:00:00Z", ["Campaign team"])
    assert "tokens" not in found

    (listed,) = _report(directory, *asked, "--tokens")["outputs"]
    assert listed["tokens"] == ["2222222222", "3333333333"]


def test_an_output_has_a_topic_in_each_key_epoch(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of retired and destroyed epochs count too, and a signal names the tokens of all."""
    keys = [KeyRow("crm", 1, "destroyed", "2026-01-01T00:00:00Z"), KeyRow("crm", 2, "active", "2026-06-01T00:00:00Z")]
    monkeypatch.setattr(breach, "read_rows", lambda _config: keys)
    asked = ("--since", "2026-11-22T00:00:00Z", "--until", "2026-11-22T18:00:00Z", "--audience", "crm")
    found = {each["topic"]: each for each in _report(directory, *asked)["outputs"]}
    assert {topic: (each["records"], each["erased_since"]) for topic, each in found.items()} == {
        "customer.interactions.crm": (4, 1),
        "customer.interactions.crm.e2": (1, 1),
    }
    assert all(each["fields"] for each in found.values())


def test_fields_are_those_of_the_policies_that_decided_then(directory: Path) -> None:
    """A field that only a later policy lets out was not exposed before it."""

    def fields(since: str, until: str) -> dict[str, int]:
        found = _report(directory, "--since", since, "--until", until, "-a", "crm")
        return {row["path"]: len(row["policies"]) for row in found["outputs"][0]["fields"]}

    early = fields("2026-11-22T00:00:00Z", "2026-11-22T01:00:00Z")
    both = fields("2026-11-22T00:00:00Z", "2026-11-22T18:00:00Z")
    assert early == {"kind": 1, "customer_id": 1, "occurred_at": 1}
    assert both == {"kind": 2, "customer_id": 2, "occurred_at": 2, "email": 1}
    ads = _report(directory, "--since", "2026-11-22T13:00:00Z", "-a", "ads")["outputs"][0]
    assert {row["path"] for row in ads["fields"]} == {"kind", "customer_id", "occurred_at"}


def test_records_whose_time_is_rounded_down_are_not_missed(directory: Path) -> None:
    """A partner's records stand at the beginning of their day."""
    found = _report(directory, "--since", "2026-11-22T15:00:00Z", "-a", "ads")["outputs"][0]
    assert (found["records"], found["timestamps"], found["erased_since"]) == (1, "day", None)


def test_what_is_not_known_is_said(directory: Path) -> None:
    """A time before the archive, a text that was changed or lost, schemas that cannot be read, a topic that is gone."""
    before = _report(directory, "--since", "2026-01-01T00:00:00Z")
    assert any("before the archive" in words for words in before["not_known"])
    for text in (directory / "state" / "policies").glob("*.yaml"):
        text.write_text(text.read_text() + "\n# changed\n")
    changed = _report(directory, "--since", "2026-11-22T00:00:00Z")
    assert sum("is not in the archive any more" in words for words in changed["not_known"]) == 2
    assert [each["fields"] for each in changed["outputs"]] == [[], []]


def test_schemas_that_cannot_be_read_leave_the_fields_unknown(directory: Path) -> None:
    """The rest of the answer stands."""
    (directory / "schemas" / "customer.interactions-value.avsc").unlink()
    (found,) = _report(directory, "--since", "2026-11-22T00:00:00Z", "-a", "crm")["outputs"]
    assert (found["fields"], found["records"]) == ([], 5)
    assert any("schemas of interactions cannot be read" in words for words in found["not_known"])


def test_an_output_that_no_policy_knows_is_no_empty_report(directory: Path) -> None:
    """A slip of the pen must not read as if nothing had leaked."""
    for wrong in (("-a", "cmr"), ("-s", "interaction")):
        command = [
            "report",
            "breach",
            "--since",
            "2026-11-22T00:00:00Z",
            *wrong,
            "-c",
            str(directory / "tokenweir.yaml"),
        ]
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, result.stdout) == (2, ""), result.output


@pytest.mark.parametrize("arguments", [(), ("--since", "yesterday"), ("--since", "2999-01-01T00:00:00Z")])
def test_a_span_must_be_one(directory: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    result = CliRunner().invoke(app, ["report", "breach", *arguments, "-c", str(directory / "tokenweir.yaml")])
    assert result.exit_code == 2


def test_people_read_it_as_tables(directory: Path) -> None:
    """The same in words."""
    command = [
        "report",
        "breach",
        "--since",
        "2026-11-22T00:00:00Z",
        "--tokens",
        "-c",
        str(directory / "tokenweir.yaml"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "3 people in 5 records, 1 of them erased since; 1 records have no key" in result.stdout
    assert "  4444444444" in result.stdout
