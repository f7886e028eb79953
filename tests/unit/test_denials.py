"""What denies everybody or one subject against the decisions on the topic, as each verb shows it: a topic in memory."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from tests.support.canaries import Canary, leaked
from typer.testing import CliRunner

from tokenweir.adapters.admin import TopicDescription
from tokenweir.adapters.consentfiles import Seal, acknowledge, tell_blocked
from tokenweir.adapters.consentstore import store_directory
from tokenweir.adapters.engines import engine_name
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.kek import open_kek
from tokenweir.adapters.keysource import init_keyset
from tokenweir.adapters.topicwriter import Acknowledged
from tokenweir.app import acknowledgement, consentwriter, demodata, doctor, enforcement
from tokenweir.app.cluster import open_cluster
from tokenweir.app.consentwriter import Change, ConsentTopic, Found
from tokenweir.app.enforcement import Positions
from tokenweir.app.preview import Preview
from tokenweir.cli import app
from tokenweir.config import Config, load_config
from tokenweir.core.consent import ERASED_SOURCE, parse_key
from tokenweir.core.subjects import Subject, partition_of
from tokenweir.runtime import advice, children, preflight
from tokenweir.runtime import gateway as gateway_module
from tokenweir.runtime.blocks import blocks_of
from tokenweir.runtime.checks import Check
from tokenweir.runtime.children import ChildSpec
from tokenweir.runtime.sources import open_registry
from tokenweir.telemetry.logs import configure_logging

_TOPIC_ID = "id-1"
_PARTITIONS = 4
_NOW_MS = 1_700_000_000_000
_CANARY = b"canary-7f3a"
_ANN = b"customer:0000000001"
_RIGHT = partition_of(_ANN, _PARTITIONS)
_WRONG = (_RIGHT + 1) % _PARTITIONS
_DENY = b'{"version":1,"decided_at":"2023-11-01T00:00:00Z","decisions":{"*":"deny"}}'
_ALLOW = b'{"version": 1, "decided_at": "2023-11-01T00:00:00Z", "decisions": {"email_marketing": "allow"}}'


class _Message(NamedTuple):
    """A record of the topic."""

    number: int
    at: int
    raw_key: bytes | None
    raw_value: bytes | None = _ALLOW

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, _NOW_MS


class _Admin:
    """Answers for the topic; without one if it is missing."""

    def __init__(self, *_arguments: object, missing: bool = False) -> None:
        self._missing = missing

    def describe_topic(self, name: str) -> TopicDescription:
        if self._missing:
            raise KafkaFault("describe", "UNKNOWN_TOPIC_OR_PART")
        return TopicDescription(name, _TOPIC_ID, _PARTITIONS, None)

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    def high_watermarks(self, _topic: str, partitions: Iterable[int], _isolation: str = "") -> dict[int, int]:
        return dict.fromkeys(partitions, 1_000)

    def topic_config(self, _topic: str) -> dict[str, str]:
        return {"cleanup.policy": "compact"}


class _Writer:
    """Takes every record."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def write(self, _key: bytes, _value: bytes | None) -> Acknowledged:
        return Acknowledged(_RIGHT, 900)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[_Message]:
    """The records of the topic; a test puts them here."""
    found: list[_Message] = []

    def read_until(_properties: object, _topic: str, spans: Mapping[int, tuple[int, int]]) -> Iterator[_Message]:
        yield from (message for message in found if spans[message.number][0] <= message.at)

    for module in (consentwriter, advice):
        monkeypatch.setattr(module, "read_until", read_until)
    monkeypatch.setattr(consentwriter, "Admin", _Admin)
    monkeypatch.setattr(consentwriter, "TopicWriter", _Writer)
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The demo's files, beside the state of a gateway that has run and met nothing unreadable."""
    demodata.write(tmp_path, _NOW_MS, bytes(16))
    state = store_directory(tmp_path / "state", engine_name())
    state.mkdir(parents=True)
    tell_blocked(state, _TOPIC_ID, {})
    return tmp_path


@pytest.fixture
def store(directory: Path) -> Path:
    """The directory of the consent store."""
    return store_directory(directory / "state", engine_name())


@pytest.fixture
def config(directory: Path) -> Config:
    """The configuration of that gateway."""
    return load_config(directory / demodata.CONFIG, {})


def _run(directory: Path, *arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["consent", *arguments, "--config", str(directory / demodata.CONFIG)])
    assert result.exit_code == 0, result.output
    assert _CANARY.decode() not in result.output
    return result.stdout, result.stderr


def _answer(directory: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(_run(directory, "get", _ANN.decode(), "--format", "json")[0])
    return found


def _email(answer: dict[str, object]) -> object:
    answers = answer["answers"]
    assert isinstance(answers, dict)
    return answers["email_marketing"]["answer"]


# What denies everybody


def test_get_counts_what_was_acknowledged(directory: Path, store: Path, records: list[_Message]) -> None:
    """A key that cannot be read denies everybody, and no longer once the gateway of this machine accepted it."""
    records += [_Message(_RIGHT, 0, _ANN), _Message(3, 5, _CANARY)]
    denied, said = _answer(directory), _run(directory, "get", _ANN.decode())[1]
    acknowledge(store.parent, _TOPIC_ID, 3, 5)
    allowed, nothing = _answer(directory), _run(directory, "get", _ANN.decode())[1]

    assert (_email(denied), _email(allowed)) == ("deny", "allow")
    assert (denied["unreadable_keys"], allowed["unreadable_keys"]) == ({"3": 5}, {})
    assert denied["acknowledgements_counted"] is True
    assert "tokenweir consent acknowledge 3 5" in said
    assert "acknowledge" not in nothing


def test_get_says_where_no_acknowledgement_can_be_counted(
    directory: Path, store: Path, records: list[_Message]
) -> None:
    """Elsewhere nobody knows what the gateway has accepted, so it stays a deny that says so."""
    records += [_Message(_RIGHT, 0, _ANN), _Message(3, 5, _CANARY)]
    for file in store.iterdir():
        file.unlink()
    store.rmdir()
    answer, said = _answer(directory), _run(directory, "get", _ANN.decode())[1]

    assert (_email(answer), answer["acknowledgements_counted"]) == ("deny", False)
    assert "acknowledgements of this machine's gateway are not counted" in said


def test_preview_counts_what_was_acknowledged(directory: Path, store: Path, records: list[_Message]) -> None:
    """As `consent get` does, by the same code as the applier's."""
    records.append(_Message(3, 5, _CANARY))
    config, workspace = open_cluster(directory / demodata.CONFIG, {})

    def blocked() -> Mapping[int, int]:
        preview = Preview(config, workspace, open_registry(config))
        preview.show("interactions", [], _NOW_MS)
        return preview.blocks.offsets

    before = blocked()
    acknowledge(store.parent, _TOPIC_ID, 3, 5)
    assert (before, blocked()) == ({3: 5}, {})


def test_set_says_that_everybody_is_denied(directory: Path, records: list[_Message]) -> None:
    """What is written has no effect until somebody has looked at the key."""
    records.append(_Message(3, 5, _CANARY))
    text, said = _run(directory, "set", _ANN.decode(), "email_marketing=allow")
    assert "written to consent.decisions" in text
    assert "tokenweir consent acknowledge 3 5" in said


def test_status_says_what_the_gateway_has_met(
    directory: Path, store: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic is not read for it; where no gateway has said anything, that is said."""
    monkeypatch.setattr(
        enforcement,
        "read_positions",
        lambda *_: Positions("consent", _TOPIC_ID, {}, (), _NOW_MS, blocks_of(config, _TOPIC_ID, {})),
    )
    tell_blocked(store, _TOPIC_ID, {3: 5})
    denied = _run(directory, "status")[1]
    document = json.loads(_run(directory, "status", "--format", "json")[0])
    acknowledge(store.parent, _TOPIC_ID, 3, 5)
    accepted = _run(directory, "status")[1]
    tell_blocked(store, "another topic", {})
    unknown = _run(directory, "status")[1]

    assert "every subject is denied" in denied
    assert "tokenweir consent acknowledge 3 5" in denied
    assert (document["unreadable_keys"], document["unreadable_keys_known"]) == ({"3": 5}, True)
    assert "denied" not in accepted
    assert "is not known here" in unknown


def test_what_is_seen_and_what_the_gateway_met_add_up(config: Config, store: Path) -> None:
    """Of each partition the later record counts, and only what is behind the acknowledged one."""
    tell_blocked(store, _TOPIC_ID, {0: 7, 1: 4, 2: 1})
    acknowledge(store, _TOPIC_ID, 1, 4)
    acknowledge(store, _TOPIC_ID, 2, 1)
    found = blocks_of(config, _TOPIC_ID, {0: 3, 2: 9, 3: 0})
    assert found.offsets == {0: 7, 2: 9, 3: 0}
    assert found.commands[0] == "tokenweir consent acknowledge 0 7"
    assert (found.acknowledgements_read, found.gateway_heard) == (True, True)


# What doctor fails for, and run warns of


def _checks(config: Config, *, missing: bool = False) -> dict[str, Check]:
    return {each.name: each.check for each in advice.consent_advice(config, _Admin(missing=missing))}  # type: ignore[arg-type]  # Answers as much as is asked.


def test_an_unreadable_key_fails_until_it_is_acknowledged(config: Config, store: Path, records: list[_Message]) -> None:
    """The remedy is the command; what only the gateway has met counts too, and a tombstone is no way out."""
    assert _checks(config)["consent_unreadable"].ok
    records += [_Message(3, 600, _CANARY), _Message(3, 601, _CANARY, None), _Message(1, 2, _CANARY)]
    tell_blocked(store, _TOPIC_ID, {0: 7})

    found = _checks(config)["consent_unreadable"]
    assert not found.ok
    assert "every subject is denied" in found.message
    assert found.remedy.endswith("tokenweir consent acknowledge 0 7; tokenweir consent acknowledge 3 600")
    assert _CANARY.decode() not in str(found)
    for partition, offset in ((0, 7), (3, 600)):
        acknowledge(store, _TOPIC_ID, partition, offset)
    assert _checks(config)["consent_unreadable"].ok
    assert _checks(config, missing=True) == {}


def test_a_tombstone_in_its_place_takes_a_misplaced_key_away(config: Config, records: list[_Message]) -> None:
    """Of each key only its last record counts, and a tombstone anywhere else takes nothing away."""
    records += [_Message(_WRONG, 600, _ANN), _Message(_WRONG, 601, _ANN), _Message(_RIGHT, 602, _ANN, None)]
    misplaced = _checks(config)["consent_keys"]
    records.append(_Message(_WRONG, 603, _ANN, None))
    mended = _checks(config)["consent_keys"]
    records.append(_Message(_RIGHT, 604, b"customer:%30000000001"))
    records.append(_Message(_WRONG, 604, b"customer:%30000000001"))
    spelled = _checks(config)["consent_keys"]

    assert not misplaced.ok
    assert misplaced.message.endswith(f"1 key in a wrong partition ({_WRONG}@601)")
    assert "tombstone" in misplaced.remedy
    assert mended.ok
    assert not spelled.ok
    assert "0000000001" not in str(misplaced) + str(spelled)


def test_set_and_get_warn_of_a_misplaced_key(directory: Path, records: list[_Message]) -> None:
    """The decision is written and has no effect: the subject stays denied until the wrong record is taken away."""
    records += [_Message(_RIGHT, 0, _ANN), _Message(_WRONG, 1, _ANN)]
    denied, told = _answer(directory), _run(directory, "get", _ANN.decode())[1]
    said = _run(directory, "set", _ANN.decode(), "email_marketing=allow")[1]
    document = json.loads(_run(directory, "set", _ANN.decode(), "email_marketing=allow", "--format", "json")[0])
    other = _run(directory, "set", "customer:0000000002", "email_marketing=allow")[1]
    records.append(_Message(_WRONG, 2, _ANN, None))
    mended, nothing = _answer(directory), _run(directory, "set", _ANN.decode(), "email_marketing=allow")[1]

    assert (_email(denied), denied["misplaced_in"], document["misplaced_in"]) == ("deny", [_WRONG], [_WRONG])
    for text in (told, said):
        assert "the subject stays denied" in text
        assert f"with that very key to partition {_WRONG}" in text
    assert "stays denied" not in other + nothing
    assert (_email(mended), mended["misplaced_in"]) == ("allow", [])


def test_one_partition_is_not_enough_to_know(directory: Path, records: list[_Message]) -> None:
    """What keeps a subject denied may be in any partition, so a change reads them all."""
    records += [_Message(partition, 1, _ANN) for partition in range(_PARTITIONS) if partition != _RIGHT]
    config = load_config(directory / demodata.CONFIG, {})
    written = ConsentTopic(config).change(parse_key(_ANN), Change({}), _NOW_MS)
    assert written.misplaced == [partition for partition in range(_PARTITIONS) if partition != _RIGHT]


def test_a_keyset_that_others_can_read_is_told(directory: Path, config: Config, records: list[_Message]) -> None:
    """`run` opens it nevertheless, so it has to say so."""
    del records
    (directory / "keys").mkdir()
    keyset = directory / "keys" / "keyset.json"
    keyset.write_text("{}")
    keyset.chmod(0o644)
    (found,) = advice.warnings(config, _Admin())  # type: ignore[arg-type]  # As above.
    assert found.name == "keyset_mode"
    assert f"chmod 600 {keyset}" in str(found.check)
    keyset.chmod(0o600)
    assert advice.warnings(config, _Admin()) == []  # type: ignore[arg-type]  # As above.


def _canaries() -> list[Canary]:
    texts = (_CANARY.decode(), "0000000001", "canary-in-a-value")
    return [Canary.of_text(f"text {number}", text) for number, text in enumerate(texts)]


def _telling(records: list[_Message]) -> None:
    """Put everything on the topic that is told of: unreadable, misplaced, misspelled keys and garbled values."""
    records += [
        _Message(3, 600, _CANARY, b"canary-in-a-value"),
        _Message(_WRONG, 601, _ANN, b"canary-in-a-value"),
        _Message(partition_of(b"customer:%30000000001", _PARTITIONS), 602, b"customer:%30000000001"),
    ]


def test_a_start_warns_without_any_part_of_a_key(
    directory: Path, config: Config, records: list[_Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the words for the person who starts it nor the event start_warned have more than places."""
    _telling(records)
    said = io.StringIO()
    gateway: Any = SimpleNamespace(
        config=config, policy=lambda: SimpleNamespace(policy=SimpleNamespace(streams=[])), policy_directory=directory
    )
    monkeypatch.setattr(children, "Admin", _Admin)
    monkeypatch.setattr(children, "pinned_registry", lambda _config: SimpleNamespace(answered_from_files=False))
    monkeypatch.setattr(preflight, "checks", lambda *_: [])
    monkeypatch.setattr(preflight, "require", lambda _: None)
    monkeypatch.setattr("sys.stderr", said)
    try:
        configure_logging("debug", "json", process="preflight", stream=said)
        children._preflight(ChildSpec(gateway, "preflight"), threading.Event())
    finally:
        logging.getLogger().handlers.clear()
    lines = said.getvalue().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]

    assert [each["check"] for each in events if each["event"] == "start_warned"] == [
        "consent_keys",
        "consent_unreadable",
    ]
    assert len([line for line in lines if line.startswith("warning: ")]) == 2
    assert not leaked(_canaries(), said.getvalue().encode())


@pytest.mark.parametrize("form", ["text", "json"])
def test_doctor_says_nothing_of_a_key_or_a_value(
    directory: Path, records: list[_Message], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """It names places, and commands that have places."""
    _telling(records)
    monkeypatch.setattr(doctor, "Admin", _Admin)
    monkeypatch.setattr(doctor, "open_registry", lambda _config: None)
    monkeypatch.setattr(preflight, "checks", lambda *_: [Check("kafka", ok=True, message="answers")])
    command = ["doctor", "--format", form, "--config", str(directory / demodata.CONFIG)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "400"})

    assert result.exit_code == 3, result.output
    assert "consent acknowledge 3 600" in result.output
    assert f"{_WRONG}@601" in result.output
    assert not leaked(_canaries(), result.output.encode())


def test_an_erasure_of_another_keyset_is_shown_and_can_be_acknowledged(
    directory: Path, config: Config, records: list[_Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here nobody can know whom it denies; with the keyset that made it, it is a record like any other."""
    keys = directory / "keys"
    init_keyset(keys / "keyset.json", open_kek(config.keys.kek), ["crm"], datetime.now(UTC))
    ours = gateway_module.seal_if_open(config)
    assert ours is not None
    subject = parse_key(_ANN).subject
    for seal, is_ours in ((Seal(bytes(32), bytes(32)), False), (ours, True)):
        key = seal.hashed(subject).canonical.encode()
        place = partition_of(key, _PARTITIONS)
        records[:] = [_Message(place, 605, key, _DENY)]
        assert _checks(config)["consent_unreadable"].ok is is_ours
        found = _found(config, subject)
        if is_ours:
            assert ERASED_SOURCE in found.consent(subject).states
        else:
            assert found.blocks.offsets == {place: 605}
        monkeypatch.setattr(acknowledgement, "Admin", _Admin)
        monkeypatch.setattr(acknowledgement, "read_until", lambda *_: iter(records))
        command = ["consent", "acknowledge", str(place), "605", "--yes", "--config", str(directory / demodata.CONFIG)]
        assert CliRunner().invoke(app, command).exit_code == (2 if is_ours else 0)


def _found(config: Config, subject: Subject) -> Found:
    return ConsentTopic(config, gateway_module.seal_if_open(config)).read(lambda other: other == subject)


def test_an_import_about_an_erased_person_is_refused_as_a_whole(
    directory: Path, config: Config, records: list[_Message]
) -> None:
    """The lines are named by number; the allow would not count, and nobody is to believe that it does."""
    init_keyset(directory / "keys" / "keyset.json", open_kek(config.keys.kek), ["crm"], datetime.now(UTC))
    seal = gateway_module.seal_if_open(config)
    assert seal is not None
    key = seal.hashed(parse_key(_ANN).subject).canonical.encode()
    records.append(
        _Message(
            partition_of(key, _PARTITIONS),
            5,
            key,
            _DENY,
        )
    )
    line = '{"subject":"customer:000000000%d","version":1,"decided_at":"2023-11-01T00:00:00Z","decisions":{}}\n'
    command = ["consent", "import", "-", "--config", str(directory / demodata.CONFIG)]
    refused = CliRunner().invoke(app, command, input=line % 2 + line % 1)
    set_ = ["consent", "set", _ANN.decode(), "email_marketing=allow", "--config", str(directory / demodata.CONFIG)]
    not_set = CliRunner().invoke(app, set_)
    shown = _answer(directory)

    assert (refused.exit_code, not_set.exit_code, _email(shown)) == (3, 3, "deny")
    assert "line 2: this person was erased" in refused.stderr
    assert "0000000001" not in refused.stderr + not_set.stderr
