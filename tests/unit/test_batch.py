"""Running a batch: outcomes stand beside their records, whatever was rejected before the engine or not come to."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import pytest
from confluent_kafka import Message

from tokenweir.core import wire
from tokenweir.core.batches import FATES, OutputBatch, RecordBatch
from tokenweir.core.consent import UNKNOWN
from tokenweir.core.engineapi import ConsentLookup, Engine, Ready, Watch
from tokenweir.core.outcome import Fate, Outcome, Reason, Treated
from tokenweir.runtime.batch import MAX_ENGINE_SECONDS, BatchWatch, Intake, WorkBatch, run_engine
from tokenweir.runtime.plans import PlanCache, ReadyPlan, RefusedPlan
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

    def run(self, batch: RecordBatch, _consent: ConsentLookup, _now_ms: int, watch: Watch) -> list[OutputBatch]:
        watch.alone(1)
        if self._error is not None:
            raise self._error
        output = OutputBatch()
        for _ in batch.plans[: self._most]:
            output.add(Outcome(Fate.WITHHELD, treated={Treated.WITHHELD: 2}), b"")
        return [output] if len(batch) else []


_READY: Final = ReadyPlan(cast("Ready", None), (1,))


def _batch(rejected: set[int]) -> WorkBatch:
    count = 5
    values: list[bytes | None] = [b"" for _ in range(count)]
    return WorkBatch(
        "raw",
        [cast("Message", None)] * count,
        [3] * count,
        list(range(count)),
        values,
        list(values),
        [0] * count,
        None,
        0,
        [None if row in rejected else _READY for row in range(count)],
        dict.fromkeys(sorted(rejected), Reason.NOT_FRAMED),
    )


def _run(tmp_path: Path, engine: _Engine, batch: WorkBatch) -> list[OutputBatch]:
    watch = BatchWatch(StatusWriter(tmp_path / "worker.status"), _Clock())
    return run_engine(cast("Engine", engine), batch, 2, lambda _subject: UNKNOWN, 0, watch)


@pytest.mark.parametrize(
    ("most", "rejected", "expected"),
    [(5, set(), "wwwww"), (5, {0, 3}, "rwwrw"), (1, {0, 3}, "rw"), (2, {1, 3}, "wrwr"), (0, {0}, "r")],
)
def test_outcomes_are_those_of_the_first_records(tmp_path: Path, most: int, rejected: set[int], expected: str) -> None:
    """They end before the first record that the engine did not come to, so that none is passed over."""
    (output,) = _run(tmp_path, _Engine(most), _batch(rejected))

    assert "".join(FATES[code].value[0] for code in output.fates) == expected
    assert [entry.row for entry in output.rejected] == [row for row, fate in enumerate(expected) if fate == "r"]
    assert {entry.reason for entry in output.rejected} <= {Reason.NOT_FRAMED}
    assert output.withheld == expected.count("w")
    assert output.treated[list(Treated).index(Treated.WITHHELD)] == 2 * expected.count("w")


def test_a_batch_that_is_rejected_as_a_whole_is_so_in_every_output(tmp_path: Path) -> None:
    """The engine, which is given nothing, cannot say how many outputs there are."""
    outputs = _run(tmp_path, _Engine(5), _batch(set(range(5))))

    assert [[entry.row for entry in output.rejected] for output in outputs] == [list(range(5))] * 2


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
        watch.begin([], [])
        clock.seconds += step_seconds
        said.append(watch.enough())

    assert said == [False, True]


def test_offsets_of_all_owned_partitions_go_along() -> None:
    """A partition without records in the batch keeps its offset, and one with records gets the last one's next."""
    assert _batch(set()).next_offsets({("raw", 3): 0, ("raw", 1): 7}) == {("raw", 3): 5, ("raw", 1): 7}


class _Plans:
    """Schema 7 has a plan, 8 is refused, and nothing is known of others."""

    any_plan = _READY

    def get(self, schema_id: int) -> ReadyPlan | RefusedPlan | None:
        known: dict[int, ReadyPlan | RefusedPlan] = {7: _READY, 8: RefusedPlan(Reason.SCHEMA_FOREIGN, 0.0)}
        return known.get(schema_id)


def _message(value: bytes | None, timestamp_ms: int = 5) -> Message:
    return Message("raw", 0, 0, b"k", value, None, None, (1, timestamp_ms))


def test_each_record_has_a_plan_or_a_reason_or_waits() -> None:
    """Whatever stands beside it, and twice in a row: what was found once is remembered."""
    intake = Intake(cast("PlanCache", _Plans()), _Clock(), framed=True)
    values = [wire.frame(7, b"datum"), wire.frame(8, b""), None, b"\0\0", wire.frame(9, b""), b"", wire.frame(7, b"")]
    for _ in range(2):
        batch = intake.batch("raw", [_message(value) for value in values], [0] * 7, list(range(7)))
        assert batch.plans == [_READY, None, _READY, None, None, None, _READY]
        assert batch.reasons == {1: Reason.SCHEMA_FOREIGN, 3: Reason.NOT_FRAMED, 5: Reason.NOT_FRAMED}
        assert batch.waiting == [4]
        assert [batch.schema_id(row) for row in range(7)] == [7, 8, -1, -1, 9, -1, 7]


def test_without_frames_everything_has_one_plan() -> None:
    """Also an empty value, which its plan rejects."""

    class _Bare(_Plans):
        def get(self, schema_id: int) -> ReadyPlan | None:
            return _READY if schema_id == -1 else None

    intake = Intake(cast("PlanCache", _Bare()), _Clock(), framed=False)
    batch = intake.batch("raw", [_message(b"{}"), _message(b""), _message(None)], [0] * 3, [0, 1, 2])
    assert batch.plans == [_READY] * 3
    assert (batch.frame_bytes, batch.schema_id(0)) == (0, -1)


def test_a_record_without_a_time_is_of_now() -> None:
    """The others keep theirs."""
    intake = Intake(cast("PlanCache", _Plans()), _Clock(), framed=True)
    batch = intake.batch("raw", [_message(b"", 5), _message(b"", -1)], [0, 0], [0, 1])
    assert batch.timestamps_ms == [5, 100_000]


def test_rows_that_are_kept_keep_their_reasons() -> None:
    """In every column, the headers too."""
    intake = Intake(cast("PlanCache", _Plans()), _Clock(), framed=True)
    messages = [_message(wire.frame(number, b""), number) for number in (7, 8, 9, 8)]
    messages[3] = Message("raw", 0, 0, b"k", wire.frame(8, b"x"), [("h", b"v")], None, (1, 8))
    batch = intake.batch("raw", messages, [0, 1, 2, 3], [0, 10, 20, 30])
    batch.reject(0, Reason.QUARANTINED)
    batch.keep([0, 3])
    assert batch.reasons == {0: Reason.QUARANTINED, 1: Reason.SCHEMA_FOREIGN}
    assert (batch.partitions, batch.offsets, batch.timestamps_ms) == ([0, 3], [0, 30], [7, 8])
    assert batch.headers == [(), [("h", b"v")]]
    assert (len(batch), batch.plans, batch.waiting) == (2, [None, None], [])
