"""What the decisions of a subject say about every purpose, for people who ask."""

from __future__ import annotations

from dataclasses import dataclass

from tokenweir.core.consent import EVERY_PURPOSE, SubjectConsent, Verdict, answer
from tokenweir.core.policy.models import Policy


@dataclass(frozen=True, slots=True)
class Answered:
    """What the decisions of a subject say about one purpose, and since when and until when."""

    purpose: str
    verdict: Verdict
    since_ms: int | None
    expires_at_ms: int | None


def answers(consent: SubjectConsent, policy: Policy, now_ms: int) -> list[Answered]:
    """Return the answer for every purpose of the policy, before legal bases and event times are looked at."""
    found = []
    for purpose in policy.purposes:
        verdict, since_ms = answer(consent, purpose, now_ms)
        expires_at_ms = None
        decisions = [
            decision
            for state in consent.states.values()
            for name in (purpose, EVERY_PURPOSE)
            if (decision := state.decisions.get(name)) is not None and decision.decision == verdict.value
        ]
        if verdict is Verdict.DENY:
            since_ms = max((decision.decided_at_ms for decision in decisions), default=None)
        elif verdict is Verdict.ALLOW:
            expiries = [decision.expires_at_ms for decision in decisions if decision.decided_at_ms == since_ms]
            expires_at_ms = None if None in expiries else max(expiry for expiry in expiries if expiry is not None)
        found.append(Answered(purpose, verdict, since_ms, expires_at_ms))
    return found
