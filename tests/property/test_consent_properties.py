"""Consent as laws: an independent statement of the rules, and what holds for all states, keys and bytes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.core.consent import (
    UNDECODABLE,
    ConsentKeyError,
    Decision,
    PurposeRule,
    SourceState,
    SubjectConsent,
    Verdict,
    Word,
    answer,
    decode,
    encode,
    format_key,
    merge,
    parse_key,
    parse_value,
    passing,
    to_value,
)
from tokenweir.core.policy.models import Basis, Form
from tokenweir.core.subjects import Subject, canonical_id
from tokenweir.errors import DecodeError, InvalidValueError

quick = settings(max_examples=50, deadline=None)

DAY_MS = 86_400_000
NOW_MS = 10 * DAY_MS
PURPOSES = ("a", "b")
TIMES = st.integers(NOW_MS - 3, NOW_MS + 3)
ASKING: frozenset[Basis] = frozenset({"consent", "opt_out", "legitimate_interest"})
BASES: tuple[Basis, ...] = (
    "consent", "opt_out", "legitimate_interest", "contract", "legal_obligation", "public_task", "vital_interest"
)  # fmt: skip

allows = st.tuples(TIMES, st.none() | TIMES).map(lambda times: Decision("allow", *times))
denies = TIMES.map(lambda time_ms: Decision("deny", time_ms))


@st.composite
def source_states(draw: st.DrawFn) -> SourceState:
    """A state of few purposes and moments, so that ties and expiries are common."""
    if draw(st.integers(0, 9)) == 0:
        return UNDECODABLE
    decisions: dict[str, Decision] = {}
    for name in PURPOSES:
        if draw(st.booleans()):
            decisions[name] = draw(allows | denies)
    for name in ("*", "a@acme", "*@acme"):
        if draw(st.integers(0, 4)) == 0:
            decisions[name] = draw(denies)
    return SourceState(
        draw(TIMES), decisions, draw(st.sampled_from([None, None, "CA", "DE"])), draw(st.integers(0, 5)) == 0
    )


consents = st.dictionaries(st.sampled_from(["", "web", "gpc"]), source_states(), max_size=3)
purpose_rules = st.builds(
    PurposeRule,
    st.sampled_from(PURPOSES),
    st.sampled_from(BASES),
    st.integers(1, 2),
    st.dictionaries(st.sampled_from(["CA", "DE"]), st.sampled_from(BASES), max_size=2),
    st.sampled_from(["refuse", "allow"]),
    st.booleans(),
)


def naive_word(states: Mapping[str, SourceState], purpose: str, now_ms: int, sticky: frozenset[str]) -> Word | None:
    """Say what a subject's states say about a purpose, by listing all that speaks and sorting it."""
    if any(state.undecodable for state in states.values()):
        return "deny"

    def verdict(sources: Sequence[str]) -> Word | None:
        speaking = [
            (decision.decided_at_ms, decision.decision == "deny")
            for source in sources
            for name, decision in states[source].decisions.items()
            if name in (purpose, "*")
            and not (
                decision.decision == "allow" and decision.expires_at_ms is not None and decision.expires_at_ms <= now_ms
            )
        ]
        return None if not speaking else "deny" if max(speaking)[1] else "allow"

    if any(verdict([source]) == "deny" for source in states if source in sticky):
        return "deny"
    return verdict(list(states))


def naive_passes(  # noqa: PLR0911  # One line of the rules after the other, as they are written down.
    rule: PurposeRule,
    subjects: Sequence[Mapping[str, SourceState]],
    event_time_ms: int,
    recipients: frozenset[str],
    sticky: frozenset[str],
) -> bool:
    """Say whether a purpose passes, by the rules in the order of the policy language reference."""
    primary = subjects[0]
    if NOW_MS - event_time_ms > rule.retention_days * DAY_MS:
        return False
    named = [state for state in primary.values() if state.jurisdiction is not None]
    newest = max((state.decided_at_ms for state in named), default=0)
    bases = {
        rule.basis_by.get(state.jurisdiction or "", rule.basis) for state in named if state.decided_at_ms == newest
    }
    if any(state.undecodable for state in primary.values()):
        bases = {rule.basis, *rule.basis_by.values()}
    bases = bases or {rule.basis}
    if not bases & ASKING:
        return True
    for states in subjects:
        if naive_word(states, rule.name, NOW_MS, sticky) == "deny":
            return False
        if rule.minors == "refuse" and any(state.minor for state in states.values()):
            return False
        pairs = itertools.product((rule.name, "*"), recipients)
        if any(f"{name}@{recipient}" in state.decisions for name, recipient in pairs for state in states.values()):
            return False
    if "consent" not in bases:
        return True
    if naive_word(primary, rule.name, NOW_MS, sticky) != "allow":
        return False
    given_at = max(
        state.decisions[rule.name].decided_at_ms
        for state in primary.values()
        if rule.name in state.decisions and state.decisions[rule.name].in_force(NOW_MS)
    )
    return rule.covers_earlier or event_time_ms >= given_at


@quick
@given(
    rules=st.lists(purpose_rules, max_size=3),
    subjects=st.lists(consents, min_size=1, max_size=3),
    event_time_ms=TIMES | st.sampled_from([NOW_MS - DAY_MS - 1, NOW_MS - DAY_MS, NOW_MS - 2 * DAY_MS]),
    recipients=st.sampled_from([frozenset(), frozenset({"acme"}), frozenset({"beta", "acme"}), frozenset({"beta"})]),
    sticky=st.sampled_from([frozenset(), frozenset({"gpc"})]),
)
def test_the_answer_is_that_of_the_naive_rules(
    rules: list[PurposeRule],
    subjects: list[dict[str, SourceState]],
    event_time_ms: int,
    recipients: frozenset[str],
    sticky: frozenset[str],
) -> None:
    """The fast answer is the plain one, for every bit."""
    primary, *others = [SubjectConsent(states) for states in subjects]
    passed = passing(
        rules,
        primary,
        others,
        event_time_ms=event_time_ms,
        now_ms=NOW_MS,
        recipients=recipients,
        sticky=sticky,
    )
    expected = [naive_passes(rule, subjects, event_time_ms, recipients, sticky) for rule in rules]
    assert [bool(passed >> bit & 1) for bit in range(len(rules))] == expected
    assert passed < 1 << len(rules)


def test_every_small_world() -> None:
    """All pairs of sources over one purpose, ``*`` and two moments give the naive answer, whatever their order."""
    moments = (NOW_MS - 2, NOW_MS - 1)
    own = [
        None,
        *(Decision("deny", at) for at in moments),
        *(Decision("allow", at, expiry) for at in moments for expiry in (None, NOW_MS, NOW_MS + 1)),
    ]
    every = [None, *(Decision("deny", at) for at in moments)]
    states = [
        SourceState(0, {name: decision for name, decision in (("a", one), ("*", all_)) if decision is not None})
        for one in own
        for all_ in every
    ] + [UNDECODABLE]
    kinds = {None: Verdict.UNKNOWN, "allow": Verdict.ALLOW, "deny": Verdict.DENY}
    for first, second in itertools.product(states, repeat=2):
        for sticky in (frozenset[str](), frozenset({"y"})):
            expected = kinds[naive_word({"x": first, "y": second}, "a", NOW_MS, sticky)]
            assert answer(SubjectConsent({"x": first, "y": second}), "a", NOW_MS, sticky).kind is expected
            assert answer(SubjectConsent({"y": second, "x": first}), "a", NOW_MS, sticky).kind is expected


def test_every_small_record() -> None:
    """All combinations of a few bases, states of two subjects, event times and recipients give the naive answer."""
    early, late = NOW_MS - 2, NOW_MS - 1
    states = [
        SourceState(early, {}),
        SourceState(early, {"a": Decision("allow", early)}),
        SourceState(late, {"a": Decision("allow", late)}, "CA"),
        SourceState(late, {"a": Decision("allow", late, NOW_MS)}, "DE", minor=True),
        SourceState(late, {"*": Decision("deny", early)}, "CA"),
        SourceState(late, {"a": Decision("deny", late), "a@acme": Decision("deny", early)}),
        SourceState(late, {"*@acme": Decision("deny", early)}),
        UNDECODABLE,
    ]
    bases: tuple[Basis, ...] = ("consent", "opt_out", "contract")
    elsewhere: tuple[dict[str, Basis], ...] = ({}, {"CA": "opt_out"})
    rules = [
        rule
        for basis, basis_by in itertools.product(bases, elsewhere)
        for rule in (
            PurposeRule("a", basis, 1, basis_by),
            PurposeRule("a", basis, 1, basis_by, minors="allow", covers_earlier=True),
        )
    ]
    nobody: frozenset[str] = frozenset()
    worlds = itertools.product(states, states, [None, *states], (early, late), (nobody, frozenset({"acme"})))
    for first, second, third, event_time_ms, recipients in worlds:
        subjects = [{"x": first, "y": second}] + ([{"x": third}] if third is not None else [])
        primary, *others = [SubjectConsent(each) for each in subjects]
        passed = passing(rules, primary, others, event_time_ms=event_time_ms, now_ms=NOW_MS, recipients=recipients)
        expected = [naive_passes(rule, subjects, event_time_ms, recipients, nobody) for rule in rules]
        assert [bool(passed >> bit & 1) for bit in range(len(rules))] == expected


@quick
@given(states=consents, purpose=st.sampled_from(PURPOSES), source=st.sampled_from(["", "web"]))
def test_one_more_deny_never_allows(states: dict[str, SourceState], purpose: str, source: str) -> None:
    """Adding a withdrawal of now, or bytes that cannot be read, never ends in an allow."""
    denial = SourceState(NOW_MS + 4, {"*": Decision("deny", NOW_MS + 4)})
    for new in (denial, UNDECODABLE):
        assert answer(SubjectConsent(merge(states, source, new)), purpose, NOW_MS).kind is Verdict.DENY


@quick
@given(states=consents)
def test_the_stored_form_is_exact(states: dict[str, SourceState]) -> None:
    """What is stored comes back, and the bytes do not depend on the order in which it came."""
    assert decode(encode(states)) == SubjectConsent(states)
    assert encode(dict(reversed(states.items()))) == encode(states)


@quick
@given(states=consents, data=st.data())
def test_stored_bytes_are_read_exactly_or_not_at_all(states: dict[str, SourceState], data: st.DataObject) -> None:
    """Any bytes that are accepted are what would have been written."""
    stored = bytearray(encode(states))
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= data.draw(st.integers(1, 255))
    try:
        read = decode(bytes(stored))
    except DecodeError:
        return
    assert encode(read.states) == bytes(stored)


@quick
@given(state=source_states().filter(lambda state: not state.undecodable))
def test_written_values_are_read_as_the_same(state: SourceState) -> None:
    """A state goes through the topic unchanged."""
    assert parse_value(to_value(state), NOW_MS) == state


@quick
@given(data=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_state_or_a_deny(data: bytes) -> None:
    """No value escapes as another exception."""
    assert parse_value(data, NOW_MS) in (UNDECODABLE, None)


@quick
@given(
    subject=st.builds(Subject, st.text("ab-_.", min_size=1, max_size=5), st.text(min_size=1, max_size=20)),
    source=st.sampled_from(["", "web", "gpc"]),
)
def test_every_canonical_id_has_one_key(subject: Subject, source: str) -> None:
    """A canonical id goes through its key unchanged, and the key is found canonical."""
    try:
        subject = Subject(subject.type, canonical_id("text", subject.id))
    except InvalidValueError:
        return
    key = parse_key(format_key(subject, source))
    assert (key.subject, key.source, key.canonical) == (subject, source, True)


@quick
@given(data=st.text("a:#%41\u00e9 \u0301", max_size=12).map(str.encode) | st.binary(max_size=12))
def test_a_key_is_canonical_exactly_if_it_would_be_written_so(data: bytes) -> None:
    """Any bytes are a key or an error, and two keys that are both canonical never mean the same."""
    try:
        key = parse_key(data)
    except ConsentKeyError:
        return
    if key.canonical:
        assert format_key(key.subject, key.source) == data
    else:
        assert key.subject.canonical.encode() + (f"#{key.source}".encode() if key.source else b"") != data or (
            len(key.source) > 64 or not key.source.isascii()
        )


@quick
@given(text=st.text(min_size=1, max_size=20))
def test_canonical_forms_are_fixed_points(text: str) -> None:
    """The canonical form of a canonical id is itself, for text and lower case."""
    forms: tuple[Form, ...] = ("text", "lowercase")
    for form in forms:
        try:
            once = canonical_id(form, text)
        except InvalidValueError:
            continue
        assert canonical_id(form, once) == once
