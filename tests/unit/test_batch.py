"""Running a batch: outcomes stand beside their records, whatever was rejected before the engine or not come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tokenweir.core.consent import UNKNOWN
from tokenweir.core.engine import BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import ConsentLookup, Record, Watch
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.runtime.batch import MAX_ENGINE_SECONDS, BatchWatch, Work, offsets_after, run_engine
from tokenweir.runtime.plans import ReadyPlan
from tokenweir.runtime.status import Phase, Place, StatusWriter, read_sign


class _Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic_ns(self) -> int:
        return int(self.seconds * 1e9)


class _Engine:
    """Withholds the first records, as many as it is told, and fails if it is told so."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self._most = most
        self._error = error

    def process(
        self, batch: Sequence[tuple[BoundPlan, Record]], _consent: ConsentLookup, _now_ms: int, watch: Watch
    ) -> list[list[Outcome]]:
        watch.alone(1)
        if self._error is not None:
            raise self._error
        return [[Outcome(Fate.WITHHELD)] for _ in batch[: self._most]]


def _batch(rejected: set[int]) -> list[Work]:
    ready = ReadyPlan(cast("BoundPlan", None), (1,))
    message = cast("Any", None)
    return [
        Work(message, ("raw", 3), offset, 0, reason=Reason.NOT_FRAMED)
        if offset in rejected
        else Work(message, ("raw", 3), offset, 0, plan=ready, record=Record(b"", None, 0))
        for offset in range(5)
    ]


def _run(tmp_path: Path, engine: _Engine, batch: list[Work]) -> list[list[Outcome]]:
    watch = BatchWatch(StatusWriter(tmp_path / "worker.status"), _Clock())
    return run_engine(cast("ReferenceEngine", engine), batch, 1, lambda _subject: UNKNOWN, 0, watch)


@pytest.mark.parametrize(
    ("most", "rejected", "expected"),
    [(5, set(), "wwwww"), (5, {0, 3}, "rwwrw"), (1, {0, 3}, "rw"), (2, {1, 3}, "wrwr"), (0, {0}, "r")],
)
def test_outcomes_are_those_of_the_first_records(tmp_path: Path, most: int, rejected: set[int], expected: str) -> None:
    """They end before the first record that the engine did not come to, so that none is passed over."""
    outcomes = _run(tmp_path, _Engine(most), _batch(rejected))

    assert "".join(entries[0].fate.value[0] for entries in outcomes) == expected


def test_a_record_that_ends_the_engine_is_marked(tmp_path: Path) -> None:
    """Positions are those of the records that reach the engine; after an orderly end nothing is marked."""
    _run(tmp_path, _Engine(5), _batch({0}))
    done = read_sign(tmp_path / "worker.status")
    with pytest.raises(MemoryError):
        _run(tmp_path, _Engine(5, MemoryError()), _batch({0}))
    died = read_sign(tmp_path / "worker.status")

    assert done is not None
    assert (done.phase, done.records) == (Phase.OTHER, ())
    assert died is not None
    assert (died.phase, died.records) == (Phase.ENGINE, (Place(3, 2),))


def test_a_batch_has_a_time_limit(tmp_path: Path) -> None:
    """It begins with each batch."""
    clock = _Clock()
    watch = BatchWatch(StatusWriter(tmp_path / "worker.status"), clock)
    said = []
    for step_seconds in (MAX_ENGINE_SECONDS * 0.9, MAX_ENGINE_SECONDS * 1.1):
        watch.begin([])
        clock.seconds += step_seconds
        said.append(watch.enough())

    assert said == [False, True]


def test_offsets_of_all_owned_partitions_go_along() -> None:
    """A partition without records in the batch keeps its offset, and one with records gets the last one's next."""
    assert offsets_after({("raw", 3): 0, ("raw", 1): 7}, _batch(set())) == {("raw", 3): 5, ("raw", 1): 7}
