"""B1: the transform alone. The reference engine against fastavro decoding and encoding the same events with no work."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import fastavro

from benchmarks import workload
from tokenweir.core.engine import BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import Record


def _microseconds(action: Callable[[], object], events: int) -> float:
    started = time.process_time()
    action()
    return (time.process_time() - started) / events * 1e6


def run(rounds: int = 5, events: int = 4_000) -> dict[str, object]:
    """Return CPU time per event in microseconds, median and range of ``rounds`` alternating rounds."""
    now_ms = time.time_ns() // 1_000_000
    bench = workload.Bench(now_ms)
    parsed = fastavro.parse_schema(workload.SCHEMA)
    reference: list[float] = []
    copy: list[float] = []
    for number in range(rounds):
        data = workload.events(events, subjects=events, now_ms=now_ms, seed=number)
        batches = [data[start : start + 1_000] for start in range(0, events, 1_000)]
        fresh = bench.engine()

        def sanitize(batches: list[list[bytes]] = batches, fresh: tuple[ReferenceEngine, BoundPlan] = fresh) -> None:
            engine, bound = fresh
            for batch in batches:
                records = [(bound, Record(value, None, now_ms)) for value in batch]
                engine.process(records, lambda _: bench.consent, now_ms)

        def decode_and_encode(data: list[bytes] = data) -> None:
            for value in data:
                fastavro.schemaless_writer(
                    io.BytesIO(), parsed, fastavro.schemaless_reader(io.BytesIO(value), parsed, None)
                )

        reference.append(_microseconds(sanitize, events))
        copy.append(_microseconds(decode_and_encode, events))
    ratios = [ours / theirs for ours, theirs in zip(reference, copy, strict=True)]
    return {
        "reference_us_per_event": _spread(reference),
        "fastavro_decode_encode_us_per_event": _spread(copy),
        "ratio": _spread(ratios),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
    }
