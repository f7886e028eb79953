"""Consent: the topic's records, the stored form, and what decisions allow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from tokenweir.core.consent import (
    DENIED,
    UNDECODABLE,
    UNKNOWN,
    Applied,
    Changes,
    ConsentKey,
    ConsentKeyError,
    ConsentRecord,
    Decision,
    PurposeRule,
    SourceState,
    SubjectConsent,
    Verdict,
    answer,
    decode,
    encode,
    format_key,
    merge,
    parse_key,
    parse_value,
    passing,
    read_value,
    to_value,
    with_decisions,
)
from tokenweir.core.policy.models import Basis, Purpose
from tokenweir.core.subjects import Subject, partition_of
from tokenweir.errors import DecodeError, InvalidValueError, RefusedError

NOW_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z
DAY_MS = 86_400_000
CANARY = "canary-7f3a"

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "decided_at": "2026-11-22T10:00:00Z",
    "jurisdiction": "US-CA",
    "minor": False,
    "decisions": {
        "email_marketing": {
            "decision": "allow",
            "decided_at": "2026-10-01T09:00:00Z",
            "expires_at": None,
            "notice": "2026-10",
            "evidence": "form 12",
        },
        "location_offers": "deny",
        "partner_ads@acme": "deny",
        "*": "deny",
    },
}
STATE = SourceState(
    NOW_MS,
    {
        "email_marketing": Decision("allow", 1_790_845_200_000, None, "2026-10", "form 12"),
        "location_offers": Decision("deny", NOW_MS),
        "partner_ads@acme": Decision("deny", NOW_MS),
        "*": Decision("deny", NOW_MS),
    },
    "US-CA",
)


def allow(at_ms: int, expires_at_ms: int | None = None) -> Decision:
    """Return an allow."""
    return Decision("allow", at_ms, expires_at_ms)


def deny(at_ms: int) -> Decision:
    """Return a deny."""
    return Decision("deny", at_ms)


def state(
    at_ms: int = 0, jurisdiction: str | None = None, *, minor: bool = False, **decisions: Decision
) -> SourceState:
    """Return a state; the keyword ``every`` stands for ``*``."""
    named = {{"every": "*"}.get(name, name): decision for name, decision in decisions.items()}
    return SourceState(at_ms, named, jurisdiction, minor)


def consent(*states: SourceState) -> SubjectConsent:
    """Return the consent of a subject with these states at sources s0, s1 and so on."""
    return SubjectConsent({f"s{number}": entry for number, entry in enumerate(states)})


class TestKeys:
    """Keys of the consent topic."""

    @pytest.mark.parametrize(
        ("data", "subject", "source"),
        [
            (b"customer:0000012345", Subject("customer", "0000012345"), ""),
            (b"customer:1#web", Subject("customer", "1"), "web"),
            (b"mail:ann+x@example.org#gpc", Subject("mail", "ann+x@example.org"), "gpc"),
            (b"name:Zo%C3%AB%3A%20%231", Subject("name", "Zo\u00eb: #1"), ""),
        ],
    )
    def test_a_canonical_key_is_read_and_written(self, data: bytes, subject: Subject, source: str) -> None:
        """Reading and writing a key are inverse."""
        assert parse_key(data) == ConsentKey(subject, source, canonical=True)
        assert format_key(subject, source) == data

    @pytest.mark.parametrize(
        "data",
        [None, b"", b"customer", b":1", b"customer:", b"customer:#web", b"customer:1:2", b"customer:1#a:b", b"c\xff:1",
         b"customer:%FF", b"customer:%4", b"customer:%zz", b"cust omer:1", b"cust%20omer:1", b"a#b:1"],
    )  # fmt: skip
    def test_a_key_that_names_nobody_is_refused(self, data: bytes | None) -> None:
        """No subject can be told from these."""
        with pytest.raises(ConsentKeyError):
            parse_key(data)

    @pytest.mark.parametrize(
        ("data", "subject"),
        [
            (b"customer:%31", Subject("customer", "1")),
            (b"name:Zo%c3%ab", Subject("name", "Zo\u00eb")),
            ("name:Zo\u00eb".encode(), Subject("name", "Zo\u00eb")),
            (b"name:Zoe%CC%88", Subject("name", "Zo\u00eb")),
            (b"customer:1#", Subject("customer", "1")),
            (b"customer:1#we%20b", Subject("customer", "1")),
            (b"customer:1#" + b"x" * 65, Subject("customer", "1")),
            (b"customer:1#2#web", Subject("customer", "1#2")),
        ],
    )
    def test_another_spelling_is_told_from_the_canonical_one(self, data: bytes, subject: Subject) -> None:
        """The subject is known, so it alone can be denied; but the key is not the one that it should have."""
        key = parse_key(data)
        assert key.subject == subject
        assert not key.canonical

    def test_no_error_or_repr_shows_the_subject(self) -> None:
        """Keys hold ids, and ids are personal data."""
        with pytest.raises(ConsentKeyError) as caught:
            parse_key(f"customer:{CANARY}:1".encode())
        shown = [caught.value, parse_key(f"customer:{CANARY}".encode())]
        assert CANARY not in repr(shown)
        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize(
        ("subject", "source"),
        [(Subject("a:b", "1"), ""), (Subject("a", ""), ""), (Subject("a", "1"), "b c"), (Subject("", "1"), "")],
    )
    def test_no_key_is_written_that_could_not_be_read(self, subject: Subject, source: str) -> None:
        """A writer is refused rather than misunderstood."""
        with pytest.raises(ConsentKeyError):
            format_key(subject, source)


class TestValues:
    """Values of the consent topic."""

    def test_the_documented_example(self) -> None:
        """The example of the reference is read as it says."""
        assert parse_value(json.dumps(DOCUMENT).encode(), NOW_MS) == STATE

    def test_a_tombstone_forgets(self) -> None:
        """A null value is no state."""
        assert parse_value(None, NOW_MS) is None

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 2}, {"version": 1.0}, {"version": True}, {"version": None}, {"version": "1"},
            {"decided_at": None}, {"decided_at": 1}, {"decided_at": "2026-11-22"},
            {"decided_at": "2026-11-22T10:00:00"},
            {"decided_at": "2026-11-22 10:00:00Z"}, {"decided_at": "2026-02-30T10:00:00Z"},
            {"decided_at": "2026-11-22T10:05:00.001Z"}, {"jurisdiction": "us-ca"}, {"jurisdiction": ""},
            {"jurisdiction": 1}, {"minor": "no"}, {"minor": 0}, {"minor": None}, {"extra": 1}, {"expires_at": "soon"},
            {"decisions": None}, {"decisions": []}, {"decisions": {"a": "Allow"}}, {"decisions": {"a": "yes"}},
            {"decisions": {"a": None}}, {"decisions": {"a": True}}, {"decisions": {"a": {}}},
            {"decisions": {"": "deny"}},
            {"decisions": {"*": "allow"}}, {"decisions": {"a@acme": "allow"}}, {"decisions": {"@acme": "deny"}},
            {"decisions": {"a@": "deny"}}, {"decisions": {"a@A": "deny"}}, {"decisions": {"x" * 256: "deny"}},
            {"decisions": {"a": {"decision": "allow", "decided_at": "2026-11-22T10:05:01Z"}}},
            {"decisions": {"a": {"decision": "allow", "decided_at": None}}},
            {"decisions": {"a": {"decision": "allow", "expires_at": 5}}},
            {"decisions": {"a": {"decision": "allow", "evidence": ["x"]}}},
            {"decisions": {"a": {"decision": "allow", "other": 1}}},
            {"decisions": {f"p{number}": "deny" for number in range(1001)}},
        ],
    )  # fmt: skip
    def test_anything_else_is_undecodable(self, change: dict[str, object]) -> None:
        """A value that is not exactly a state denies; it is never read in part."""
        data = json.dumps(DOCUMENT | change).encode()
        assert parse_value(data, NOW_MS) is UNDECODABLE

    @pytest.mark.parametrize("missing", ["version", "decided_at", "decisions"])
    def test_what_must_be_there(self, missing: str) -> None:
        """Without version, date or decisions it is no state."""
        data = json.dumps({name: part for name, part in DOCUMENT.items() if name != missing}).encode()
        assert parse_value(data, NOW_MS) is UNDECODABLE

    @pytest.mark.parametrize(
        "data",
        [b"", b"null", b"[]", b"{", b"\xff", b'{"version":1,"version":1}', json.dumps(DOCUMENT).encode() + b"x"],
    )
    def test_bytes_that_are_no_object(self, data: bytes) -> None:
        """Neither are bytes that are no JSON object, or have a key twice."""
        assert parse_value(data, NOW_MS) is UNDECODABLE

    def test_a_duplicate_decision_is_undecodable(self) -> None:
        """Which of two equal keys counts is what parsers disagree about."""
        data = b'{"version":1,"decided_at":"2026-11-22T10:00:00Z","decisions":{"a":"deny","a":"allow"}}'
        assert parse_value(data, NOW_MS) is UNDECODABLE

    def test_five_minutes_ahead_are_believed(self) -> None:
        """Clocks may differ by five minutes, and not by a millisecond more."""
        data = json.dumps({"version": 1, "decided_at": "2026-11-22T10:05:00Z", "decisions": {}}).encode()
        assert parse_value(data, NOW_MS) == SourceState(NOW_MS + 300_000, {})
        assert parse_value(data, NOW_MS - 1) is UNDECODABLE
        assert parse_value(data, -1) is UNDECODABLE

    def test_a_decision_without_dates_takes_the_outer_ones(self) -> None:
        """Short forms take both outer dates; a null expiry is one of its own."""
        document = {
            "version": 1,
            "decided_at": "2026-11-22T11:00:00+01:00",
            "expires_at": "2027-01-01T00:00:00Z",
            "decisions": {"a": "allow", "b": {"decision": "allow"}, "c": {"decision": "allow", "expires_at": None}},
        }
        expiry = 1_798_761_600_000
        assert read_value(json.dumps(document).encode(), NOW_MS).decisions == {
            "a": allow(NOW_MS, expiry),
            "b": allow(NOW_MS, expiry),
            "c": allow(NOW_MS),
        }

    def test_errors_name_the_place_and_no_purpose(self) -> None:
        """A reader of the error learns where, and nothing of what was written."""
        data = json.dumps(DOCUMENT | {"decisions": {CANARY: CANARY}}).encode()
        with pytest.raises(DecodeError) as caught:
            read_value(data, NOW_MS)
        assert caught.value.path == "decisions{}.decision"
        assert CANARY not in str(caught.value)
        assert CANARY not in repr(read_value(json.dumps(DOCUMENT | {"decisions": {CANARY: "deny"}}).encode(), NOW_MS))

    def test_what_is_written_is_read_as_the_same(self) -> None:
        """A state survives writing with all that documents it, to the millisecond."""
        fine = SourceState(NOW_MS + 7, {"a": Decision("allow", NOW_MS - 1, NOW_MS + 5, None, "x")}, None, minor=True)
        for written in (STATE, fine):
            assert read_value(to_value(written), NOW_MS) == written
        assert json.loads(to_value(fine))["decided_at"] == "2026-11-22T10:00:00.007Z"

    @pytest.mark.parametrize(
        "bad",
        [
            UNDECODABLE,
            SourceState(0, {"*": allow(0)}),
            SourceState(0, {"a@acme": allow(0)}),
            SourceState(0, {"": deny(0)}),
        ],
    )
    def test_nothing_is_written_that_would_deny_when_read(self, bad: SourceState) -> None:
        """A writer is told at once."""
        with pytest.raises(InvalidValueError):
            to_value(bad)


class TestWriters:
    """What ``consent set`` makes of a state."""

    def test_a_repeated_allow_keeps_its_date(self) -> None:
        """Repeating an allow must not lift a newer deny of another source."""
        before = state(5, a=allow(5), b=deny(5))
        after = with_decisions(before, {"a": "allow"}, 9)
        assert after == state(9, a=allow(5), b=deny(5))

    @pytest.mark.parametrize(
        "before",
        [None, state(5), state(5, a=deny(5)), state(5, a=allow(3, 9)), state(5, a=allow(3), every=deny(5))],
    )
    def test_a_new_allow_has_the_date_of_now(self, before: SourceState | None) -> None:
        """Where the state did not allow it, the allow begins now."""
        after = with_decisions(before, {"a": "allow"}, 9, expires_at_ms=20)
        assert after.decisions["a"] == allow(9, 20)
        assert answer(consent(after), "a", 10).kind is Verdict.ALLOW

    def test_a_withdrawal_is_never_weaker_than_an_older_allow(self) -> None:
        """A deny counts from now, also where an older one stands, and keeps no expiry."""
        before = state(5, a=allow(5), every=deny(3))
        after = with_decisions(before, {"*": "deny"}, 9, expires_at_ms=20)
        assert after == state(9, a=allow(5), every=deny(9))
        assert answer(consent(after), "a", 10).kind is Verdict.DENY

    def test_an_unreadable_state_is_not_written_over(self) -> None:
        """Its denies would be lost."""
        with pytest.raises(RefusedError):
            with_decisions(UNDECODABLE, {"a": "allow"}, 9)


class TestStored:
    """The stored form."""

    STATES: ClassVar[Mapping[str, SourceState]] = {
        "": STATE,
        "gpc": state(1, every=deny(1)),
        "web": UNDECODABLE,
        "x": state(2, a=allow(-1, 7), minor=True),
    }

    def test_its_bytes_are_pinned(self) -> None:
        """Stores outlive versions of this program, so a change of the form must be noticed."""
        stored = encode({"b": UNDECODABLE, "": state(258, "DE", minor=True, a=allow(1, 2), every=deny(-1))})
        assert stored.hex() == (
            "0100000002"  # form 1, two sources
            "00060000000000000102" "024445" "0002"  # "", minor, with jurisdiction, 258 ms, DE, two decisions
            "012a00ffffffffffffffff" "01610300000000000000010000000000000002"  # deny of *; allow of a that expires
            "0162010000000000000000" "0000"  # "b", undecodable
        )  # fmt: skip

    def test_order_does_not_matter(self) -> None:
        """The same states are the same bytes."""
        assert encode(dict(reversed(list(self.STATES.items())))) == encode(self.STATES)

    def test_it_is_read_back_without_what_documents(self) -> None:
        """Everything that decides comes back; notices and evidence are not stored."""
        bare = {
            source: SourceState(
                kept.decided_at_ms,
                {name: decision._replace(notice=None, evidence=None) for name, decision in kept.decisions.items()},
                kept.jurisdiction,
                kept.minor,
                kept.undecodable,
            )
            for source, kept in self.STATES.items()
        }
        assert decode(encode(self.STATES)) == SubjectConsent(bare)
        assert b"form 12" not in encode(self.STATES)

    def test_every_cut_and_extension_is_found(self) -> None:
        """Bytes that are missing or too many are an error."""
        stored = encode(self.STATES)
        for bad in (*(stored[:end] for end in range(len(stored))), stored + b"\0", b"\2" + stored[1:]):
            with pytest.raises(DecodeError):
                decode(bad)

    def test_only_one_order_is_read(self) -> None:
        """Unsorted or repeated names, and unknown flags, were not written by this program."""
        two = encode({"a": state(1), "b": state(1)})
        one = two[5 : 5 + (len(two) - 5) // 2]
        for bad in (two[:5] + one + one, two[:5] + two[5 + len(one) :] + one, two.replace(b"\1a\0", b"\1a\x08")):
            with pytest.raises(DecodeError):
                decode(bad)

    def test_too_long_names_are_refused(self) -> None:
        """A length is one byte."""
        with pytest.raises(InvalidValueError):
            encode({"x" * 256: state()})

    def test_merge_leaves_its_argument_alone(self) -> None:
        """Frozen in, new out."""
        before = {"a": state(1), "b": state(2)}
        assert merge(before, "a", None) == {"b": state(2)}
        assert merge(before, "c", state(3)) == {**before, "c": state(3)}
        assert len(before) == 2


class TestAnswers:
    """One subject's answer for one purpose."""

    @pytest.mark.parametrize(
        ("given", "kind", "since"),
        [
            (UNKNOWN, Verdict.UNKNOWN, None),
            (DENIED, Verdict.DENY, None),
            (consent(state(b=allow(1))), Verdict.UNKNOWN, None),
            (consent(state(a=allow(1))), Verdict.ALLOW, 1),
            (consent(state(a=allow(1)), state(a=deny(2))), Verdict.DENY, None),
            (consent(state(a=allow(3)), state(a=deny(2))), Verdict.ALLOW, 3),
            (consent(state(a=allow(2)), state(a=deny(2))), Verdict.DENY, None),
            (consent(state(a=deny(2)), state(a=allow(2))), Verdict.DENY, None),
            (consent(state(a=allow(1)), state(a=allow(2))), Verdict.ALLOW, 2),
            (consent(state(a=allow(1), every=deny(2))), Verdict.DENY, None),
            (consent(state(a=allow(2), every=deny(2))), Verdict.DENY, None),
            (consent(state(a=allow(3), every=deny(2))), Verdict.ALLOW, 3),
            (consent(state(every=deny(2)), state(a=allow(3))), Verdict.ALLOW, 3),
            (consent(state(a=allow(5, 100))), Verdict.UNKNOWN, None),
            (consent(state(a=allow(5, 101))), Verdict.ALLOW, 5),
            (consent(state(a=allow(5, 100)), state(a=deny(2))), Verdict.DENY, None),
            (consent(state(a=allow(5, 100)), state(a=allow(2))), Verdict.ALLOW, 2),
            (consent(state(a=allow(5)), UNDECODABLE), Verdict.DENY, None),
            (consent(SourceState(1, {"a@acme": deny(1)})), Verdict.UNKNOWN, None),
        ],
    )
    def test_the_newest_wins_and_deny_on_a_tie(self, given: SubjectConsent, kind: Verdict, since: int | None) -> None:
        """Between sources, and against ``*``, the newest decision in force wins; what cannot be read denies."""
        assert answer(given, "a", 100) == (kind, since)

    def test_a_sticky_deny_stays_until_its_source_lifts_it(self) -> None:
        """A newer allow elsewhere does not lift it; one of the source itself does."""
        sticky = frozenset({"s0"})
        for denial in (state(a=deny(1)), state(every=deny(1))):
            assert answer(consent(denial, state(a=allow(9))), "a", 100, sticky).kind is Verdict.DENY
        assert answer(consent(state(a=allow(2), every=deny(1)), state(a=allow(9))), "a", 100, sticky) == ("allow", 9)
        assert answer(consent(state(), state(a=allow(9))), "a", 100, sticky).kind is Verdict.ALLOW


def passes(  # The things that the answer depends on.
    rule: PurposeRule,
    primary: SubjectConsent,
    *others: SubjectConsent,
    event_time_ms: int = NOW_MS,
    recipients: frozenset[str] = frozenset(),
    sticky: frozenset[str] = frozenset(),
) -> bool:
    """Whether one purpose passes."""
    return bool(
        passing(
            [rule], primary, others, event_time_ms=event_time_ms, now_ms=NOW_MS, recipients=recipients, sticky=sticky
        )
    )


class TestPassing:
    """Which purposes a record may be used for."""

    CONSENT = PurposeRule("a", "consent", 30)
    OPT_OUT = PurposeRule("a", "opt_out", 30)
    CONTRACT = PurposeRule("a", "contract", 30)
    ALLOWS = consent(state(a=allow(1)))
    DENIES = consent(state(a=deny(1)))

    @pytest.mark.parametrize(
        ("basis", "allowed", "unknown", "denied"),
        [
            ("consent", True, False, False),
            ("opt_out", True, True, False),
            ("legitimate_interest", True, True, False),
            ("contract", True, True, True),
            ("legal_obligation", True, True, True),
            ("public_task", True, True, True),
            ("vital_interest", True, True, True),
        ],
    )
    def test_what_each_basis_asks(self, basis: Basis, *, allowed: bool, unknown: bool, denied: bool) -> None:
        """Consent needs an allow, opt-out and legitimate interest no deny, the others do not ask."""
        rule = PurposeRule("a", basis, 30)
        given = (self.ALLOWS, UNKNOWN, self.DENIES)
        assert [passes(rule, primary) for primary in given] == [allowed, unknown, denied]
        assert passes(rule, DENIED) is denied

    def test_an_event_from_before_the_allow(self) -> None:
        """Basis consent does not reach back, unless the purpose says so; opt-out has nothing to reach."""
        later = consent(state(a=allow(NOW_MS)))
        assert passes(self.CONSENT, later, event_time_ms=NOW_MS)
        assert not passes(self.CONSENT, later, event_time_ms=NOW_MS - 1)
        assert passes(PurposeRule("a", "consent", 30, covers_earlier=True), later, event_time_ms=NOW_MS - 1)
        assert passes(self.OPT_OUT, later, event_time_ms=NOW_MS - 1)

    @pytest.mark.parametrize("rule", [CONSENT, OPT_OUT, CONTRACT])
    def test_retention_holds_for_every_basis(self, rule: PurposeRule) -> None:
        """An event may be as old as the retention and not a millisecond older."""
        assert passes(rule, self.ALLOWS, event_time_ms=NOW_MS - 30 * DAY_MS)
        assert not passes(rule, self.ALLOWS, event_time_ms=NOW_MS - 30 * DAY_MS - 1)

    def test_minors(self) -> None:
        """A minor is denied by default, whichever source says so and whichever subject it is, where a basis asks."""
        minor = consent(state(a=allow(1)), state(minor=True))
        for rule in (self.CONSENT, self.OPT_OUT):
            assert not passes(rule, minor)
            assert not passes(rule, self.ALLOWS, minor)
        assert passes(PurposeRule("a", "consent", 30, minors="allow"), minor, minor)
        assert passes(self.CONTRACT, minor)

    def test_other_subjects(self) -> None:
        """Another subject's deny wins, its unknown is neutral, and its allow does not stand for the primary's."""
        assert passes(self.CONSENT, self.ALLOWS, UNKNOWN, self.ALLOWS)
        assert not passes(self.CONSENT, self.ALLOWS, UNKNOWN, self.DENIES)
        assert not passes(self.CONSENT, self.ALLOWS, DENIED)
        assert not passes(self.CONSENT, UNKNOWN, self.ALLOWS)
        assert not passes(self.OPT_OUT, UNKNOWN, self.DENIES)
        assert passes(self.CONTRACT, UNKNOWN, self.DENIES)
        assert passes(self.CONSENT, self.ALLOWS, consent(state(a=allow(NOW_MS))), event_time_ms=NOW_MS - 1)

    def test_recipients(self) -> None:
        """A deny for a recipient withholds what that recipient reads, from any subject, however new an allow is."""
        denial = SourceState(1, {"a@acme": deny(1)})
        every = SourceState(1, {"*@acme": deny(1)})
        acme, other = frozenset({"acme", "beta"}), frozenset({"beta"})
        for denying in (denial, every):
            refusing = consent(denying, state(a=allow(9)))
            assert passes(self.CONSENT, refusing, recipients=other)
            assert not passes(self.CONSENT, refusing, recipients=acme)
            assert not passes(self.CONSENT, self.ALLOWS, consent(denying), recipients=acme)
            assert passes(self.CONTRACT, refusing, recipients=acme)
        assert passes(PurposeRule("b", "opt_out", 30), consent(denial), recipients=acme)
        assert not passes(PurposeRule("b", "opt_out", 30), consent(every), recipients=acme)

    def test_the_jurisdiction_of_the_newest_state_that_has_one(self) -> None:
        """It chooses the basis; states without one are skipped, and of equally new ones the strictest counts."""
        rule = PurposeRule("a", "consent", 30, {"US-CA": "opt_out", "XX": "contract"})
        california, germany, elsewhere = (state(5, name) for name in ("US-CA", "DE", "XX"))
        assert not passes(rule, UNKNOWN)
        assert passes(rule, consent(california, state(9)))
        assert not passes(rule, consent(california, state(6, "DE")))
        assert passes(rule, consent(state(4, "DE"), california))
        assert not passes(rule, consent(california, germany))
        assert passes(rule, consent(california, elsewhere))
        assert not passes(rule, consent(california, elsewhere, state(a=deny(1))))
        assert passes(rule, consent(elsewhere, state(a=deny(1))))

    def test_a_state_that_cannot_be_read_may_name_any_jurisdiction(self) -> None:
        """So a basis that does not ask counts only if none of the purpose's bases asks."""
        assert not passes(PurposeRule("a", "contract", 30, {"DE": "consent"}), consent(state(5, "FR"), UNDECODABLE))
        assert not passes(PurposeRule("a", "consent", 30, {"FR": "contract"}), consent(state(5, "FR"), UNDECODABLE))
        assert passes(PurposeRule("a", "contract", 30, {"DE": "public_task"}), consent(UNDECODABLE))

    def test_the_bits_stand_in_the_order_of_the_rules(self) -> None:
        """Bit i is rule i."""
        rules = [PurposeRule(name, "consent", 30) for name in "abc"]
        given = consent(state(a=allow(1), c=allow(1)))
        assert passing(rules, given, [], event_time_ms=NOW_MS, now_ms=NOW_MS) == 0b101
        assert passing([], given, [], event_time_ms=NOW_MS, now_ms=NOW_MS) == 0

    def test_sticky_sources_are_heard(self) -> None:
        """The policy's sticky sources reach the answer."""
        given = consent(state(every=deny(1)), state(a=allow(2)))
        assert passes(self.CONSENT, given)
        assert not passes(self.CONSENT, given, sticky=frozenset({"s0"}))
        assert not passes(self.CONSENT, self.ALLOWS, given, sticky=frozenset({"s0"}))

    def test_a_rule_is_made_from_the_policy(self) -> None:
        """Every key of a purpose that matters here is taken over."""
        purpose = Purpose(
            title="A",
            basis="consent",
            basis_by={"US-CA": "opt_out"},
            retention_days=7,
            minors="allow",
            covers_earlier=True,
        )
        assert PurposeRule.of("a", purpose) == PurposeRule("a", "consent", 7, {"US-CA": "opt_out"}, "allow", True)


class TestChanges:
    """What records of the topic change."""

    PARTITIONS = 4

    def record(self, key: bytes | None, value: bytes | None, offset: int = 0, moved: int = 0) -> ConsentRecord:
        """Return a record in its own partition, or so many partitions further."""
        partition = (partition_of(key or b"", self.PARTITIONS) + moved) % self.PARTITIONS
        return ConsentRecord(partition, offset, key, value, NOW_MS)

    def changes(self, *records: ConsentRecord) -> Changes:
        """Return what they change."""
        changes = Changes(
            self.PARTITIONS, lambda key: f"n{len(key)}", frozenset({"email_marketing", "location_offers"})
        )
        for record in records:
            changes.add(record)
        return changes

    def test_the_last_state_of_a_source_counts(self) -> None:
        """Sources stand side by side; within one the last record wins, a tombstone included."""
        value = to_value(STATE)
        changes = self.changes(
            self.record(b"customer:1", value), self.record(b"customer:1#web", b"?"), self.record(b"customer:1", None)
        )
        assert changes.by_subject == {Subject("customer", "1"): {"": None, "web": UNDECODABLE}}
        assert changes.applied == Applied(records=3, undecodable=1, unknown_purposes=1)

    def test_a_key_in_a_wrong_partition_denies_until_it_is_deleted_there(self) -> None:
        """It stands beside the right key's state, and only a tombstone in its own place takes it away."""
        wrong = self.record(b"customer:1", to_value(STATE), moved=1)
        gone = self.record(b"customer:1", None, moved=1)
        (entry,) = self.changes(wrong).by_subject[Subject("customer", "1")].items()
        assert entry[1] is UNDECODABLE
        assert "!" in entry[0]
        assert self.changes(gone).by_subject == {Subject("customer", "1"): {entry[0]: None}}
        assert self.changes(wrong).applied == Applied(records=1, misplaced=1)
        assert self.changes(gone).applied == Applied(records=1)

    def test_another_spelling_denies_its_subject(self) -> None:
        """Two keys of one subject and source have no order, so the second one denies."""
        states = self.changes(self.record(b"customer:%31", to_value(STATE))).by_subject[Subject("customer", "1")]
        assert list(states.values()) == [UNDECODABLE]
        assert "" not in states

    def test_unreadable_keys_are_told_with_their_place(self) -> None:
        """The last one of each partition is named; a tombstone is none, for it can forget nothing."""
        first, last = self.record(b"nobody", b"{}", 7), self.record(b"nobody", b"{}", 9)
        changes = self.changes(first, last, self.record(None, None, 11), self.record(b":", None, 12))
        assert changes.unreadable == {last.partition: 9}
        assert changes.by_subject == {}
        assert changes.applied == Applied(records=4, unreadable=4)

    def test_purposes_that_no_policy_knows_are_counted(self) -> None:
        """Also those with a recipient; ``*`` is no purpose."""
        names = ("email_marketing", "location_offers@acme", "typo", "typo@acme", "*")
        value = to_value(SourceState(NOW_MS, {name: deny(NOW_MS) for name in names}))
        assert self.changes(self.record(b"customer:1", value)).applied.unknown_purposes == 2
        assert Applied(1, 2, 3, 4, 5) + Applied(1, 1, 1, 1, 1) == Applied(2, 3, 4, 5, 6)
