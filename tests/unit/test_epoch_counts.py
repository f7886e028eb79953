"""What a worker counts while two epochs are fed, and what stands beside its offsets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenweir.core.batches import OutputBatch
from tokenweir.core.context import EpochOutput, fed_epochs
from tokenweir.core.outcome import Fate, Outcome, Reason, Treated
from tokenweir.runtime.position import ConsentPosition, Source
from tokenweir.runtime.status import StatusWriter
from tokenweir.runtime.tally import Tally
from tokenweir.telemetry import metrics
from tokenweir.telemetry.metrics import Series
from tokenweir.telemetry.slots import SlotWriter, read_slot, slot_path

OUTPUTS = (
    EpochOutput(0, "crm", "raw.crm.e2", "crm", 2),
    EpochOutput(0, "crm", "raw.crm", "crm", 1, active=False),
    EpochOutput(1, "ads", "raw.ads", "ads", 1),
)


def test_a_record_counts_once_for_each_audience_and_once_in_each_epoch(tmp_path: Path) -> None:
    """Fates add up to the records consumed whatever is fed beside the active epoch, which has numbers of its own."""
    pairs = [(output.audience, output.epoch) for output in OUTPUTS]
    path = slot_path(tmp_path, "worker-raw", 0)
    slot = SlotWriter(path, metrics.worker_series("raw", ["crm", "ads"], pairs))
    tally = Tally(slot, StatusWriter(tmp_path / "status"), "raw", OUTPUTS, keys_made_at_ms=40_000)
    sanitized = Outcome(Fate.SANITIZED, treated={Treated.TOKENIZED: 2})
    rejected = Outcome.rejected(Reason.VALUE_INVALID)
    rows = [[sanitized, sanitized, Outcome(Fate.WITHHELD)], [rejected, rejected, rejected], [sanitized] * 3]
    outcomes = [OutputBatch() for _ in OUTPUTS]
    for row in rows:
        for output, outcome in zip(outcomes, row, strict=True):
            output.add(outcome, b"")

    tally.committed(outcomes=outcomes, timestamps_ms=[0, 0, 0], now_ms=100_000, duration_seconds=0.1)
    tally.key_age(100_000)

    found = read_slot(path).values
    records = {
        (audience, fate): float(str(found[Series(metrics.RECORDS, ("raw", audience, fate))]))
        for audience in ("crm", "ads")
        for fate in Fate
    }
    assert sum(records["crm", fate] for fate in Fate) == sum(records["ads", fate] for fate in Fate) == 3
    assert records["crm", Fate.SANITIZED] == 2
    assert found[Series(metrics.REJECTIONS, ("raw", "value_invalid"))] == 2
    assert found[Series(metrics.FIELDS, ("raw", "crm", "tokenized"))] == 4
    for epoch in ("1", "2"):
        assert found[Series(metrics.EPOCH_RECORDS, ("raw", "crm", epoch, "sanitized"))] == 2
        assert found[Series(metrics.EPOCH_RECORDS, ("raw", "crm", epoch, "rejected"))] == 1
    assert found[Series(metrics.KEY_EPOCH_AGE)] == 60


def test_what_is_fed_stands_in_the_order_of_the_policy() -> None:
    """The active epoch first; where all are in the first one there is nothing to say."""
    assert fed_epochs(OUTPUTS) == "2+1,1"
    assert fed_epochs(OUTPUTS[1:]) == ""


@pytest.mark.parametrize("source", [None, Source("s" * 22, 7)])
@pytest.mark.parametrize("epochs", ["", "2+1,1", "3"])
def test_the_metadata_of_an_offset_keeps_the_epochs(source: Source | None, epochs: str) -> None:
    """With a source or without; metadata from before the first rotation look as they always did."""
    position = ConsentPosition("c" * 22, "0" * 64, {0: 3, 7: 1}, source, epochs)

    assert ConsentPosition.parse(position.encode()) == position
    assert epochs or position.encode() == ConsentPosition("c" * 22, "0" * 64, {0: 3, 7: 1}, source).encode()
    assert position.at_least([ConsentPosition("c" * 22, "p", {0: 9})]).epochs == epochs
