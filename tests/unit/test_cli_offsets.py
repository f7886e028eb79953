"""What ``offsets show`` and ``offsets set`` say, refuse and write, against a cluster that a test makes up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tokenweir.adapters.admin import Isolation, Member, TopicDescription
from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.app import offsets
from tokenweir.app.offsetplan import Move, Target, Where, target_of
from tokenweir.cli import app
from tokenweir.core.policy.loader import load_policy
from tokenweir.errors import UsageError
from tokenweir.runtime.offsets import OffsetState, PartitionOffset
from tokenweir.runtime.position import ConsentPosition, Source
from tokenweir.runtime.statelock import holder, open_lock, try_lock

_POLICY = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
_LOADED = load_policy(_POLICY.read_text(), str(_POLICY))
_STREAM = next(iter(_LOADED.policy.streams))
_TOPIC = _LOADED.policy.streams[_STREAM].source.topic
_GROUP = f"tokenweir.{_STREAM}"
_CONSENT = {0: 3, 1: 8}


class _Cluster:
    """A source of four partitions with the offsets 10 to 49, and a consent topic of two."""

    def __init__(self) -> None:
        self.committed_now: dict[int, Committed | KafkaFault] = dict.fromkeys(range(4), _committed(20))
        self.members_now: list[tuple[Member, ...]] = [()]
        self.missing = ""
        self.ids: dict[str, str] = {}
        self.partitions = 4
        self.low = 10
        self.consent = dict(_CONSENT)
        self.requests: list[dict[int, tuple[int, str]]] = []
        self.set_fault: KafkaFault | None = None
        self.takes = True

    def describe_topic(self, name: str) -> TopicDescription:
        """Return the topic."""
        if name == self.missing:
            raise KafkaFault(f"describe topic {name}", "UNKNOWN_TOPIC_OR_PART")
        partitions = self.partitions if name == _TOPIC else 2
        return TopicDescription(name, self.ids.get(name, f"id-{name}"), partitions, None)

    def members(self, _group: str) -> tuple[Member, ...]:
        """Return the members; the last answer stays."""
        return self.members_now.pop(0) if len(self.members_now) > 1 else self.members_now[0]

    def committed_each(
        self, _group: str, _topic: str, partitions: Iterable[int]
    ) -> Mapping[int, Committed | KafkaFault]:
        """Return what is committed."""
        return {number: self.committed_now[number] for number in partitions}

    def committed(self, _group: str, _topic: str, partitions: Iterable[int]) -> Mapping[int, Committed | KafkaFault]:
        """Return what is committed."""
        return {number: self.committed_now[number] for number in partitions}

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return 10, unless records were deleted."""
        return dict.fromkeys(partitions, self.low)

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], _isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Return 50, or the ends of the consent topic."""
        return dict.fromkeys(partitions, 50) if topic == _TOPIC else dict(self.consent)

    def offsets_at(self, _topic: str, partitions: Iterable[int], timestamp_ms: int) -> Mapping[int, int | None]:
        """Return an offset that was written a second per offset after 1970, none after the newest."""
        second = timestamp_ms // 1000
        return dict.fromkeys(partitions, second if second < 50 else None)

    def set_committed(self, _group: str, _topic: str, stored: Mapping[int, tuple[int, str]]) -> None:
        """Take offsets."""
        self.requests.append(dict(stored))
        if self.set_fault is not None:
            raise self.set_fault
        if self.takes:
            self.committed_now |= {number: Committed(*each) for number, each in stored.items()}


def _committed(
    offset: int,
    *,
    consent: Mapping[int, int] | None = None,
    topic_id: str = "id-consent.decisions",
    source_id: str = "",
) -> Committed:
    source = Source(source_id or f"id-{_TOPIC}", 4)
    return Committed(offset, ConsentPosition(topic_id, _LOADED.digest, consent or _CONSENT, source).encode())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> _Cluster:
    """A cluster in which all is well and no gateway runs."""
    made = _Cluster()
    monkeypatch.setattr(offsets, "Admin", lambda *_arguments: made)
    return made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration beside its policy."""
    (tmp_path / "policy.yaml").write_text(_POLICY.read_text())
    path = tmp_path / "tokenweir.yaml"
    path.write_text("version: 1\nkafka: {bootstrap_servers: 'nowhere.invalid:1'}\n")
    return path


def _run(config: Path, *arguments: str, given: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["offsets", *arguments, "--config", str(config)], input=given)
    return result.exit_code, result.stdout, result.stderr


# Where to


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("earliest", Target(Where.EARLIEST)),
        ("latest", Target(Where.LATEST)),
        ("committed", Target(Where.COMMITTED)),
        ("0", Target(Where.OFFSET, 0)),
        ("1970-01-01T00:00:20+00:00", Target(Where.TIME, 20_000)),
    ],
)
def test_targets(text: str, target: Target) -> None:
    """Words, numbers and times."""
    assert target_of(text) == target


@pytest.mark.parametrize("text", ["", "-1", "newest", "2026-11-22", "offset", "time", "1e3", "9" * 19])
def test_no_targets(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError, match="--to takes"):
        target_of(text)


# What a move does


def _place(committed: int | None, *, former: bool = False, low: int = 10) -> PartitionOffset:
    return PartitionOffset("raw", 0, committed, "", low, 50, OffsetState.OK, former)


@pytest.mark.parametrize(
    ("place", "to", "effect"),
    [
        (_place(20), 20, "stays where it is; only the consent position is written anew"),
        (_place(20), 50, "skips up to 30 records: they will never be sanitized"),
        (_place(49), 50, "skips up to 1 record: they will never be sanitized"),
        (_place(20), 10, "processes up to 10 records again: their sanitized records will be doubled"),
        (_place(3), 10, "up to 7 records were deleted before anyone read them"),
        (
            _place(3),
            30,
            (
                "up to 7 records were deleted before anyone read them; "
                "skips up to 20 records: they will never be sanitized"
            ),
        ),
        (
            _place(None),
            20,
            (
                "what was processed is not known; "
                "skips up to 10 records: those that were not sanitized yet never will be; "
                "processes up to 30 records: if they were already, their sanitized records will be doubled"
            ),
        ),
        (
            _place(90),
            10,
            (
                "what was processed is not known; "
                "processes up to 40 records: if they were already, their sanitized records will be doubled"
            ),
        ),
        (
            _place(20, former=True),
            50,
            "what was processed is not known; skips up to 40 records: those that were not sanitized yet never will be",
        ),
    ],
)
def test_effects_in_words(place: PartitionOffset, to: int, effect: str) -> None:
    """Each record between the two places is counted once, and gone ones apart."""
    assert Move(place, to).effect == effect


# show


def test_all_is_well(cluster: _Cluster, config: Path) -> None:
    """Exit code 0; each partition with its lag, its consent and its policy."""
    cluster.committed_now[1] = _committed(50, consent={0: 3, 1: 6})
    code, text, said = _run(config, "show")
    assert code == 0
    lines = [line.split() for line in text.splitlines()]
    assert [_STREAM, "0", "20", "10", "50", "30", "ok", "up", "to", "date", "this", "one"] in lines
    assert [_STREAM, "1", "50", "10", "50", "0", "ok", "2", "behind", "this", "one"] in lines
    assert "no members: the gateway is not running" in said


def test_what_is_wrong_is_shown_with_what_to_do(cluster: _Cluster, config: Path) -> None:
    """Exit code 3, as text and as JSON; one command repairs all that are wrong."""
    cluster.committed_now = {
        0: _committed(3),
        1: Committed(None, ""),
        2: Committed(20, "by another tool"),
        3: _committed(30),
    }
    code, text, said = _run(config, "show", "--stream", _STREAM)
    json_code, document, _ = _run(config, "show", "--format", "json")
    assert code == json_code == 3
    assert f"tokenweir offsets set {_STREAM} 0 1 --to" in said
    assert "none: set by another tool" in text
    partitions = json.loads(document)["streams"][0]["partitions"]
    assert [each["state"] for each in partitions] == ["lost", "missing", "ok", "ok"]
    assert [each["lag"] for each in partitions] == [None, None, 30, 20]
    assert partitions[0]["problem"].startswith(f"the committed offset 3 of {_TOPIC}-0 lies before its first record")


def test_what_passes_by_itself_is_no_failure(cluster: _Cluster, config: Path) -> None:
    """An undecided transaction is told with what to do if it stays; a group that never began with its setting."""
    cluster.committed_now[0] = UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT")
    code, text, said = _run(config, "show")
    assert (code, "unstable" in text) == (0, True)
    assert "ends by itself after 15 seconds; if it stays, start the gateway and stop it again" in said
    cluster.members_now = [(Member("tokenweir.s.0", "/10.0.0.1", frozenset()),)]
    code, _text, said = _run(config, "show")
    assert (code, "start the gateway" in said) == (0, False)
    assert "the gateway is up" in said
    assert "restart the instance of the gateway whose worker began it" in said
    cluster.members_now = [()]
    cluster.committed_now = dict.fromkeys(range(4), Committed(None, ""))
    code, text, said = _run(config, "show")
    assert (code, text.count(" new ")) == (0, 4)
    assert "gateway.start is 'earliest'" in said


def test_another_consent_topic_and_a_missing_source_are_told(cluster: _Cluster, config: Path) -> None:
    """Both end with 3."""
    cluster.committed_now[2] = _committed(20, topic_id="id-0")
    code, text, said = _run(config, "show")
    assert (code, "of another consent topic" in text) == (3, True)
    assert f"'tokenweir offsets set {_STREAM} --all --to committed --config {config}' moves no offset" in said
    cluster.missing = _TOPIC
    code, _text, said = _run(config, "show")
    assert (code, f"{_TOPIC} does not exist" in said) == (3, True)
    cluster.missing = "consent.decisions"
    code, _text, said = _run(config, "show")
    assert (code, said) == (3, "error: topic consent.decisions does not exist\n")


# set


def test_offsets_are_set_in_one_request_with_the_consent_of_now(cluster: _Cluster, config: Path) -> None:
    """The next worker waits until it has applied all consent that there is; other partitions stay untouched."""
    code, _text, said = _run(config, "set", _STREAM, "0", "3", "--to", "earliest", "--yes")
    assert code == 0, said
    position = ConsentPosition("id-consent.decisions", _LOADED.digest, _CONSENT, Source(f"id-{_TOPIC}", 4))
    assert cluster.requests == [{0: (10, position.encode()), 3: (10, position.encode())}]
    assert "partition 3: 20 -> 10: processes up to 10 records again" in said
    assert "set and read back: the offsets of 2 partitions" in said


@pytest.mark.parametrize(
    ("to", "after"),
    [
        ("latest", 50),
        ("44", 44),
        ("committed", 20),
        ("1970-01-01T00:00:33Z", 33),
        ("2026-01-01T00:00:00Z", 50),
    ],
)
def test_every_target(cluster: _Cluster, config: Path, to: str, after: int) -> None:
    """A time after the newest record is the end."""
    code, document, said = _run(config, "set", _STREAM, "--all", "--to", to, "--yes", "--format", "json")
    assert code == 0, said
    done: dict[str, Any] = json.loads(document)
    assert [each["after"] for each in done["partitions"]] == [after] * 4
    assert [each["skipped"] for each in done["partitions"]] == [after - 20] * 4
    assert done["consent_position"] == {"0": 3, "1": 8}
    assert {stored[0] for stored in cluster.requests[0].values()} == {after}


def test_accepting_another_consent_topic_keeps_offsets_and_says_what_is_forgotten(
    cluster: _Cluster, config: Path
) -> None:
    """A partition that has not begun is left alone."""
    old = Committed(20, ConsentPosition("id-0", "p", {0: 1}, Source(f"id-{_TOPIC}", 3)).encode())
    cluster.committed_now = {0: old, 1: old, 2: old, 3: Committed(None, "")}
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "committed", "--yes")
    assert code == 0, said
    assert "is not on the present one is forgotten" in said
    assert {number: stored[0] for number, stored in cluster.requests[0].items()} == {0: 20, 1: 20, 2: 20}
    stored = ConsentPosition.parse(cluster.requests[0][0][1])
    assert stored is not None
    assert stored.source == Source(f"id-{_TOPIC}", 3)


def test_a_group_that_is_set_in_part_only_begins_nowhere_else(cluster: _Cluster, config: Path) -> None:
    """Whoever says where one partition begins must say it for all: the others are missing and not new."""
    cluster.committed_now = dict.fromkeys(range(4), Committed(None, ""))
    assert _run(config, "set", _STREAM, "0", "--to", "latest", "--yes")[0] == 0
    _code, document, _said = _run(config, "show", "--format", "json")
    states = [each["state"] for each in json.loads(document)["streams"][0]["partitions"]]
    assert states == ["ok", "missing", "missing", "missing"]


def test_a_running_gateway_is_not_pulled_aside(cluster: _Cluster, config: Path) -> None:
    """Exit code 3, who it is, and what to do; nothing is written."""
    cluster.members_now = [(Member("tokenweir.s.0", "/10.0.0.1", frozenset()),)]
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert (code, cluster.requests) == (3, [])
    assert "has 1 member (tokenweir.s.0 on 10.0.0.1)" in said
    assert "stop every instance of the gateway first" in said


def test_undecided_offsets_are_not_set(cluster: _Cluster, config: Path) -> None:
    """Their transaction could still win."""
    cluster.committed_now[1] = UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT")
    code, _text, said = _run(config, "set", _STREAM, "0", "--to", "latest", "--yes")
    assert (code, cluster.requests) == (3, [])
    assert f"offsets of {_TOPIC} (1) hang on an undecided transaction" in said


def test_a_gateway_that_starts_meanwhile_wins(cluster: _Cluster, config: Path) -> None:
    """The broker refuses, and it is said why."""
    cluster.members_now = [(), (), (Member("tokenweir.s.0", "/10.0.0.1", frozenset()),)]
    cluster.set_fault = KafkaFault("set", "UNKNOWN_MEMBER_ID")
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert code == 3
    assert "has 1 member" in said


def test_a_broker_that_does_not_answer_leaves_it_open(cluster: _Cluster, config: Path) -> None:
    """It may have been done."""
    cluster.set_fault = KafkaFault("set", "_TIMED_OUT", retriable=True)
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert code == 3
    assert "not known whether the offsets were set" in said


def test_what_is_read_back_must_be_what_was_written(cluster: _Cluster, config: Path) -> None:
    """Success is only what the broker confirms."""
    cluster.takes = False
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert code == 3
    assert "are not what was written" in said


def test_without_a_terminal_it_is_a_rehearsal(cluster: _Cluster, config: Path) -> None:
    """What it would do is shown, exit code 2, and nothing is written."""
    code, _text, said = _run(config, "set", _STREAM, "1", "--to", "latest", given=f"{_STREAM}\n")
    assert (code, cluster.requests) == (2, [])
    assert "skips up to 30 records: they will never be sanitized" in said
    assert "nothing was written: there is no terminal to ask at; say --yes" in said


@pytest.mark.parametrize(("typed", "code"), [(_STREAM, 0), ("yes", 3)])
def test_on_a_terminal_the_name_is_typed(
    cluster: _Cluster, config: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    """Any other word is a refusal."""
    monkeypatch.setattr("tokenweir.cli.asking.can_ask", lambda: True)
    found, _text, said = _run(config, "set", _STREAM, "1", "--to", "latest", given=f"{typed}\n")
    assert (found, len(cluster.requests)) == (code, 1 if code == 0 else 0)
    assert f"type the name of the stream ({_STREAM})" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([_STREAM, "--to", "latest"], "name partitions, or say --all"),
        ([_STREAM, "1", "--all", "--to", "latest"], "partitions and --all exclude each other"),
        ([_STREAM, "--all"], "--to"),
        ([_STREAM, "--all", "--to", "newest"], "--to takes"),
        (["nothing", "--all", "--to", "latest"], f"there is no stream 'nothing': the policy has {_STREAM}"),
        ([_STREAM[1:], "--all", "--to", "latest"], f"did you mean '{_STREAM}'?"),
        ([_STREAM, "-1", "--to", "latest"], "-1"),
        ([_STREAM, "4", "--to", "latest"], "has the partitions 0 to 3, and not 4"),
        ([_STREAM, "1", "--to", "51"], "has the offsets 10 to 50, and not 51"),
        ([_STREAM, "1", "--to", "9"], "has the offsets 10 to 50, and not 9"),
        ([_STREAM, "0", "--to", "committed"], "there is nothing to keep by --to committed"),
    ],
)
def test_what_cannot_be_meant_is_2(cluster: _Cluster, config: Path, arguments: list[str], said: str) -> None:
    """One sentence, and nothing is written."""
    cluster.committed_now[0] = Committed(None, "")
    code, _text, told = _run(config, "set", *arguments, "--yes")
    assert (code, cluster.requests) == (2, [])
    assert said in told


def test_a_stream_that_does_not_exist_cannot_be_shown(cluster: _Cluster, config: Path) -> None:
    """Exit code 2 and those that do."""
    code, _text, said = _run(config, "show", "--stream", "nothing")
    assert (code, f"the policy has {_STREAM}" in said, cluster.requests) == (2, True, [])


# Between what is shown and what is written


def _moved(cluster: _Cluster) -> None:
    cluster.committed_now[0] = _committed(23)


def _decided_anew(cluster: _Cluster) -> None:
    cluster.committed_now[0] = _committed(20, consent={0: 3, 1: 7})


def _forgotten(cluster: _Cluster) -> None:
    cluster.committed_now[3] = Committed(None, "")


def _undecided(cluster: _Cluster) -> None:
    cluster.committed_now[0] = UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT")


def _made_anew(cluster: _Cluster) -> None:
    cluster.ids[_TOPIC] = "another"


def _grown(cluster: _Cluster) -> None:
    cluster.partitions = 5
    cluster.committed_now[4] = Committed(None, "")


def _expired(cluster: _Cluster) -> None:
    cluster.low = 11


def _other_consent(cluster: _Cluster) -> None:
    cluster.ids["consent.decisions"] = "another"


def _joined(cluster: _Cluster) -> None:
    cluster.members_now = [(Member("tokenweir.s.0", "/10.0.0.1", frozenset()),)]


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (_moved, f"the committed offset of {_TOPIC}-0 was 20, and is 23 now"),
        (_decided_anew, f"another consent position stands beside the committed offset of {_TOPIC}-0"),
        (_forgotten, f"the committed offset of {_TOPIC}-3 was 20, and is none now"),
        (_undecided, f"the offset of {_TOPIC}-0 hangs on an undecided transaction"),
        (_made_anew, f"{_TOPIC} was deleted and created again"),
        (_grown, f"{_TOPIC} was deleted and created again, or has another number of partitions"),
        (_expired, f"{_TOPIC}-1 has the offsets 11 to 50, and not 10"),
        (_other_consent, "the consent topic is another one"),
        (_joined, "has 1 member"),
    ],
)
def test_a_plan_is_not_carried_out_once_it_is_outdated(
    cluster: _Cluster,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[_Cluster], None],
    said: str,
) -> None:
    """While the prompt waits, a gateway may start, work and stop: its records must not be processed again."""

    def answer(*_arguments: object, **_named: object) -> str:
        happens(cluster)
        return _STREAM

    monkeypatch.setattr("tokenweir.cli.asking.can_ask", lambda: True)
    monkeypatch.setattr("tokenweir.cli.asking.typer.prompt", answer)
    code, _text, told = _run(config, "set", _STREAM, "1", "--to", "earliest")
    assert (code, cluster.requests) == (3, [])
    assert said in told


def test_the_consent_position_is_of_the_moment_of_the_write(
    cluster: _Cluster, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A withdrawal that is written while the prompt waits is waited for by the next worker."""

    def answer(*_arguments: object, **_named: object) -> str:
        cluster.consent = {0: 4, 1: 9}
        return _STREAM

    monkeypatch.setattr("tokenweir.cli.asking.can_ask", lambda: True)
    monkeypatch.setattr("tokenweir.cli.asking.typer.prompt", answer)
    code, document, said = _run(config, "set", _STREAM, "1", "--to", "committed", "--format", "json")
    assert code == 0, said
    position = ConsentPosition.parse(cluster.requests[0][1][1])
    assert position is not None
    assert position.offsets == {0: 4, 1: 9}
    assert json.loads(document)["consent_position"] == {"0": 4, "1": 9}


def test_the_consent_position_never_goes_back(cluster: _Cluster, config: Path) -> None:
    """Not even below what stands there of a consent topic that has lost its end; another topic's is no measure."""
    cluster.committed_now |= {
        0: _committed(20, consent={0: 5, 1: 2}),
        1: _committed(20, consent={0: 1, 1: 9}),
        2: Committed(20, ConsentPosition("id-0", "p", {0: 99, 1: 99}, None).encode()),
    }
    code, _text, said = _run(config, "set", _STREAM, "0", "--to", "committed", "--yes")
    assert code == 0, said
    position = ConsentPosition.parse(cluster.requests[0][0][1])
    assert position is not None
    assert position.offsets == {0: 5, 1: 9}


def test_no_gateway_of_this_machine_starts_meanwhile(
    cluster: _Cluster, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the state directory is held from the last look to the end, and marked as held in passing."""
    found: list[tuple[bool, bool]] = []

    def look(*arguments: Any) -> None:  # noqa: ANN401 - whatever the cluster takes.
        with open_lock(config.parent / "state") as lock:
            found.append((try_lock(lock, passing=False), holder(lock).passing))
        set_committed(*arguments)

    set_committed = cluster.set_committed
    monkeypatch.setattr(cluster, "set_committed", look)
    assert _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")[0] == 0
    assert found == [(False, True)]

    with open_lock(config.parent / "state") as lock:
        assert try_lock(lock, passing=False)
        code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert (code, len(cluster.requests)) == (3, 1)
    assert "a gateway, or a replay, uses this state directory" in said


def test_a_gateway_that_has_started_right_after_is_told(cluster: _Cluster, config: Path) -> None:
    """On another machine nothing holds it back: where it goes on from is not known."""
    cluster.members_now = [(), (), (Member("tokenweir.s.0", "/10.0.0.1", frozenset()),)]
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert (code, len(cluster.requests)) == (3, 1)
    assert "the offsets were set, but group" in said
    assert "has got 1 member (tokenweir.s.0 on 10.0.0.1) meanwhile" in said


def test_what_cannot_be_read_back_is_not_called_undone(
    cluster: _Cluster, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write has been confirmed before."""

    def committed(*_arguments: object) -> None:
        raise KafkaFault("read", "_TIMED_OUT", retriable=True)

    monkeypatch.setattr(cluster, "committed", committed)
    code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert (code, len(cluster.requests)) == (3, 1)
    assert "the offsets were set, but cannot be read back" in said


def test_what_somebody_else_wrote_does_not_steer_the_terminal(cluster: _Cluster, config: Path) -> None:
    """Whoever may join the group or commit for it chooses these texts."""
    cluster.committed_now[1] = Committed(20, "tw1;id-consent.decisions;\x1b[2J\x9b;0:3,1:8")
    _code, text, _said = _run(config, "show")
    _code, document, _said = _run(config, "show", "--format", "json")
    cluster.members_now = [(Member("\x1b]0;pwned\x07", "/10.0.0.1", frozenset()),)]
    _code, _text, said = _run(config, "set", _STREAM, "--all", "--to", "latest", "--yes")
    assert not {"\x1b", "\x07", "\x9b"} & {*text, *document, *said}
    assert (r"\x1b[2J" in text, r"\x1b]0;pwned\x07" in said) == (True, True)
    assert json.loads(document)["streams"][0]["partitions"][1]["policy_digest"] == "\x1b[2J\x9b"
