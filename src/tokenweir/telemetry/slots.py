"""Counters that processes share: each process writes a memory-mapped file of its own, the supervisor adds them up.

A file mapping belongs to the kernel's page cache, so what was counted survives SIGKILL of the process that counted. A
process that is started again goes on in the file of its predecessor, so counters never fall while the supervisor lives.

Layout, in the byte order of the machine, every number 8 bytes and aligned, so that it is read and written as one word::

    magic · process id · length of the table · number of cells · SHA-256 of the table (32 bytes)
    table: JSON, a list of [metric, [label value, ...]], padded with spaces to 8 bytes
    cells: counter u64 · gauge or info f64 (NaN: no value) · histogram: u64 for each bucket and +Inf, f64 sum
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import struct
import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from tokenweir.errors import FileFormatError
from tokenweir.telemetry.metrics import METRICS, Metric, Series, checked

_MAGIC: Final = b"twslot\x00\x01"
_HEADER: Final = struct.Struct("=8sQQQ32s")
_WORD: Final = 8
_NO_VALUE: Final = math.nan
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Distribution(NamedTuple):
    """What a histogram counted: observations by bucket, each alone and the last without bound, and their sum."""

    counts: tuple[int, ...]
    sum: float


Value = int | float | Distribution


@dataclass(frozen=True, slots=True)
class SlotContents:
    """What a slot file held at one moment; gauges without a value are left out."""

    pid: int
    values: dict[Series, Value]


def slot_path(directory: Path, kind: str, number: int) -> Path:
    """Return the file of process slot ``number`` of a kind of process, such as ``worker-interactions-0.bin``.

    Raises:
        ValueError: if the kind is no plain file name.
    """
    if not _NAME.fullmatch(kind):
        raise ValueError("the kind of a slot must be a plain file name")
    return directory / f"{kind}-{number}.bin"


class SlotWriter:
    """The counters of one process. Only one process at a time may write a file; its threads may share the writer.

    Args:
        path: The file; if a predecessor left one, its counters go on and its gauges lose their values.
        series: What the process counts. A series keeps its index for the life of the writer.

    Raises:
        ValueError: if a series is not declared in :mod:`tokenweir.telemetry.metrics`.
        OSError: if the file cannot be made, for example because the disk is full.
    """

    def __init__(self, path: Path, series: Iterable[Series]) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            earlier = read_slot(path).values
        except (FileNotFoundError, FileFormatError):
            # A file that is not ours was written by no predecessor, so there is nothing to go on with.
            earlier = {}
        counted = {entry: value for entry, value in earlier.items() if METRICS[entry.metric].type in _ACCUMULATING}
        self._open(list(dict.fromkeys([*counted, *series])), counted)

    def index(self, metric: str, *labels: str) -> int:
        """Return the index of a series for the other methods, or raise KeyError if the writer does not have it."""
        return self._indices[Series(metric, labels)]

    def ensure(self, series: Iterable[Series]) -> None:
        """Add the series that the writer does not have yet. The others keep their indices and values."""
        with self._lock:
            new = [entry for entry in dict.fromkeys(series) if entry not in self._indices]
            if not new:
                return
            values = _decode(self._map[:], self._path).values
            earlier = self._integers, self._floats, self._map
            self._open([*self._indices, *new], values)
            _release(*earlier)

    def add(self, index: int, amount: int = 1) -> None:
        """Add to a counter; ``amount`` may not be negative."""
        if amount < 0:
            raise ValueError("a counter never falls")
        with self._lock:
            self._integers[self._cell(index, "counter")] += amount

    def set(self, index: int, value: float) -> None:
        """Give a gauge or an info its value."""
        with self._lock:
            self._floats[self._cell(index, "gauge", "info")] = value

    def unset(self, index: int) -> None:
        """Take a gauge's value away, for example when a partition is revoked; it is then not shown."""
        self.set(index, _NO_VALUE)

    def observe(self, index: int, value: float, times: int = 1) -> None:
        """Count ``times`` observations of a value; a negative one, from clocks that differ, counts as zero."""
        if times < 0 or not math.isfinite(value):
            raise ValueError("an observation is a finite number and counts forwards")
        value = max(value, 0.0)
        with self._lock:
            start = self._cell(index, "histogram")
            buckets = self._metrics[index].buckets
            self._integers[start + bisect_left(buckets, value)] += times
            self._floats[start + len(buckets) + 1] += value * times

    def observe_ages(self, index: int, timestamps_ms: Sequence[int], now_ms: int) -> None:
        """Count how old each of these moments is, in seconds; one that is yet to come counts as zero."""
        # Nearly in order as they are, sorting them costs less than looking for the bucket of each.
        moments = sorted(timestamps_ms)
        if moments and moments[-1] > now_ms:
            moments = [min(moment, now_ms) for moment in moments]
        with self._lock:
            start = self._cell(index, "histogram")
            buckets = self._metrics[index].buckets
            older = len(moments)
            for place, bound_seconds in enumerate(buckets):
                within, older = older, bisect_left(moments, now_ms - bound_seconds * 1000)
                self._integers[start + place] += within - older
            self._integers[start + len(buckets)] += older
            self._floats[start + len(buckets) + 1] += (now_ms * len(moments) - sum(moments)) / 1000

    def close(self) -> None:
        """Let the file go; it stays on the disk with its values."""
        with self._lock:
            _release(self._integers, self._floats, self._map)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _cell(self, index: int, *types: str) -> int:
        """Return the first cell of a series that is of one of the types."""
        if self._metrics[index].type not in types:
            raise ValueError(f"{self._metrics[index].name} is a {self._metrics[index].type}")
        return self._cells[index]

    def _open(self, series: Sequence[Series], values: dict[Series, Value]) -> None:
        """Put a file with these series and values in the place of the old one, and map it.

        The file is complete before it gets its name, so that a reader or a successor never sees half of one.
        """
        metrics = [checked(entry) for entry in series]
        contents = _encode(series, metrics, values)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Without blocks of its own the file could lose its ground on a full disk: SIGBUS at any later count.
            os.posix_fallocate(descriptor, 0, len(contents))
            mapping = mmap.mmap(descriptor, len(contents))
        finally:
            os.close(descriptor)
        mapping[:] = contents
        temporary.replace(self._path)
        self._map = mapping
        with memoryview(mapping) as view, view[len(contents) - _WORD * _size(metrics) :] as cells:
            self._integers = cells.cast("Q")
            self._floats = cells.cast("d")
        self._metrics = metrics
        self._indices = {entry: index for index, entry in enumerate(series)}
        self._cells = _first_cells(metrics)


def _release(integers: memoryview[int], floats: memoryview[float], mapping: mmap.mmap) -> None:
    """Let go of a mapping and of the views that hold it open."""
    integers.release()
    floats.release()
    mapping.close()


#: What goes on where the predecessor stopped; a gauge of a dead process says nothing any more.
_ACCUMULATING: Final = frozenset({"counter", "histogram"})


def read_slot(path: Path) -> SlotContents:
    """Read the file of a slot, while its process runs or after it has died.

    Raises:
        FileNotFoundError: if no process has made it yet.
        FileFormatError: if it is no slot file of this version of tokenweir.
    """
    return _decode(path.read_bytes(), path)


def drop_gauges(path: Path) -> None:
    """Take the values of all gauges away after a process has died; its counters stay.

    Raises:
        FileNotFoundError: if the process never made its file.
        FileFormatError: if it is no slot file of this version of tokenweir.
    """
    read_slot(path)
    # A writer drops them whenever it opens the file of a predecessor.
    SlotWriter(path, ()).close()


def clear_slots(directory: Path) -> None:
    """Remove all slot files; for the supervisor before it starts any process, so that a new life counts from zero."""
    for pattern in ("*.bin", "*.new"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def merge(slots: Iterable[SlotContents]) -> dict[Series, Value]:
    """Return the values of all slots as one: counters and histograms added up, of gauges the largest.

    The largest is the worst for every gauge that more than one process has: lag, staleness, age, unclassified fields.
    """
    merged: dict[Series, Value] = {}
    for slot in slots:
        for series, value in slot.values.items():
            earlier = merged.get(series)
            merged[series] = value if earlier is None else _joined(METRICS[series.metric], earlier, value)
    return merged


def _joined(metric: Metric, left: Value, right: Value) -> Value:
    """Return two values of one series as one."""
    if isinstance(left, Distribution) and isinstance(right, Distribution):
        counts = tuple(one + other for one, other in zip(left.counts, right.counts, strict=True))
        return Distribution(counts, left.sum + right.sum)
    if isinstance(left, Distribution) or isinstance(right, Distribution):
        raise TypeError(f"{metric.name} is a histogram in one slot only")
    return left + right if metric.type == "counter" else max(left, right)


def _width(metric: Metric) -> int:
    """Return how many cells a series takes."""
    return len(metric.buckets) + 2 if metric.type == "histogram" else 1


def _size(metrics: Iterable[Metric]) -> int:
    """Return how many cells all series take."""
    return sum(map(_width, metrics))


def _first_cells(metrics: Sequence[Metric]) -> list[int]:
    """Return where the cells of each series begin."""
    cells, position = [], 0
    for metric in metrics:
        cells.append(position)
        position += _width(metric)
    return cells


def _cell_format(metric: Metric) -> str:
    """Return the cells of a series as a struct format."""
    if metric.type == "histogram":
        return f"{len(metric.buckets) + 1}Qd"
    return "Q" if metric.type == "counter" else "d"


def _encode(series: Sequence[Series], metrics: Sequence[Metric], values: dict[Series, Value]) -> bytes:
    """Return the bytes of a whole file of this process."""
    table = json.dumps(series, separators=(",", ":")).encode()
    table += b" " * (-len(table) % _WORD)
    parts = [_HEADER.pack(_MAGIC, os.getpid(), len(table), _size(metrics), hashlib.sha256(table).digest()), table]
    for entry, metric in zip(series, metrics, strict=True):
        value = values.get(entry, _NO_VALUE if metric.type in ("gauge", "info") else 0)
        cells: tuple[int | float, ...]
        if metric.type == "histogram":
            counts, total = value if isinstance(value, Distribution) else ((0,) * (len(metric.buckets) + 1), 0.0)
            cells = (*counts, total)
        else:
            cells = (value,)  # type: ignore[assignment]  # only histograms have distributions
        parts.append(struct.pack(f"={_cell_format(metric)}", *cells))
    return b"".join(parts)


def _decode(contents: bytes, path: Path) -> SlotContents:
    """Return what the bytes of a file say."""
    try:
        magic, pid, table_length, cells, digest = _HEADER.unpack_from(contents)
        table = contents[_HEADER.size : _HEADER.size + table_length]
        if magic != _MAGIC or hashlib.sha256(table).digest() != digest:
            raise FileFormatError(f"{path}: no slot file")
        series = [Series(metric, tuple(labels)) for metric, labels in json.loads(table)]
        metrics = [checked(entry) for entry in series]
        if len(contents) != _HEADER.size + table_length + _WORD * cells or cells != _size(metrics):
            raise FileFormatError(f"{path}: a slot file of another version")
    except (struct.error, ValueError, TypeError):
        raise FileFormatError(f"{path}: no slot file") from None
    values: dict[Series, Value] = {}
    position = _HEADER.size + table_length
    for entry, metric in zip(series, metrics, strict=True):
        found = struct.unpack_from(f"={_cell_format(metric)}", contents, position)
        position += _WORD * len(found)
        if metric.type == "histogram":
            values[entry] = Distribution(found[:-1], found[-1])
        elif metric.type == "counter" or not math.isnan(found[0]):
            values[entry] = found[0]
    return SlotContents(pid, values)
