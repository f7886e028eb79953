"""Which purposes a record may be used for, as the decisions of its data subjects and the policy's rules say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from tokenweir.core.consent.states import EVERY_PURPOSE, SourceState, SubjectConsent
from tokenweir.core.policy.models import Basis, Purpose

_DAY_MS: Final = 86_400_000

# What a basis needs of the primary subject's decision; of two jurisdictions the larger need counts.
_NOTHING: Final = 0
_NO_DENY: Final = 1
_ALLOW: Final = 2
_NEEDS: Final[Mapping[str, int]] = {
    "consent": _ALLOW,
    "opt_out": _NO_DENY,
    "legitimate_interest": _NO_DENY,
    "contract": _NOTHING,
    "legal_obligation": _NOTHING,
    "public_task": _NOTHING,
    "vital_interest": _NOTHING,
}


class Verdict(StrEnum):
    """What a subject's decisions say about one purpose."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


class Answer(NamedTuple):
    """A verdict, and for an allow the time since which it holds, in milliseconds since 1970."""

    kind: Verdict
    allow_since_ms: int | None = None


_DENY: Final = Answer(Verdict.DENY)
_UNKNOWN: Final = Answer(Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class PurposeRule:
    """A purpose of the policy, prepared to be asked for every record."""

    name: str
    basis: Basis
    retention_days: int
    basis_by: Mapping[str, Basis] = field(default_factory=dict)
    minors: Literal["refuse", "allow"] = "refuse"
    covers_earlier: bool = False
    _retention_ms: int = field(init=False, repr=False, compare=False)
    _need: int = field(init=False, repr=False, compare=False)
    _need_by: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _largest_need: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        need = _NEEDS[self.basis]
        need_by = {jurisdiction: _NEEDS[basis] for jurisdiction, basis in self.basis_by.items()}
        object.__setattr__(self, "_retention_ms", self.retention_days * _DAY_MS)
        object.__setattr__(self, "_need", need)
        object.__setattr__(self, "_need_by", need_by)
        object.__setattr__(self, "_largest_need", max(need, *need_by.values(), 0))

    @classmethod
    def of(cls, name: str, purpose: Purpose) -> PurposeRule:
        """Return the rule of a purpose in the policy file."""
        return cls(
            name, purpose.basis, purpose.retention_days, purpose.basis_by, purpose.minors, purpose.covers_earlier
        )

    def passes(  # noqa: PLR0913  # See passing(), of which this is one step.
        self,
        primary: SubjectConsent,
        others: Sequence[SubjectConsent],
        *,
        event_time_ms: int,
        now_ms: int,
        recipients: frozenset[str],
        sticky: frozenset[str],
    ) -> bool:
        """Whether one record may be used for this purpose; see :func:`passing`."""
        if event_time_ms < now_ms - self._retention_ms:
            return False
        need = self._needed_of(primary)
        if need == _NOTHING:
            return True
        kind, since_ms = answer(primary, self.name, now_ms, sticky)
        if kind is not Verdict.ALLOW and (need == _ALLOW or kind is Verdict.DENY):
            return False
        if need == _ALLOW and not self.covers_earlier and (since_ms is None or event_time_ms < since_ms):
            return False
        return not self._refuses(primary, recipients) and not any(
            self._refuses(other, recipients) or answer(other, self.name, now_ms, sticky).kind is Verdict.DENY
            for other in others
        )

    def _needed_of(self, primary: SubjectConsent) -> int:
        if not self._need_by:
            return self._need
        if primary.undecodable:
            # The record that cannot be read may name any jurisdiction.
            return self._largest_need
        need_by = self._need_by
        return max((need_by.get(name, self._need) for name in primary.jurisdictions), default=self._need)

    def _refuses(self, subject: SubjectConsent, recipients: frozenset[str]) -> bool:
        if subject.minor and self.minors == "refuse":
            return True
        denials = subject.recipient_denials
        return bool(denials) and any(
            f"{self.name}@{recipient}" in denials or f"{EVERY_PURPOSE}@{recipient}" in denials
            for recipient in recipients
        )


def answer(consent: SubjectConsent, purpose: str, now_ms: int, sticky: frozenset[str] = frozenset()) -> Answer:
    """Return what one subject's decisions say about a purpose.

    Between sources, and between the purpose's own decision and ``*``, the newest ``decided_at`` wins, and deny on a
    tie. An expired allow is as if it were not there. One state that could not be read is a deny, and so is a deny of
    a ``sticky`` source until that source itself lifts it, however old it is.
    """
    if consent.undecodable:
        return _DENY
    states = consent.states
    if sticky:
        for source, state in states.items():
            if source in sticky and _newest((state,), purpose, now_ms).kind is Verdict.DENY:
                return _DENY
    return _newest(states.values(), purpose, now_ms)


def passing(  # noqa: PLR0913  # One argument for each thing that the answer depends on.
    rules: Sequence[PurposeRule],
    primary: SubjectConsent,
    others: Sequence[SubjectConsent],
    *,
    event_time_ms: int,
    now_ms: int,
    recipients: frozenset[str] = frozenset(),
    sticky: frozenset[str] = frozenset(),
) -> int:
    """Return which purposes one record may be used for: bit ``i`` stands for ``rules[i]``.

    - An event older than ``retention_days`` passes for no purpose, on any basis.
    - Basis ``consent`` needs an allow of the primary subject, no younger than the event unless the purpose says
      ``covers_earlier``; ``opt_out`` and ``legitimate_interest`` need that it does not deny. The other bases do not
      ask, so that neither decisions nor ``minors`` apply to them. Which basis applies follows from the jurisdiction
      in the primary's newest state that has one; of two such states of one age, and if a state could not be read,
      the strictest basis applies.
    - A deny of another present subject wins; that it is unknown says nothing.
    - With ``minors: refuse`` a subject that any source marks as a minor denies.
    - ``purpose@recipient: deny`` denies the purpose where one of ``recipients`` is that recipient.
    """
    passed = 0
    bit = 1
    for rule in rules:
        if rule.passes(
            primary, others, event_time_ms=event_time_ms, now_ms=now_ms, recipients=recipients, sticky=sticky
        ):
            passed |= bit
        bit <<= 1
    return passed


def _newest(states: Iterable[SourceState], purpose: str, now_ms: int) -> Answer:
    newest_ms: int | None = None
    allowed = False
    for state in states:
        decisions = state.decisions
        for name in (purpose, EVERY_PURPOSE):
            decision = decisions.get(name)
            if decision is None:
                continue
            word, decided_at_ms, expires_at_ms, _notice, _evidence = decision
            if word == "deny":
                if newest_ms is None or decided_at_ms >= newest_ms:
                    newest_ms, allowed = decided_at_ms, False
            elif (expires_at_ms is None or now_ms < expires_at_ms) and (newest_ms is None or decided_at_ms > newest_ms):
                newest_ms, allowed = decided_at_ms, True
    if newest_ms is None:
        return _UNKNOWN
    return Answer(Verdict.ALLOW, newest_ms) if allowed else _DENY
