"""Tells of rejected records in the log, without letting a flood of them flood it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tokenweir.core.outcome import Outcome, Reason
from tokenweir.runtime.batch import Work

_PAUSE_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Untold:
    """Records that were rejected for one reason since the last line about it; ``first`` is the first of them."""

    first: Work
    field_path: str
    records: int = 0


class RejectionLog:
    """One line for each reason at once, then one every ten seconds as long as there is something to tell.

    Args:
        tell: Writes a line: the reason, the first record, the path in its schema, and how many records it is about.
        monotonic: A clock in seconds.
    """

    def __init__(self, tell: Callable[[Reason, Work, str, int], None], monotonic: Callable[[], float]) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._untold: dict[Reason, _Untold] = {}
        self._told_at: dict[Reason, float] = {}

    def note(self, rejected: Iterable[tuple[Work, Sequence[Outcome]]]) -> None:
        """Note the rejected records of a batch that is committed, with what became of each."""
        for work, entries in rejected:
            reasons = {outcome.reason: outcome.field_path for outcome in entries if outcome.reason is not None}
            for reason, field_path in reasons.items():
                self._untold.setdefault(reason, _Untold(work, field_path)).records += 1
        self.tick()

    def tick(self) -> None:
        """Tell what is due."""
        if not self._untold:
            return
        now = self._monotonic()
        for reason, untold in list(self._untold.items()):
            if now - self._told_at.get(reason, -_PAUSE_SECONDS) >= _PAUSE_SECONDS:
                del self._untold[reason]
                self._told_at[reason] = now
                self._tell(reason, untold.first, untold.field_path, untold.records)
