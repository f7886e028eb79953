"""Counters in memory-mapped files: they outlive their process, never fall, and add up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenweir.errors import FileFormatError
from tokenweir.telemetry import metrics
from tokenweir.telemetry.metrics import METRICS, Series, series_of
from tokenweir.telemetry.slots import (
    Distribution,
    SlotContents,
    SlotWriter,
    clear_slots,
    drop_gauges,
    merge,
    read_slot,
    slot_path,
)

CONSUMED = series_of(metrics.RECORDS_CONSUMED, ["clicks"])
LAG = series_of(metrics.CONSUMER_LAG, ["clicks"], ["0"])
DURATION = series_of(metrics.BATCH_DURATION)

CHILD = """
import os, signal, sys
from pathlib import Path
from tokenweir.telemetry.metrics import Series
from tokenweir.telemetry.slots import SlotWriter
slot = SlotWriter(Path(sys.argv[1]), [Series("tokenweir_records_consumed_total", ("clicks",))])
for _ in range(1000):
    slot.add(0, 3)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_values_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Counters are exact integers beyond what a double holds, gauges and sums are doubles, order does not matter."""
    path = slot_path(tmp_path, "worker-clicks", 3)
    assert path.name == "worker-clicks-3.bin"
    with SlotWriter(path, [*DURATION, *LAG, *CONSUMED]) as slot:
        slot.add(slot.index(metrics.RECORDS_CONSUMED, "clicks"), 2**53)
        slot.add(slot.index(metrics.RECORDS_CONSUMED, "clicks"))
        slot.set(slot.index(metrics.CONSUMER_LAG, "clicks", "0"), 12.5)
        for value in (0.0, 0.01, 0.011, 30.0, 31.0, -5.0):
            slot.observe(slot.index(metrics.BATCH_DURATION), value)
        slot.observe(slot.index(metrics.BATCH_DURATION), 1.0, times=4)
        contents = read_slot(path)
    assert contents.pid == os.getpid()
    counts = contents.values[DURATION[0]]
    assert isinstance(counts, Distribution)
    assert dict(zip((*METRICS[metrics.BATCH_DURATION].buckets, "inf"), counts.counts, strict=True)) == {
        0.01: 3, 0.025: 1, 0.05: 0, 0.1: 0, 0.25: 0, 0.5: 0, 1: 4, 2.5: 0, 5: 0, 10: 0, 15: 0, 30: 1, "inf": 1,
    }  # fmt: skip
    assert counts.sum == pytest.approx(65.021)
    assert contents.values[CONSUMED[0]] == 2**53 + 1
    assert contents.values[LAG[0]] == 12.5


@given(st.lists(st.integers(-2_000_000, 200_000_000), max_size=30))
def test_ages_are_counted_as_one_by_one(ages_ms: list[int]) -> None:
    """Whatever their order; what is yet to come, because clocks differ, counts as zero."""
    now_ms = 1_800_000_000_000
    age = series_of(metrics.EVENT_AGE)
    with tempfile.TemporaryDirectory() as directory:
        together, alone = (SlotWriter(Path(directory) / name, age) for name in ("together", "alone"))
        with together, alone:
            together.observe_ages(0, [now_ms - age_ms for age_ms in ages_ms], now_ms)
            for age_ms in ages_ms:
                alone.observe(0, age_ms / 1000)
        one, other = (read_slot(Path(directory) / name).values[age[0]] for name in ("together", "alone"))
    assert isinstance(one, Distribution)
    assert isinstance(other, Distribution)
    assert one.counts == other.counts
    assert one.sum == pytest.approx(other.sum)


def test_counts_survive_sigkill_and_go_on(tmp_path: Path) -> None:
    """A process that is killed has lost nothing, and its successor adds to the same counters."""
    path = slot_path(tmp_path, "worker", 0)
    for round_ in (1, 2):
        child = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=False, timeout=60)
        assert child.returncode == -signal.SIGKILL
        assert read_slot(path).values[CONSUMED[0]] == 3000 * round_


def test_a_successor_keeps_counters_and_loses_gauges(tmp_path: Path) -> None:
    """What a dead process had counted stays true; its lag does not. Series that the successor lacks stay as well."""
    path = slot_path(tmp_path, "worker", 0)
    with SlotWriter(path, [*CONSUMED, *LAG, *DURATION]) as slot:
        slot.add(0, 5)
        slot.set(1, 7)
        slot.observe(2, 0.3)
    with SlotWriter(path, [*LAG, *series_of(metrics.QUARANTINED, ["clicks"])]) as slot:
        slot.add(slot.index(metrics.RECORDS_CONSUMED, "clicks"), 1)
        values = read_slot(path).values
    assert values[CONSUMED[0]] == 6
    assert LAG[0] not in values
    assert values[Series(metrics.QUARANTINED, ("clicks",))] == 0
    assert isinstance(values[DURATION[0]], Distribution)
    assert sum(values[DURATION[0]].counts) == 1  # type: ignore[union-attr]  # asserted above


def test_series_can_be_added_while_running(tmp_path: Path) -> None:
    """When partitions are assigned their series join; indices and values of the others stay, gauges included."""
    path = slot_path(tmp_path, "worker", 0)
    with SlotWriter(path, [*CONSUMED, *LAG]) as slot:
        slot.add(0, 5)
        slot.set(1, 7)
        slot.ensure([*LAG, *metrics.lag_series("clicks", [1])])
        slot.ensure(LAG)
        slot.add(0, 1)
        slot.set(slot.index(metrics.CONSUMER_LAG, "clicks", "1"), 8)
        assert read_slot(path).values == {CONSUMED[0]: 6, LAG[0]: 7, Series(metrics.CONSUMER_LAG, ("clicks", "1")): 8}
        slot.unset(1)
        assert LAG[0] not in read_slot(path).values


def test_a_full_disk_leaves_the_writer_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room for more series, the caller hears of it and what was counted goes on."""

    def full(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(28, "No space left on device")

    path = slot_path(tmp_path, "worker", 0)
    with SlotWriter(path, CONSUMED) as slot:
        slot.add(0, 5)
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            slot.ensure(LAG)
        slot.add(0, 1)
        assert read_slot(path).values == {CONSUMED[0]: 6}
        with pytest.raises(KeyError):
            slot.index(*LAG[0].labels)


def test_threads_of_one_process_lose_no_count(tmp_path: Path) -> None:
    """The registry is asked from another thread than the one that polls; both count."""
    with SlotWriter(slot_path(tmp_path, "worker", 0), CONSUMED) as slot:

        def count() -> None:
            for _ in range(5000):
                slot.add(0)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read_slot(slot_path(tmp_path, "worker", 0)).values[CONSUMED[0]] == 20_000


def test_misuse_is_refused(tmp_path: Path) -> None:
    """A counter never falls, a gauge is not added to, an observation is finite."""
    with SlotWriter(slot_path(tmp_path, "worker", 0), [*CONSUMED, *LAG, *DURATION]) as slot:
        wrong: list[Callable[[], None]] = [
            lambda: slot.add(0, -1),
            lambda: slot.add(1),
            lambda: slot.set(0, 1),
            lambda: slot.observe(0, 1),
            lambda: slot.observe(2, float("nan")),
            lambda: slot.observe(2, 1, -1),
        ]
        for call in wrong:
            with pytest.raises(ValueError, match=r"."):
                call()
    with pytest.raises(ValueError, match="declared"):
        SlotWriter(tmp_path / "x.bin", [Series("undeclared")])
    with pytest.raises(ValueError, match="file name"):
        slot_path(tmp_path, "../worker", 0)


def test_slots_add_up() -> None:
    """Counters and histograms are sums over the slots; of a gauge the worst value stands."""
    histogram = Distribution((1, 0, 2), 1.5)
    left = SlotContents(1, {CONSUMED[0]: 3, LAG[0]: 9.0, DURATION[0]: histogram})
    right = SlotContents(2, {CONSUMED[0]: 4, LAG[0]: 2.0, DURATION[0]: Distribution((0, 1, 1), 2.0)})
    assert merge([left, right]) == {CONSUMED[0]: 7, LAG[0]: 9.0, DURATION[0]: Distribution((1, 1, 3), 3.5)}
    assert merge([]) == {}


def test_gauges_of_a_dead_process_can_be_dropped(tmp_path: Path) -> None:
    """Between the death of a worker and its restart its lag is not shown, and its counters are."""
    path = slot_path(tmp_path, "worker", 0)
    with SlotWriter(path, [*CONSUMED, *LAG]) as slot:
        slot.add(0, 5)
        slot.set(1, 7)
    drop_gauges(path)
    assert read_slot(path).values == {CONSUMED[0]: 5}
    with pytest.raises(FileNotFoundError):
        drop_gauges(slot_path(tmp_path, "worker", 1))
    assert not slot_path(tmp_path, "worker", 1).exists()


def test_a_new_life_counts_from_zero(tmp_path: Path) -> None:
    """The supervisor clears the directory before it starts anything."""
    path = slot_path(tmp_path, "worker", 0)
    SlotWriter(path, CONSUMED).close()
    path.with_suffix(".new").touch()
    clear_slots(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_recognised(tmp_path: Path) -> None:
    """No cut, no foreign file and no changed byte of header or table is read as counters."""
    path = slot_path(tmp_path, "worker", 0)
    SlotWriter(path, [*CONSUMED, *LAG]).close()
    whole = path.read_bytes()
    table_end = len(whole) - 16
    damaged = [whole[:length] for length in range(0, len(whole), 5)] + [whole + b"\0" * 8, b"x" * 100]
    # Bytes 8 to 15 are the process id, which may be any number.
    changed = [position for position in range(table_end) if position not in range(8, 16)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in changed]
    for contents in damaged:
        path.write_bytes(contents)
        with pytest.raises(FileFormatError):
            read_slot(path)
    SlotWriter(path, CONSUMED).close()
    assert read_slot(path).values == {CONSUMED[0]: 0}
