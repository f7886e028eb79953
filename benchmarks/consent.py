"""What the consent store costs, by both bindings of LMDB: restoring it, and looking subjects up in a warm one."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks import workload
from tokenweir.adapters.consentbinding import store_directory
from tokenweir.adapters.consentfiles import DATA
from tokenweir.adapters.consentreader import ConsentSnapshot, ConsentStoreReader
from tokenweir.adapters.consentstore import ConsentStoreWriter
from tokenweir.core.consent import ConsentRecord, Decision, SourceState, to_value
from tokenweir.core.engine import ConsentLookup, Record
from tokenweir.core.subjects import Subject

_KEYS: Final = bytes(range(32)), bytes(range(32, 64))
_DECIDED_AT_MS: Final = 1_577_836_800_000
_TRANSACTION: Final = 1_000
_SLICE: Final = 500
_ROUNDS: Final = 5


def run(subjects: int = int(os.environ.get("TOKENWEIR_SUBJECTS", "1000000"))) -> dict[str, object]:
    """Return, by engine, CPU microseconds per subject and the rate of a restore."""
    found: dict[str, object] = {"subjects": subjects}
    for engine in ("reference", "native"):
        state = Path(tempfile.mkdtemp(prefix="tokenweir-bench-"))
        try:
            found[engine] = _measure(engine, store_directory(state, engine), subjects)
        finally:
            shutil.rmtree(state)
    return found


def _measure(engine: str, directory: Path, subjects: int) -> dict[str, object]:
    now_ms = time.time_ns() // 1_000_000
    found = _restore(engine, directory, subjects, now_ms)
    reader = ConsentStoreReader(directory, *_KEYS, engine=engine)
    with closing(reader):
        for name, first in (("known", 0), ("unknown", subjects)):
            found[f"lookup_{name}_us"] = _spread(reader, _look_up, first, subjects)
            if engine == "native":
                found[f"native_lookup_{name}_us"] = _spread(reader, _look_up_slices, first, subjects)
        if engine == "native":
            found |= _engine(reader, subjects, now_ms)
    return found


def _restore(engine: str, directory: Path, subjects: int, now_ms: int) -> dict[str, object]:
    decisions = {name: Decision("allow", _DECIDED_AT_MS) for name in ("email_marketing", "service_analytics")}
    value = to_value(SourceState(_DECIDED_AT_MS, decisions))
    store = ConsentStoreWriter(directory, *_KEYS, "boot", engine=engine)
    store.open("topic", 1, 1, now_ms)
    seconds = cpu_seconds = 0.0
    for first in range(0, subjects, _TRANSACTION):
        records = [
            ConsentRecord(0, number, f"customer:{number:010d}".encode(), value, now_ms)
            for number in range(first, min(first + _TRANSACTION, subjects))
        ]
        started, cpu_started = time.perf_counter(), time.process_time()
        store.apply(records, {0: first + len(records)})
        seconds += time.perf_counter() - started
        cpu_seconds += time.process_time() - cpu_started
    store.mark_complete(now_ms)
    store.close()
    started = time.perf_counter()
    store.open("topic", 1, 1_000_000_000, now_ms)
    opened = time.perf_counter() - started
    store.close()
    return {
        "restored_keys_per_second": round(subjects / seconds),
        "restore_us_per_key": round(cpu_seconds / subjects * 1e6, 2),
        "verified_keys_per_second": round(subjects / opened),
        "bytes_per_key": round((directory / DATA).stat().st_blocks * 512 / subjects, 1),
    }


def _look_up(snapshot: ConsentSnapshot, numbers: list[int]) -> None:
    for number in numbers:
        snapshot.lookup(Subject("customer", f"{number:010d}"))


def _look_up_slices(snapshot: ConsentSnapshot, numbers: list[int]) -> None:
    """Look up slices as the engine does; converting what is found for Python comes on top here."""
    for first in range(0, len(numbers), _SLICE):
        slice_ = [("customer", f"{number:010d}") for number in numbers[first : first + _SLICE]]
        if snapshot.lookups is not None:
            snapshot.lookups.look_up_rows(slice_)


def _engine(reader: ConsentStoreReader, subjects: int, now_ms: int) -> dict[str, object]:
    """Return what an event of somebody else each costs in the native engine, by who looks its subject up."""
    bench = workload.Bench(now_ms)
    costs: dict[str, list[float]] = {"itself": [], "python": [], "nobody": []}
    for number in range(_ROUNDS):
        events = workload.events(10_000, subjects=subjects, now_ms=now_ms, seed=number)
        for who, spent in costs.items():
            engine, plan = bench.native()
            batch = [(plan, Record(value, None, now_ms)) for value in events]
            with reader.snapshot() as snapshot:
                ways: dict[str, ConsentLookup] = {"itself": snapshot, "python": snapshot.lookup}
                consent = ways.get(who, lambda _: bench.consent)
                started = time.process_time()
                engine.process(batch, consent, now_ms)
                spent.append((time.process_time() - started) / len(events) * 1e6)
    return {
        f"engine_us_per_event_looked_up_by_{who}": round(statistics.median(spent), 2) for who, spent in costs.items()
    }


def _spread(
    reader: ConsentStoreReader, look_up: Callable[[ConsentSnapshot, list[int]], None], first: int, subjects: int
) -> dict[str, float]:
    """Return the median and range of rounds, each in a snapshot of its own; the first round only warms."""
    costs = []
    for number in range(_ROUNDS + 1):
        chosen = random.Random(number).sample(range(first, first + subjects), 20_000)
        with reader.snapshot() as snapshot:
            started = time.process_time()
            look_up(snapshot, chosen)
            costs.append((time.process_time() - started) / len(chosen) * 1e6)
    costs = costs[1:]
    return {"median": round(statistics.median(costs), 2), "min": round(min(costs), 2), "max": round(max(costs), 2)}
