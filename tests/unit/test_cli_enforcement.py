"""What ``consent revoke`` and ``consent status`` write, refuse, and show of a barrier's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.topicwriter import Acknowledged
from tokenweir.app import consentwriter, enforcement
from tokenweir.app.consentwriter import withdrawn
from tokenweir.app.enforcement import Positions
from tokenweir.cli import app
from tokenweir.cli.enforcement import Teller
from tokenweir.core.consent import UNDECODABLE, Decision, SourceState
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.barrier import Cause, Holdup, OutputReading, Report, State, Withdrawal
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.survey import GroupReading, PartitionReading

_POLICY = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
_NOW_MS = 1_700_000_000_000
_POSITION = ConsentPosition("id-1", "policy-1", {0: 3, 1: 8})
_READING = PartitionReading("raw", 0, "gw.s.0 on host", Committed(5, _POSITION.encode()), _POSITION, _NOW_MS + 1)
_BLIND = PartitionReading("raw", 1, "", KafkaFault("read", "UNSTABLE_OFFSET_COMMIT"), None, _NOW_MS + 1)
_GROUP = GroupReading("gw.s", "s", members=1, partitions=(_READING,))
_ENFORCED = Report(
    State.ENFORCED,
    _NOW_MS + 9,
    groups=(_GROUP,),
    outputs=(OutputReading("raw.crm", 2, 41, _NOW_MS + 2, 43, _NOW_MS + 3),),
    not_known=("group gw.x is of no stream of this policy",),
)
_HOLDUP = Holdup(Cause.OFFSETS_UNSTABLE, "undecided, for 31 s", "gw.s", "raw", 1, "gw.s.1 on host", alarm=True)
_PENDING = Report(State.PENDING, _NOW_MS, (_HOLDUP,), (_GROUP,))


# What is written


def test_a_withdrawal_without_purposes_denies_all_and_keeps_the_rest() -> None:
    """`*` is denied now; every other decision stays as it was, with its date."""
    kept = Decision("allow", 1_000, None, "2026-10", "form 12")
    new = withdrawn(SourceState(1_000, {"ads": kept}, "US-CA", minor=True), [], _NOW_MS)
    assert new.decisions == {"ads": kept, "*": Decision("deny", _NOW_MS)}
    assert (new.decided_at_ms, new.jurisdiction, new.minor) == (_NOW_MS, "US-CA", True)


def test_a_withdrawal_of_purposes_denies_those() -> None:
    """A repeated deny counts from now, and nothing else changes."""
    old = {"ads": Decision("allow", 1_000), "mail": Decision("allow", 2_000), "sms": Decision("deny", 3_000)}
    new = withdrawn(SourceState(3_000, old), ["ads", "sms"], _NOW_MS)
    assert new.decisions == {
        "ads": Decision("deny", _NOW_MS),
        "mail": Decision("allow", 2_000),
        "sms": Decision("deny", _NOW_MS),
    }


def test_a_withdrawal_is_never_older_than_what_its_source_said_before() -> None:
    """An allow by a clock that is ahead must not win over it; on a tie the deny does."""
    ahead_ms = _NOW_MS + 60_000
    new = withdrawn(SourceState(ahead_ms, {"ads": Decision("allow", ahead_ms)}), [], _NOW_MS)
    assert new.decisions["*"] == Decision("deny", ahead_ms)


def test_the_first_word_of_a_source_may_be_a_withdrawal() -> None:
    """There need not be a state."""
    assert withdrawn(None, ["ads"], _NOW_MS) == SourceState(_NOW_MS, {"ads": Decision("deny", _NOW_MS)})


def test_a_state_that_cannot_be_read_is_not_replaced() -> None:
    """It denies everything already, and what else it says would be lost."""
    with pytest.raises(RefusedError):
        withdrawn(UNDECODABLE, [], _NOW_MS)


# Positions


def _positions() -> Positions:
    group = GroupReading("gw.s", "s", members=1, partitions=(_READING, _BLIND))
    missing = GroupReading("gw.t", "t", exists=False)
    return Positions("consent", "id-1", {0: 3, 1: 10, 2: 4}, (group, missing), _NOW_MS)


def test_behind_counts_what_is_missing_of_every_consent_partition() -> None:
    """Two of partition 1, and all four of one that the position does not name; nothing can be said without one."""
    positions = _positions()
    assert positions.behind(_READING) == 6
    assert positions.behind(_BLIND) is None
    other = ConsentPosition("id-0", "policy-1", {0: 3, 1: 10, 2: 4})
    assert positions.behind(PartitionReading("raw", 0, "", Committed(1, other.encode()), other, 0)) is None


@pytest.mark.parametrize(("partition", "offset"), [(3, 0), (1, 10), (1, -1)])
def test_a_withdrawal_must_be_on_the_topic(partition: int, offset: int) -> None:
    """Otherwise the answer would be about a record that does not exist."""
    with pytest.raises(UsageError):
        _positions().withdrawal(partition, offset)


def test_a_withdrawal_on_the_topic_is_one_of_its_present_incarnation() -> None:
    """The newest record is one."""
    assert _positions().withdrawal(1, 9) == Withdrawal("consent", "id-1", 1, 9)


# The command line


class _Topic:
    """A consent topic that takes one record."""

    name, topic_id = "consent", "id-1"

    def __init__(self, _config: object) -> None:
        self.withdraw = lambda _key, names, now_ms: (withdrawn(None, names, now_ms), Acknowledged(1, 7))


def _run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    (directory / "policy.yaml").write_text(_POLICY.read_text())
    config = directory / "tokenweir.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'nowhere.invalid:1'}\n")
    result = CliRunner().invoke(app, ["consent", *arguments, "--config", str(config)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """Let the topic take the withdrawal and the barrier answer what a test puts here."""
    answers: list[Report] = []
    monkeypatch.setattr(consentwriter, "ConsentTopic", _Topic)
    monkeypatch.setattr(enforcement, "await_enforcement", lambda *_arguments: answers[0])
    return answers


def test_enforced_is_shown_with_its_evidence(tmp_path: Path, answer: list[Report]) -> None:
    """As text and as JSON: the place, each position with its time, H and the last stable offset of each output."""
    answer.append(_ENFORCED)
    code, text, said = _run(tmp_path, "revoke", "customer:0000000001", "--wait", "5")
    json_code, document, told = _run(tmp_path, "revoke", "customer:0000000001", "--wait", "5", "--format", "json")

    assert code == json_code == 0
    assert "partition 1, offset 7" in text
    assert "ENFORCED after" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("raw.crm")] == [["raw.crm", "2", "41"]]
    assert "applied to 8" in text
    assert "not known: group gw.x" in said
    found: dict[str, Any] = json.loads(document)
    assert "partition 1, offset 7" in told
    assert (found["partition"], found["offset"], found["topic_id"]) == (1, 7, "id-1")
    assert found["state"]["decisions"]["*"]["decision"] == "deny"
    proof = found["enforcement"]
    assert proof["state"] == "ENFORCED"
    assert proof["at"] == "2023-11-14T22:13:20.009Z"
    assert proof["outputs"] == [
        {
            "topic": "raw.crm",
            "partition": 2,
            "high_watermark": 41,
            "high_watermark_read_at": "2023-11-14T22:13:20.002Z",
            "last_stable_offset": 43,
            "last_stable_offset_read_at": "2023-11-14T22:13:20.003Z",
        }
    ]
    (reading,) = proof["groups"][0]["partitions"]
    assert (reading["applied_to"], reading["position"], reading["topic_id"]) == (8, {"0": 3, "1": 8}, "id-1")
    assert reading["read_at"] == "2023-11-14T22:13:20.001Z"
    assert proof["not_known"] == list(_ENFORCED.not_known)


def test_pending_is_shown_with_what_holds_it_up(tmp_path: Path, answer: list[Report]) -> None:
    """Exit code 1, the partition, its worker, the reason and what to do, as text and as JSON."""
    answer.append(_PENDING)
    code, text, said = _run(tmp_path, "revoke", "customer:0000000001", "--wait", "5")
    json_code, document, _told = _run(tmp_path, "revoke", "customer:0000000001", "--wait", "5", "--format", "json")

    assert code == json_code == 1
    assert "PENDING after" in text
    assert "gw.s   raw    1          gw.s.1 on host  undecided, for 31 s" in text
    assert "alarm: offsets_unstable: restart the worker" in said
    (holdup,) = json.loads(document)["enforcement"]["holdups"]
    assert (holdup["cause"], holdup["partition"], holdup["alarm"]) == ("offsets_unstable", 1, True)


def test_not_running_is_no_success(tmp_path: Path, answer: list[Report]) -> None:
    """A script must not take it for enforced."""
    answer.append(Report(State.NOT_RUNNING, _NOW_MS, (Holdup(Cause.GROUP_EMPTY, "the group has no members", "gw.s"),)))
    code, text, _said = _run(tmp_path, "revoke", "customer:0000000001", "--wait", "5")
    assert code == 1
    assert "NOT_RUNNING after" in text


def test_without_wait_nothing_is_asked(tmp_path: Path, answer: list[Report]) -> None:
    """The place is all that is told, with exit code 0."""
    code, text, _said = _run(tmp_path, "revoke", "customer:0000000001", "email_marketing")
    assert (code, answer) == (0, [])
    assert text.splitlines() == ["customer:0000000001: withdrawal written to consent, partition 1, offset 7"]


def test_status_shows_every_partition(tmp_path: Path, answer: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read, what cannot be, which group is missing; with a place also the barrier's answer and exit code."""
    answer.append(_PENDING)
    monkeypatch.setattr(enforcement, "read_positions", lambda *_arguments: _positions())
    code, text, said = _run(tmp_path, "status")
    place_code, document, _told = _run(tmp_path, "status", "--partition", "1", "--offset", "7", "--format", "json")

    assert (code, place_code) == (0, 1)
    lines = [line.split() for line in text.splitlines()]
    assert ["gw.s", "raw", "0", "gw.s.0", "on", "host", "0:3,1:8", "6"] in lines
    assert "(read: UNSTABLE_OFFSET_COMMIT)" in text
    assert "(does not exist)" in text
    assert "ends at 0:3,1:10,2:4" in said
    found = json.loads(document)
    assert [each["behind"] for each in found["groups"][0]["partitions"]] == [6, None]
    assert found["groups"][1]["exists"] is False
    assert found["enforcement"]["state"] == "PENDING"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", "customer:0000000001", "emial_marketing"], "did you mean 'email_marketing'?"),
        (["revoke", "customer:0000000001#web", "--source", "app"], "two sources"),
        (["revoke", "customer:0000000001", "--wait", "-1"], "--wait"),
        (["status", "--partition", "1"], "give both"),
        (["status", "--offset", "1"], "give both"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_broker_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """Exit code 2 and one sentence."""
    monkeypatch.setattr(Admin, "__init__", lambda *_arguments: pytest.fail("a broker was asked"))
    code, _text, told = _run(tmp_path, *arguments)
    assert code == 2
    assert said in told


def test_what_is_waited_for_is_told_in_short_and_an_alarm_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list of places stands in the report at the end, and nowhere else."""
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr("tokenweir.cli.enforcement.time.monotonic", lambda: next(clock))
    teller = Teller()
    behind = [Holdup(Cause.BEHIND, "behind", "gw.s", "raw", number) for number in range(3)]
    for holdups in ((*behind, _HOLDUP), (*behind, _HOLDUP), (behind[0], _HOLDUP), (behind[1], _HOLDUP)):
        teller(Report(State.PENDING, _NOW_MS, holdups))
    assert capsys.readouterr().err.splitlines() == [
        "waiting for 4: 3 behind, 1 offsets_unstable",
        f"  alarm: {_HOLDUP}: {_HOLDUP.remedy}",
        "waiting for 2: 1 behind, 1 offsets_unstable",
    ]
