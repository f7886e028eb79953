"""What ``consent`` understands and refuses before any broker is asked, and how it merges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenweir.adapters.topicwriter import TopicWriter
from tokenweir.app.consentanswers import answers
from tokenweir.app.consentarguments import decisions_of, subject_of
from tokenweir.app.consentlines import unknown_name
from tokenweir.app.consentwriter import (
    Change,
    ConsentTopic,
    Found,
    is_older,
    states_in,
)
from tokenweir.cli import app
from tokenweir.core.consent import UNDECODABLE, Decision, SourceState, SubjectConsent, Verdict
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.policy.models import Policy
from tokenweir.core.subjects import Subject
from tokenweir.errors import FindingsError, RefusedError, UsageError

_HERE = Path(__file__).parent
_DAY_MS = 86_400_000
_NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The policy of the deployment example, with subject types in every form."""
    path = _HERE.parents[1] / "deploy" / "config" / "minimal-policy.yaml"
    text = path.read_text().replace(
        "    form: {digits: 10}\n",
        "    form: {digits: 10}\n"
        "  device: {class: id.customer, form: uuid}\n"
        "  mailbox: {class: id.customer, form: lowercase}\n",
    )
    return load_policy(text, "policy.yaml").policy


# Subjects


@pytest.mark.parametrize(
    ("text", "canonical", "source", "changed"),
    [
        ("customer:0000000007", "customer:0000000007", "", False),
        ("customer:0000000007#web", "customer:0000000007", "web", False),
        ("device:6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "device:6ba7b810-9dad-11d1-80b4-00c04fd430c8", "", True),
        ("mailbox:Jo%40X.example", "mailbox:jo@x.example", "", True),
        ("mailbox:a%3Ab", "mailbox:a%3Ab", "", False),
    ],
)
def test_a_subject_is_put_into_its_canonical_form(
    policy: Policy, text: str, canonical: str, source: str, *, changed: bool
) -> None:
    """Every spelling of an id becomes the one that records are looked up by, and a change is told."""
    key, was_changed = subject_of(text, policy)
    assert (key.subject.canonical, key.source, was_changed) == (canonical, source, changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0000000007", "exactly one unescaped colon"),
        ("mailbox:a:b", "exactly one unescaped colon"),
        ("custmer:7", "did you mean 'customer'?"),
        ("customer:00000000078", "digits"),
        ("customer:7x7", "digits"),
        ("customer:7", "exactly 10 digits, leading zeros included"),
        ("customer:000001234", "exactly 10 digits, leading zeros included"),
        ("customer:\u0667", "digits"),
        ("device:7", "UUID"),
    ],
)
def test_a_subject_that_cannot_be_meant_is_refused(policy: Policy, text: str, said: str) -> None:
    """A typing error must not become a decision of somebody else; the id is not repeated."""
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        subject_of(text, policy)
    assert text.partition(":")[2] not in str(caught.value) or not text.partition(":")[2]


# Decisions


def test_decisions_are_read(policy: Policy) -> None:
    """Purposes, all purposes, and purposes for one recipient."""
    words = decisions_of(["email_marketing=allow", "ad_measurement@acme=deny", "*@acme=deny", "*=deny"], policy)
    assert words == {
        "email_marketing": "allow",
        "ad_measurement@acme": "deny",
        "*@acme": "deny",
        "*": "deny",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("email_marketing", "write PURPOSE=allow or PURPOSE=deny"),
        ("=deny", "write PURPOSE=allow or PURPOSE=deny"),
        ("email_marketing=yes", "a decision is allow or deny"),
        ("emial_marketing=deny", "did you mean 'email_marketing'?"),
        ("*=allow", "can only be denied"),
        ("ad_measurement@acme=allow", "can only be denied"),
        ("ad_measurement@acne=deny", "did you mean 'acme'?"),
        ("@acme=deny", "no purpose ''"),
    ],
)
def test_decisions_that_cannot_be_meant_are_refused(policy: Policy, text: str, said: str) -> None:
    """Unknown purposes, unknown recipients, other words and allows of everything."""
    with pytest.raises(UsageError, match=re.escape(said)):
        decisions_of([text], policy)


def test_a_purpose_is_decided_once(policy: Policy) -> None:
    """Two decisions about one purpose contradict each other, even if they agree."""
    with pytest.raises(UsageError, match="decided twice"):
        decisions_of(["email_marketing=allow", "email_marketing=deny"], policy)


def test_known_names_are_fine(policy: Policy) -> None:
    """Nothing is said of names that the policy knows."""
    assert [unknown_name(name, policy) for name in ("email_marketing", "*", "*@acme")] == ["", "", ""]


# Merging


def test_a_change_keeps_what_it_does_not_mention() -> None:
    """Other decisions keep their dates, notices and expiry; jurisdiction and minor stay unless they are given."""
    kept = Decision("allow", _NOW_MS - _DAY_MS, _NOW_MS + _DAY_MS, "2026-10", "form 12")
    old = SourceState(_NOW_MS - _DAY_MS, {"email_marketing": kept}, "US-CA", minor=True)

    new = Change({"ad_measurement": "deny"}).apply(old, _NOW_MS)

    assert new.decisions["email_marketing"] == kept
    assert new.decisions["ad_measurement"] == Decision("deny", _NOW_MS)
    assert (new.jurisdiction, new.minor, new.decided_at_ms) == ("US-CA", True, _NOW_MS)


def test_a_repeated_allow_keeps_its_date_and_a_repeated_deny_counts_from_now() -> None:
    """Repeating an allow must not lift a newer deny of another source."""
    earlier_ms = _NOW_MS - _DAY_MS
    old = SourceState(earlier_ms, {"a": Decision("allow", earlier_ms), "b": Decision("deny", earlier_ms)})

    new = Change({"a": "allow", "b": "deny"}).apply(old, _NOW_MS)

    assert (new.decisions["a"].decided_at_ms, new.decisions["b"].decided_at_ms) == (earlier_ms, _NOW_MS)


def test_minor_and_jurisdiction_can_be_changed_alone() -> None:
    """Both are facts of the state and not of a decision."""
    new = Change({}, minor=False, jurisdiction="DE").apply(SourceState(0, {}, "FR", minor=True), _NOW_MS)
    assert (new.minor, new.jurisdiction) == (False, "DE")


def test_a_state_that_cannot_be_read_is_not_merged_into() -> None:
    """What it denies could not be kept."""
    with pytest.raises(RefusedError):
        Change({"a": "allow"}).apply(UNDECODABLE, _NOW_MS)


# Answers


def test_answers_say_since_when_and_until_when(policy: Policy) -> None:
    """Of an allow its own dates, of a deny the newest, of an unknown purpose nothing."""
    own = SourceState(
        0, {"email_marketing": Decision("allow", 1_000, _NOW_MS + 5), "ad_measurement": Decision("deny", 5)}
    )
    web = SourceState(0, {"*": Decision("deny", 900)})

    both = {found.purpose: found for found in answers(SubjectConsent({"": own, "web": web}), policy, _NOW_MS)}
    nobody = answers(SubjectConsent({}), policy, _NOW_MS)

    assert both["email_marketing"].verdict is Verdict.ALLOW
    assert (both["email_marketing"].since_ms, both["email_marketing"].expires_at_ms) == (1_000, _NOW_MS + 5)
    assert (both["ad_measurement"].verdict, both["ad_measurement"].since_ms) == (Verdict.DENY, 900)
    assert {(found.verdict, found.since_ms) for found in nobody} == {(Verdict.UNKNOWN, None)}


def test_an_answer_of_a_state_that_cannot_be_read_is_deny(policy: Policy) -> None:
    """There is no date to tell."""
    found = answers(SubjectConsent({"": UNDECODABLE}), policy, _NOW_MS)
    assert {(each.verdict, each.since_ms) for each in found} == {(Verdict.DENY, None)}


# Files


def _line(subject: str, decisions: str) -> str:
    return f'{{"subject":"{subject}","version":1,"decided_at":"2023-01-01T00:00:00Z","decisions":{decisions}}}\n'


def test_later_lines_win_and_come_last(policy: Policy) -> None:
    """Of one key only the last state is written, in its later place."""
    text = _line("customer:0000000001", '{"*":"deny"}') + _line("customer:0000000002", "{}")
    text += '{"subject":"customer:0000000001","decisions":null}\n'
    states, lines = states_in(text, "file", _NOW_MS, policy)
    assert lines == 3
    assert [(key.subject.id, line.state is None, line.number) for key, line in states.items()] == [
        ("0000000002", False, 2),
        ("0000000001", True, 3),
    ]


def test_every_line_that_the_policy_does_not_know_is_told(policy: Policy) -> None:
    """A file is refused with all of them, and their numbers."""
    text = (
        _line("customer:1", "{}") + _line("custmer:0000000001", '{"emial":"deny"}') + "\n" + _line("customer:2", "{}")
    )
    with pytest.raises(FindingsError) as caught:
        states_in(text, "file", _NOW_MS, policy)
    assert [finding.line for finding in caught.value.findings] == [1, 2, 2, 4]


_ALLOW, _DENY = Decision("allow", _NOW_MS), Decision("deny", _NOW_MS)


@pytest.mark.parametrize(
    ("new", "standing", "older"),
    [
        (SourceState(_NOW_MS, {"a": _ALLOW}), SourceState(_NOW_MS, {"a": _ALLOW}), False),
        (SourceState(_NOW_MS, {"a": _DENY}), SourceState(_NOW_MS, {"a": _DENY}), False),
        (SourceState(_NOW_MS, {"a": _DENY}), SourceState(_NOW_MS, {"a": _ALLOW}), False),
        (SourceState(_NOW_MS, {"a": _ALLOW}), SourceState(_NOW_MS, {"a": _DENY}), True),
        (SourceState(_NOW_MS, {}), SourceState(_NOW_MS, {"*": _DENY}), True),
        (SourceState(_NOW_MS - 1, {}), SourceState(_NOW_MS, {}, minor=True), True),
        (SourceState(_NOW_MS + 1, {"a": _ALLOW}), SourceState(_NOW_MS, {"a": Decision("deny", _NOW_MS + 1)}), True),
        (SourceState(_NOW_MS + 1, {"a": Decision("allow", _NOW_MS + 1)}), SourceState(_NOW_MS, {"a": _DENY}), False),
        (SourceState(_NOW_MS + 1, {"a": _ALLOW}), SourceState(_NOW_MS, {"a": _DENY}), True),
    ],
)
def test_a_state_that_would_undo_a_newer_one_is_older(new: SourceState, standing: SourceState, *, older: bool) -> None:
    """By the state's own date or by any decision's; at one instant a deny is not lifted."""
    assert is_older(new, standing) is older


class _StandingTopic(ConsentTopic):
    """A consent topic in memory, on which everything was denied by customer 1 a moment ago."""

    def __init__(self, cleanup: str = "compact") -> None:
        self._topic = "consent.decisions"
        self._partitions = 1
        self._seal = None
        self._cleanup = cleanup
        self.written: list[bytes] = []

    def read(
        self,
        wanted: Callable[[Subject], bool],
        partitions: Iterable[int] | None = None,
        on_progress: Callable[[int], None] = lambda _records: None,
    ) -> Found:
        """Return what stands."""
        del partitions, on_progress
        subject = Subject("customer", "0000000001")
        standing = {subject: SubjectConsent({"": SourceState(_NOW_MS, {"*": _DENY})})}
        return Found({found: consent for found, consent in standing.items() if wanted(found)})

    def _cleanup_policy(self) -> str:
        return self._cleanup

    def _writer(self) -> TopicWriter:
        raise AssertionError("nothing may be written")


def test_an_import_that_would_lift_a_newer_withdrawal_is_refused(policy: Policy) -> None:
    """An old export must not undo what was decided since: the lines are named by number, never by subject."""
    text = _line("customer:0000000002", "{}") + _line("customer:0000000001", '{"email_marketing":"allow"}')
    states, _ = states_in(text, "file", _NOW_MS, policy)
    with pytest.raises(
        RefusedError, match=r"1 of the states would undo newer .*\(line 2\).*Nothing was written"
    ) as caught:
        _StandingTopic().import_states(states.values())
    assert "0000000001" not in str(caught.value)


def test_decisions_are_not_written_to_a_topic_that_is_not_compacted(policy: Policy) -> None:
    """A topic that loses records with time is no consent topic, and perhaps somebody else's."""
    states, _ = states_in(_line("customer:0000000002", "{}"), "file", _NOW_MS, policy)
    topic = _StandingTopic("delete")
    with pytest.raises(RefusedError, match=r"cleanup\.policy 'delete'"):
        topic.import_states(states.values())
    with pytest.raises(RefusedError, match=r"cleanup\.policy 'delete'"):
        topic.change(next(iter(states)), Change({"email_marketing": "deny"}), _NOW_MS)


# The command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["customer:0000000007"], "nothing to set"),
        (["customer:0000000007", "*=deny", "--expires", "2099-01-01T00:00:00Z"], "a deny never expires"),
        (["customer:0000000007", "email_marketing=allow", "--expires", "tomorrow"], "no RFC 3339 time"),
        (["customer:0000000007", "email_marketing=allow", "--expires", "2020-01-01T00:00:00Z"], "in the past"),
        (["customer:0000000007#web", "*=deny", "--source", "app"], "two sources"),
        (["customer:0000000007", "*=deny", "--source", "we b"], "cannot be written as a key"),
    ],
)
def test_set_refuses_contradictions_before_it_asks_a_broker(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Exit code 2 and one sentence; the configuration names a broker that does not exist."""
    source = _HERE.parents[1] / "deploy" / "config" / "minimal-policy.yaml"
    (tmp_path / "policy.yaml").write_text(source.read_text())
    config = tmp_path / "tokenweir.yaml"
    config.write_text("version: 1\nkafka: {bootstrap_servers: 'nowhere.invalid:1'}\n")

    result = CliRunner().invoke(app, ["consent", "set", *arguments, "--config", str(config)])

    assert result.exit_code == 2
    assert said in result.stderr
