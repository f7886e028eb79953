"""What people decided, and which purposes pass: the consent rules written once more, from the contract alone.

Only what the end-to-end proof uses: one source per subject, decisions by purpose and for all purposes, minors, and
values that cannot be decoded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from tests.support.events import rfc3339

EMAIL: Final = "email_marketing"
PHONE: Final = "phone_offers"
ANALYTICS: Final = "service_analytics"
EVERYTHING: Final = "*"

#: Purposes that need an allow. The third rests on a legitimate interest and needs that nobody objects.
NEEDS_ALLOW: Final = frozenset({EMAIL, PHONE})


class Decision(NamedTuple):
    """One decision and when it was made, in milliseconds since 1970."""

    word: Literal["allow", "deny"]
    decided_at_ms: int


@dataclass(frozen=True, slots=True)
class ConsentState:
    """The whole state of a subject; ``undecodable`` stands for a value that is no state at all."""

    decisions: Mapping[str, Decision] = field(default_factory=dict)
    minor: bool = False
    undecodable: bool = False

    def passes(self, purpose: str, event_time_ms: int) -> bool:
        """Say whether an event of this time may be used for a purpose."""
        if self.undecodable or self.minor:
            return False
        newest: Decision | None = None
        for name in (purpose, EVERYTHING):
            decision = self.decisions.get(name)
            # The newest decision counts, and a deny on a tie.
            if decision is not None and (newest is None or _rank(decision) > _rank(newest)):
                newest = decision
        if newest is None:
            return purpose not in NEEDS_ALLOW
        if newest.word == "deny":
            return False
        # An allow does not reach back to events from before it was given.
        return purpose not in NEEDS_ALLOW or event_time_ms >= newest.decided_at_ms

    def encode(self, garbage: str) -> bytes:
        """Return the value of a record of the consent topic; ``garbage`` is what an undecodable one holds."""
        if self.undecodable:
            return f'{{"version": 1, "decisions": "{garbage}"'.encode()
        newest = max((decision.decided_at_ms for decision in self.decisions.values()), default=0)
        decisions = {
            name: {"decision": decision.word, "decided_at": rfc3339(decision.decided_at_ms)}
            for name, decision in self.decisions.items()
        }
        return json.dumps(
            {"version": 1, "decided_at": rfc3339(newest), "minor": self.minor, "decisions": decisions}
        ).encode()


#: What holds for a subject of whom the consent topic says nothing.
UNKNOWN: Final = ConsentState()


def _rank(decision: Decision) -> tuple[int, bool]:
    return decision.decided_at_ms, decision.word == "deny"
