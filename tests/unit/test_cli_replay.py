"""What ``replay`` refuses, asks and shows."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import UnstableOffsetsError
from tokenweir.app import replay as app_replay
from tokenweir.app.enforcement import flows_of
from tokenweir.app.replay import LetterKind, Survey
from tokenweir.cli import app
from tokenweir.cli import replay as cli_replay
from tokenweir.config import Config, load_config
from tokenweir.core import wire
from tokenweir.core.deadletter import DeadLetter
from tokenweir.core.outcome import Reason
from tokenweir.core.policy.loader import load_policy
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.replay import End, Outcome
from tokenweir.runtime.replayletters import Choice, Counts, Handled, Kind

_POLICY = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
_COUNTS: Counts = Counter(
    {
        Kind("crm", "schema_unknown", Handled.SANITIZED): 1_200,
        Kind("crm", "schema_unknown", Handled.WITHHELD): 30,
        Kind("crm", "value_invalid", Handled.REJECTED): 4,
        Kind("", "malformed", Handled.PUT_BACK): 5,
        Kind("", "", Handled.FOREIGN): 6,
        Kind("crm", "value_invalid", Handled.GONE): 2,
    }
)


def _survey(chosen: int = 3) -> Survey:
    found = Survey("raw.dead-letters", "gw.s.replay", {0: 5, 1: 0}, {0: 12, 1: 0}, expired=7, read=9, foreign=1)
    found.chosen = Counter({LetterKind("crm", "schema_unknown", 7): chosen}) if chosen else Counter()
    found.kept = Counter({LetterKind("", "malformed", -1): 5})
    if chosen:
        found.oldest_ms, found.newest_ms, found.present = 1_700_000_000_000, 1_700_000_060_000, 2
    return found


class _Begun:
    """A replay that has ended before it began."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def run(self) -> Outcome:
        """Return the outcome."""
        return self._outcome


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let the survey and the replay answer what a test puts here, and note what they were asked."""
    found: dict[str, Any] = {"survey": _survey(), "outcome": Outcome(End.DONE, _COUNTS, 0)}

    def survey(_config: object, _policy: object, stream: str, choice: Choice, *, from_beginning: bool) -> Survey:
        found.update(stream=stream, choice=choice, from_beginning=from_beginning)
        answer: Survey = found["survey"]
        return answer

    def new_replay(*_arguments: object, limit: int | None, on_progress: Callable[[Counts], None]) -> _Begun:
        on_progress(_COUNTS)
        found["limit"] = limit
        return _Begun(found["outcome"])

    monkeypatch.setattr(app_replay, "survey", survey)
    monkeypatch.setattr(app_replay, "new_replay", new_replay)
    monkeypatch.setattr(cli_replay, "_run", lambda begun: begun.run())
    return found


def _run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    (directory / "policy.yaml").write_text(_POLICY.read_text())
    config = directory / "tokenweir.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'nowhere.invalid:1'}\n")
    result = CliRunner().invoke(app, ["replay", *arguments, "--config", str(config)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["ineractions"],
            "there is no stream 'ineractions' (did you mean 'interactions'?): the policy has interactions",
        ),
        (["interactions", "--reason", "schema_unknwn"], "did you mean 'schema_unknown'?"),
        (["interactions", "--audience", "nobody"], "has no output for 'nobody'"),
        (["interactions", "--from", "3"], "--partition"),
        (["interactions", "--to", "3"], "--partition"),
        (["interactions", "--partition", "0", "--from", "4", "--to", "3"], "--from is beyond --to"),
        (["interactions", "--limit", "0"], "--limit"),
        ([], "STREAM"),
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


def test_the_options_make_the_choice(tmp_path: Path, asked: dict[str, Any]) -> None:
    """All of them, and the limit and the beginning apart from it."""
    code, _text, _said = _run(
        tmp_path,
        *("interactions", "--reason", "malformed", "--reason", "too_deep", "--audience", "crm", "--partition", "3"),
        *("--from", "5", "--to", "9", "--limit", "4", "--from-beginning", "--yes"),
    )
    assert code == 0
    assert asked["choice"] == Choice(frozenset({"malformed", "too_deep"}), frozenset({"crm"}), 3, 5, 9)
    assert (asked["stream"], asked["limit"], asked["from_beginning"]) == ("interactions", 4, True)


def test_a_dry_run_counts_and_does_nothing(tmp_path: Path, asked: dict[str, Any]) -> None:
    """As text and as JSON."""
    code, text, said = _run(tmp_path, "interactions", "--dry-run")
    json_code, document, _said = _run(tmp_path, "interactions", "--dry-run", "--format", "json")

    assert code == json_code == 0
    assert "limit" not in asked
    assert ["crm", "schema_unknown", "7", "3"] in [line.split() for line in text.splitlines()]
    assert "9 letters in raw.dead-letters: 3 chosen, 5 not, 1 are of other streams" in text
    assert "2023-11-14T22:13:20Z to 2023-11-14T22:14:20Z" in text
    assert "2 source records are still there" in text
    assert "7 letters expired" in said
    assert json.loads(document) == {
        "stream": "interactions",
        "topic": "raw.dead-letters",
        "group": "gw.s.replay",
        "from": {"0": 5, "1": 0},
        "to": {"0": 12, "1": 0},
        "read": 9,
        "chosen": 3,
        "not_chosen": 5,
        "foreign": 1,
        "expired": 7,
        "source_records_present": 2,
        "oldest": "2023-11-14T22:13:20Z",
        "newest": "2023-11-14T22:14:20Z",
        "letters": [{"audience": "crm", "reason": "schema_unknown", "schema_id": 7, "letters": 3}],
    }


def test_nothing_is_published_without_a_word(tmp_path: Path, asked: dict[str, Any]) -> None:
    """In a pipe nobody can be asked: wrong usage."""
    code, text, said = _run(tmp_path, "interactions")
    assert (code, text) == (2, "")
    assert "3 letters of raw.dead-letters will be replayed" in said
    assert "say --yes" in said
    assert "limit" not in asked


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (0, "raw.dead-letters has no letters of 'interactions' to replay"),
        (1, "none of 1 letter of 'interactions' in raw.dead-letters matches"),
        (1_600, "none of 1,600 letters of 'interactions' in raw.dead-letters match"),
    ],
)
def test_without_letters_there_is_nothing_to_ask(tmp_path: Path, asked: dict[str, Any], kept: int, words: str) -> None:
    """Nothing is started, and nothing is put back either; letters that do not match are not said to be missing."""
    asked["survey"] = _survey(0)
    asked["survey"].kept = Counter({LetterKind("", "malformed", -1): kept})
    code, text, said = _run(tmp_path, "interactions", "--format", "json")
    assert code == 0
    assert words in said
    assert "limit" not in asked
    assert (json.loads(text)["read"], json.loads(text)["end"]) == (0, "done")
    assert _run(tmp_path, "interactions")[:2] == (0, "")


def test_the_report_shows_what_became_of_each_letter(tmp_path: Path, asked: dict[str, Any]) -> None:
    """By audience and reason and in all, as text and as JSON; what is foreign was read and no more."""
    code, text, _said = _run(tmp_path, "interactions", "--yes")
    json_code, document, _said = _run(tmp_path, "interactions", "--yes", "--format", "json")

    assert asked["outcome"].end is End.DONE
    assert code == json_code == 0
    rows = [line.split() for line in text.splitlines()]
    assert ["crm", "schema_unknown", "1,200", "30", "0", "0", "0"] in rows
    assert ["(no", "such", "output)", "malformed", "0", "0", "0", "0", "5"] in rows
    assert rows[-1] == ["all", "1,247", "read,", "1,236", "chosen", "1,200", "30", "4", "2", "5"]
    found = json.loads(document)
    letters = found.pop("letters")
    assert found == {
        "stream": "interactions",
        "topic": "raw.dead-letters",
        "end": "done",
        "read": 1_247,
        "chosen": 1_236,
        "sanitized": 1_200,
        "withheld": 30,
        "rejected": 4,
        "gone": 2,
        "put_back": 5,
        "foreign": 6,
        "uncertain": 0,
    }
    assert [(each["audience"], each["reason"]) for each in letters] == [
        (None, "malformed"),
        ("crm", "schema_unknown"),
        ("crm", "value_invalid"),
    ]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (End.DONE, 0, ""),
        (End.INTERRUPTED, 130, "interrupted; start 'tokenweir replay interactions' again to go on"),
        (End.TAKEN_OVER, 3, "another replay of 'interactions' was started"),
        (End.NO_CONSENT, 3, "no fresh consent"),
        (End.REFUSED, 3, "repair that"),
        (End.FAILED, 1, "failed again and again"),
    ],
)
def test_every_end_has_its_exit_code_and_its_words(
    tmp_path: Path, asked: dict[str, Any], end: End, code: int, said: str
) -> None:
    """What was done is shown in any case, and what is not certain too."""
    asked["outcome"] = Outcome(end, _COUNTS, 128)
    found, text, told = _run(tmp_path, "interactions", "--yes", "--format", "json")
    assert found == code
    assert json.loads(text)["end"] == end.value
    assert json.loads(text)["uncertain"] == 128
    assert said in re.sub(r" --config [^']*", "", told)
    assert "128 more letters may have been replayed or not" in told


def test_no_end_is_forgotten() -> None:
    """The list is closed."""
    assert cli_replay._ends("interactions").keys() == set(End)


def test_the_barrier_knows_where_dead_letters_are(tmp_path: Path) -> None:
    """It must name their topic when it asks what a replay's first transaction has committed."""
    config = tmp_path / "tokenweir.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'b:1'}\ndead_letters: {topic: 'lost.{source}'}\n")
    policy = load_policy(_POLICY.read_text(), "policy.yaml").policy
    flows = flows_of(load_config(config, {}), policy)
    assert [flow.dead_letters for flow in flows] == [f"lost.{each.source.topic}" for each in policy.streams.values()]


# The survey


class _Cluster:
    """An administrator's answers: letters in partition 0, and source records from offset 2 on."""

    committed_offsets: ClassVar[dict[int, int]] = {}

    def __init__(self, *_arguments: object) -> None:
        self.failures = 1

    def describe_topic(self, name: str) -> TopicDescription:
        """Two partitions of letters, one of records."""
        return TopicDescription(name, "id", 2 if "letters" in name else 1, None)

    def committed(self, _group: str, _topic: str, numbers: Iterable[int]) -> dict[int, Committed]:
        """Offsets, after a transaction that was not decided."""
        if self.failures:
            self.failures -= 1
            raise UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT", retriable=True)
        return {number: Committed(self.committed_offsets.get(number), "") for number in numbers}

    def high_watermarks(self, _topic: str, numbers: Iterable[int], isolation: str = "") -> dict[int, int]:
        """Ends; what is stable ends earlier."""
        return dict.fromkeys(numbers, 9 if isolation else 11)

    def low_watermarks(self, topic: str, numbers: Iterable[int]) -> dict[int, int]:
        """Beginnings."""
        return dict.fromkeys(numbers, 4 if "letters" in topic else 2)


_FOR_CRM = Choice(audiences=frozenset({"crm"}))


def _survey_of(
    monkeypatch: pytest.MonkeyPatch,
    age_ms: int,
    committed: dict[int, int],
    *,
    from_beginning: bool,
    choice: Choice = _FOR_CRM,
) -> Survey:
    policy = load_policy(_POLICY.read_text(), "policy.yaml").policy
    source = policy.streams["interactions"].source.topic
    spans: list[dict[int, tuple[int, int]]] = []

    def letter(offset: int, output: str) -> bytes:
        found = DeadLetter(source, 0, offset, 1_000 + offset, 7, f"{source}.{output}", Reason.MALFORMED, "", "", "")
        return wire.frame(1, found.encode())

    def read_until(_properties: object, _topic: str, given: dict[int, tuple[int, int]]) -> list[object]:
        spans.append(given)
        time_ms = time.time_ns() // 1_000_000 - age_ms
        values = [letter(1, "crm"), letter(2, "crm"), letter(11, "crm"), letter(3, "ads"), b"none"]
        return [SimpleNamespace(value=lambda v=value: v, timestamp=lambda: (1, time_ms)) for value in values]

    monkeypatch.setattr(app_replay, "Admin", _Cluster)
    monkeypatch.setattr(app_replay, "read_until", read_until)
    monkeypatch.setattr(_Cluster, "committed_offsets", committed)
    config = Config.model_validate({"version": 1, "kafka": {"bootstrap_servers": "b:1"}})
    found = app_replay.survey(config, policy, "interactions", choice, from_beginning=from_beginning)
    assert spans == [{number: (start, 9) for number, start in found.starts.items()}]
    return found


def test_a_survey_begins_where_the_last_replay_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the beginning of the topic, up to what is stable; the replay itself goes to the end."""
    found = _survey_of(monkeypatch, 0, {0: 6, 1: 1}, from_beginning=False)
    assert (found.starts, found.ends, found.expired) == ({0: 6, 1: 4}, {0: 11, 1: 11}, 3)
    # The source has the offsets 2 to 10: one of the records has expired, and one was never there.
    assert (found.read, found.foreign, found.present) == (5, 1, 1)
    assert found.chosen == {LetterKind("crm", "malformed", 7): 3}
    assert found.kept == {LetterKind("ads", "malformed", 7): 1}
    assert (found.oldest_ms, found.newest_ms) == (1_001, 1_011)


def test_a_partition_that_the_source_does_not_have_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a typing error would look like a success."""
    with pytest.raises(UsageError, match="has the partitions 0 to 0, and not 1"):
        _survey_of(monkeypatch, 0, {}, from_beginning=True, choice=Choice(partition=1))


def test_a_time_that_no_calendar_has_is_shown_as_it_is(tmp_path: Path, asked: dict[str, Any]) -> None:
    """A producer may write microseconds, and a letter anything."""
    asked["survey"].oldest_ms, asked["survey"].newest_ms = -(2**62), 1_700_000_000_000_000
    code, text, _said = _run(tmp_path, "interactions", "--dry-run")
    assert code == 0
    assert "their records are of -4611686018427387904 ms since 1970 to 1700000000000000 ms since 1970" in text


@pytest.mark.parametrize(
    ("age_ms", "committed", "from_beginning", "refused"),
    [
        (3_600_000, {}, False, False),
        (90_000_000, {}, False, True),
        (90_000_000, {}, True, False),
        (90_000_000, {1: 5}, False, False),
    ],
)
def test_offsets_that_the_broker_forgot_are_not_taken_for_a_first_replay(
    monkeypatch: pytest.MonkeyPatch,
    age_ms: int,
    committed: dict[int, int],
    from_beginning: bool,  # noqa: FBT001 - a case.
    refused: bool,  # noqa: FBT001 - as above.
) -> None:
    """They expire with a group without members; old letters may then have been replayed before."""
    if not refused:
        assert _survey_of(monkeypatch, age_ms, committed, from_beginning=from_beginning).read == 5
        return
    with pytest.raises(RefusedError, match="--from-beginning"):
        _survey_of(monkeypatch, age_ms, committed, from_beginning=from_beginning)
