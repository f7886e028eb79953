"""``tokenweir consent acknowledge``: what it accepts, refuses and leaves denied, on a topic in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from tokenweir.adapters.admin import TopicDescription
from tokenweir.adapters.consentfiles import acknowledged
from tokenweir.adapters.consentstore import store_directory
from tokenweir.adapters.engines import engine_name
from tokenweir.app import acknowledgement
from tokenweir.cli import app

_POLICY = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
_TOPIC_ID = "id-1"
_PARTITION = 2
_SECRET = b"canary-7f3a"


class _Message(NamedTuple):
    """A record of the topic."""

    at: int
    raw_key: bytes | None
    raw_value: bytes | None = b"{}"

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value

    def offset(self) -> int:
        return self.at


# Offsets 0 and 5 were compacted away; 4 is a tombstone of a key that cannot be read.
_RECORDS = (
    _Message(1, b"customer:0000000001"),
    _Message(2, _SECRET),
    _Message(3, None),
    _Message(4, b"nobody", None),
    _Message(6, b"a:b:c"),
    _Message(7, b"customer:0000000002"),
)
_END = 8


class _Admin:
    """Answers for that topic of four partitions."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def describe_topic(self, name: str) -> TopicDescription:
        return TopicDescription(name, _TOPIC_ID, 4, None)

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    def high_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, _END)


def _read_until(_properties: object, _topic: str, spans: Mapping[int, tuple[int, int]]) -> Iterator[_Message]:
    assert spans == {_PARTITION: (0, _END)}
    yield from _RECORDS


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a gateway that has run; the topic is the one above."""
    monkeypatch.setattr(acknowledgement, "Admin", _Admin)
    monkeypatch.setattr(acknowledgement, "read_until", _read_until)
    (tmp_path / "policy.yaml").write_text(_POLICY.read_text())
    (tmp_path / "tokenweir.yaml").write_text("version: 1\nkafka: {bootstrap_servers: 'nowhere.invalid:1'}\n")
    store_directory(tmp_path / "state", engine_name()).mkdir(parents=True)
    return tmp_path


def _run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    config = ["--config", str(directory / "tokenweir.yaml")]
    result = CliRunner().invoke(app, ["consent", "acknowledge", *config, *arguments])
    return result.exit_code, result.stdout, result.stderr


def _accepted(directory: Path) -> dict[int, int]:
    return acknowledged(directory / "state", _TOPIC_ID)


def test_the_last_unreadable_key_is_accepted_with_those_before_it(directory: Path) -> None:
    """Exit code 0, and nothing of the keys is shown."""
    code, text, said = _run(directory, "2", "6", "--yes")
    assert (code, _accepted(directory)) == (0, {_PARTITION: 6})
    assert "3 unreadable keys of consent.decisions, partition 2, accepted up to offset 6" in text
    assert _SECRET.decode() not in text + said


def test_what_lies_behind_it_goes_on_denying(directory: Path) -> None:
    """Exit code 1 tells a script that everyone is still denied, as JSON does with the offsets."""
    code, text, said = _run(directory, "2", "2", "--yes", "--format", "json")
    assert (code, _accepted(directory)) == (1, {_PARTITION: 2})
    found = json.loads(text)
    assert (found["accepted"], found["remaining"], found["topic_id"]) == ([2], [3, 6], _TOPIC_ID)
    assert "2 unreadable keys of this partition remain, the last at offset 6: every subject stays denied" in said


def test_a_record_that_was_deleted_since_can_be_accepted(directory: Path) -> None:
    """The store was blocked by it, and remembers its offset only."""
    code, _text, said = _run(directory, "2", "0", "--yes")
    assert (code, _accepted(directory)) == (1, {_PARTITION: 0})
    assert "no record with an unreadable key is there any more" in said


@pytest.mark.parametrize(
    ("partition", "offset", "said"),
    [
        ("4", "0", "has partitions 0 to 3, not 4"),
        ("2", "8", "nothing is at offset 8 of partition 2: it ends at 8"),
        ("2", "1", "the record at offset 1 of partition 2 does not deny everyone; none before it does"),
        (
            "2",
            "4",
            "the record at offset 4 of partition 2 does not deny everyone; the last before it that does is at 3",
        ),
        ("2", "-1", "OFFSET"),
        ("-1", "2", "PARTITION"),
    ],
)
def test_another_place_is_refused(directory: Path, partition: str, offset: str, said: str) -> None:
    """A typing error must not accept what nobody has looked at: exit code 2, and nothing is written."""
    code, _text, told = _run(directory, "--yes", "--", partition, offset)
    assert (code, _accepted(directory)) == (2, {})
    assert said in told


def test_without_a_terminal_it_has_to_be_said(directory: Path) -> None:
    """Exit code 2, and nothing is written."""
    code, _text, said = _run(directory, "2", "6")
    assert (code, _accepted(directory)) == (2, {})
    assert "whatever 3 unreadable keys of partition 2 meant is given up, which cannot be taken back" in said
    assert "nothing was written: there is no terminal to ask at; say --yes" in said


def test_it_is_done_where_the_gateway_runs(directory: Path) -> None:
    """Elsewhere it would have no effect, and nobody would notice."""
    store_directory(directory / "state", engine_name()).rmdir()
    code, _text, said = _run(directory, "2", "6", "--yes")
    assert code == 3
    assert "no gateway has run with this state directory" in said
    assert not store_directory(directory / "state", engine_name()).exists()
