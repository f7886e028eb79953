"""Running a batch: outcomes stand beside their records, whatever was rejected before the engine or not come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from tokenweir.core.consent import UNKNOWN
from tokenweir.core.engine import BoundPlan, ConsentLookup, Record, ReferenceEngine
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.runtime.batch import Work, offsets_after, run_engine
from tokenweir.runtime.plans import ReadyPlan


class _Engine:
    """Withholds the first records, as many as it is told."""

    def __init__(self, most: int) -> None:
        self._most = most

    def process(
        self,
        batch: Sequence[tuple[BoundPlan, Record]],
        _consent: ConsentLookup,
        _now_ms: int,
        *,
        enough: Callable[[], bool],
    ) -> list[list[Outcome]]:
        del enough
        return [[Outcome(Fate.WITHHELD)] for _ in batch[: self._most]]


def _batch(rejected: set[int]) -> list[Work]:
    ready = ReadyPlan(cast("BoundPlan", None), (1,))
    message = cast("Any", None)
    return [
        Work(message, ("raw", 0), offset, 0, reason=Reason.NOT_FRAMED)
        if offset in rejected
        else Work(message, ("raw", 0), offset, 0, plan=ready, record=Record(b"", None, 0))
        for offset in range(5)
    ]


@pytest.mark.parametrize(
    ("most", "rejected", "expected"),
    [(5, set(), "wwwww"), (5, {0, 3}, "rwwrw"), (1, {0, 3}, "rw"), (2, {1, 3}, "wrwr"), (0, {0}, "r")],
)
def test_outcomes_are_those_of_the_first_records(most: int, rejected: set[int], expected: str) -> None:
    """They end before the first record that the engine did not come to, so that none is passed over."""
    engine = cast("ReferenceEngine", _Engine(most))

    outcomes = run_engine(engine, _batch(rejected), 1, lambda _subject: UNKNOWN, now_ms=0, enough=lambda: False)

    assert "".join(entries[0].fate.value[0] for entries in outcomes) == expected


def test_offsets_of_all_owned_partitions_go_along() -> None:
    """A partition without records in the batch keeps its offset, and one with records gets the last one's next."""
    assert offsets_after({("raw", 0): 0, ("raw", 1): 7}, _batch(set())) == {("raw", 0): 5, ("raw", 1): 7}
