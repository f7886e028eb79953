"""What the log says of rejected records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tokenweir.core import wire
from tokenweir.core.batches import OutputBatch
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.runtime.batch import WorkBatch
from tokenweir.runtime.rejections import RejectionLog


def _batch(log: RejectionLog, first: int, outcomes: Sequence[Sequence[Outcome]]) -> None:
    count = len(outcomes)
    values: list[bytes | None] = [wire.frame(7, b"") for _ in outcomes]
    offsets = list(range(first, first + count))
    batch = WorkBatch("raw", cast("Any", [None]) * count, [0] * count, offsets, values, values, [0] * count, None, 5)
    outputs = [OutputBatch(), OutputBatch()]
    for entries in outcomes:
        for output, outcome in zip(outputs, entries, strict=True):
            output.add(outcome, b"")
    log.note(batch, outputs)


def test_a_flood_is_told_in_few_lines_and_every_record_is_in_one() -> None:
    """The first at once, the others together; a record that several outputs reject for one reason counts once."""
    now = 100.0
    told: list[tuple[Reason, int, str, int]] = []
    log = RejectionLog(
        lambda reason, first, path, records: told.append((reason, first.offset, path, records)), lambda: now
    )
    bad = [Outcome.rejected(Reason.VALUE_INVALID, "card"), Outcome.rejected(Reason.VALUE_INVALID, "card")]
    good = [Outcome(Fate.SANITIZED), Outcome(Fate.WITHHELD)]

    _batch(log, 0, [good, bad])
    _batch(log, 2, [bad, bad, good])
    _batch(log, 5, [[Outcome.rejected(Reason.MALFORMED), good[0]], bad])
    now += 9
    log.tick()
    assert told == [(Reason.VALUE_INVALID, 1, "card", 1), (Reason.MALFORMED, 5, "", 1)]
    now += 2
    log.tick()
    log.tick()
    assert told[2:] == [(Reason.VALUE_INVALID, 2, "card", 3)]
