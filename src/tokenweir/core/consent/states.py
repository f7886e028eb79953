"""What a data subject has decided: one full state per source, and the record of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from tokenweir.errors import RefusedError

Word = Literal["allow", "deny"]

#: In place of a purpose: all purposes, present and future. It can only be denied.
EVERY_PURPOSE: Final = "*"


class Decision(NamedTuple):
    """What was decided about one purpose, and when, in milliseconds since 1970.

    ``notice`` and ``evidence`` document the decision and change nothing; they are on the topic and not in the store.
    """

    decision: Word
    decided_at_ms: int
    expires_at_ms: int | None = None
    notice: str | None = None
    evidence: str | None = None

    def in_force(self, now_ms: int) -> bool:
        """Whether the decision still counts: a deny always does, an allow until it expires."""
        return self.decision == "deny" or self.expires_at_ms is None or now_ms < self.expires_at_ms

    def __repr__(self) -> str:
        return "Decision(...)"


@dataclass(frozen=True, slots=True, repr=False)
class SourceState:
    """The full state of one data subject at one source, as the last record of its key says.

    Attributes:
        decided_at_ms: When the source last changed anything.
        jurisdiction: Whose law applies, such as ``US-CA``.
        minor: The subject is a minor.
        decisions: By purpose, by ``purpose@recipient`` or ``*``; the latter two are only ever denied.
        undecodable: The record could not be read: a deny for every basis that asks.
    """

    decided_at_ms: int
    decisions: Mapping[str, Decision]
    jurisdiction: str | None = None
    minor: bool = False
    undecodable: bool = False

    def __repr__(self) -> str:
        return "SourceState(undecodable)" if self.undecodable else f"SourceState({len(self.decisions)} decisions)"


UNDECODABLE: Final = SourceState(0, {}, undecodable=True)


class SubjectConsent:
    """Everything that is known of one data subject: its state at each source. Not to be changed.

    Attributes:
        states: By the name of the source; the bare key has the name "".
        undecodable: The state of at least one source could not be read.
        minor: At least one source says so.
        jurisdictions: What the newest state that has a jurisdiction names; several only if such states have one age.
        recipient_denials: The ``purpose@recipient`` pairs that any source denies. A later allow of the whole purpose
            does not lift them; only the source that made one can.
    """

    __slots__ = ("jurisdictions", "minor", "recipient_denials", "states", "undecodable")

    def __init__(self, states: Mapping[str, SourceState]) -> None:
        self.states = states
        self.undecodable = False
        self.minor = False
        self.jurisdictions: tuple[str, ...] = ()
        self.recipient_denials: frozenset[str] = frozenset()
        newest_ms = 0
        for state in states.values():
            if state.undecodable:
                self.undecodable = True
            if state.minor:
                self.minor = True
            if state.jurisdiction is not None:
                if not self.jurisdictions or state.decided_at_ms > newest_ms:
                    self.jurisdictions = (state.jurisdiction,)
                    newest_ms = state.decided_at_ms
                elif state.decided_at_ms == newest_ms:
                    self.jurisdictions += (state.jurisdiction,)
            for name in state.decisions:
                if "@" in name:
                    self.recipient_denials |= {name}

    def __eq__(self, other: object) -> bool:
        return self.states == other.states if isinstance(other, SubjectConsent) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # Equal by a mapping, which has no hash.

    def __repr__(self) -> str:
        return f"SubjectConsent({len(self.states)} sources)"


#: A subject of whom the topic says nothing.
UNKNOWN: Final = SubjectConsent({})

#: A subject that is denied for every basis that asks, whatever the topic says.
DENIED: Final = SubjectConsent({"": UNDECODABLE})


def merge(states: Mapping[str, SourceState], source: str, new: SourceState | None) -> dict[str, SourceState]:
    """Return the states of a subject after one more record: a state replaces its source's, None forgets it."""
    merged = {name: state for name, state in states.items() if name != source}
    if new is not None:
        merged[source] = new
    return merged


def with_decisions(  # noqa: PLR0913  # These are the attributes that a decision has.
    state: SourceState | None,
    words: Mapping[str, Word],
    now_ms: int,
    *,
    expires_at_ms: int | None = None,
    notice: str | None = None,
    evidence: str | None = None,
) -> SourceState:
    """Return a source's state after its subject decided anew, for writers: everything else stays as it is.

    An allow that is only repeated stays as it is too, ``decided_at`` included, so that repeating it never lifts a
    newer deny of another source. It is repeated if it is in force, nothing new is said of it, and the state's own
    ``*`` does not overrule it. A deny always counts from now, so that it is never weaker than an allow elsewhere.
    ``expires_at_ms`` is for the allows among ``words``.

    Raises:
        RefusedError: The present state could not be decoded, so what it denies cannot be kept.
    """
    if state is None:
        state = SourceState(now_ms, {})
    if state.undecodable:
        raise RefusedError("the present state of this source cannot be read, so no decision can be added to it")
    says_more = (expires_at_ms, notice, evidence) != (None, None, None)
    decisions = dict(state.decisions)
    for name, word in words.items():
        if word == "deny" or says_more or not _stands(state, name, now_ms):
            decisions[name] = Decision(word, now_ms, expires_at_ms if word == "allow" else None, notice, evidence)
    return replace(state, decided_at_ms=now_ms, decisions=decisions)


def _stands(state: SourceState, name: str, now_ms: int) -> bool:
    """Whether the state by itself allows this already."""
    own = state.decisions.get(name)
    every = state.decisions.get(EVERY_PURPOSE)
    if own is None or own.decision == "deny" or not own.in_force(now_ms):
        return False
    return every is None or own.decided_at_ms > every.decided_at_ms
