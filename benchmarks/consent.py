"""B7: the consent store alone, by each binding: how fast it is restored, how large it is, what a look-up costs.

Every size has processes of its own: one restores the store as the applier does, from records in batches, opens it
again as after a restart, and another looks subjects up as a worker does. Reading from Kafka is not part of it.

``TOKENWEIR_LARGE_CONSENT=1`` adds 50 million subjects, which take about an hour and 20 GB of disk.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.stats import spread
from tokenweir.adapters.consentreader import ConsentSnapshot
from tokenweir.adapters.consentstore import ConsentRecord, ConsentStoreReader, ConsentStoreWriter
from tokenweir.core.consent import UNKNOWN, Decision, SourceState, to_value
from tokenweir.core.subjects import Subject, partition_of
from tokenweir.runtime.applier import BATCH_RECORDS

_LARGE: Final = "TOKENWEIR_LARGE_CONSENT"
_SIZES: Final = (10_000, 1_000_000, *([50_000_000] if os.environ.get(_LARGE) else []))
_ID_KEY: Final = bytes(range(32))
_MAC_KEY: Final = bytes(range(32, 64))
_TOPIC_ID: Final = "dG9waWMtMS1pZC0xMjM0NQ"
_PARTITIONS: Final = 4
_LOOKUPS: Final = 20_000
_ROUNDS: Final = 5
_SLICE: Final = 500
ENGINES: Final = ("reference", "native")
#: As a worker: a snapshot for each transaction.
_LOOKUPS_OF_A_SNAPSHOT: Final = 2_000
_DAY_MS: Final = 86_400_000


def run(sizes: Sequence[int] = _SIZES) -> dict[str, object]:
    """Return the figures of each size, by engine."""
    return {f"{size:,} subjects": {engine: _size(size, engine) for engine in ENGINES} for size in sizes}


def _size(subjects: int, engine: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="tokenweir-bench-") as directory:
        if shutil.disk_usage(directory).free < subjects * 400:
            return {"not measured": "the disk is too small"}
        found: dict[str, object] = {}
        for part in ("restore", "look_up"):
            command = [sys.executable, "-m", "benchmarks.consent", part, directory, str(subjects), engine]
            found |= json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return found


def _subject(number: int) -> Subject:
    return Subject("customer", f"{number:010d}")


def _records(subjects: int, now_ms: int) -> Iterator[ConsentRecord]:
    state = SourceState(now_ms, {"email_marketing": Decision("allow", now_ms), "location": Decision("deny", now_ms)})
    value = to_value(state)
    offsets = [0] * _PARTITIONS
    for number in range(subjects):
        key = _subject(number).canonical.encode()
        partition = partition_of(key, _PARTITIONS)
        yield ConsentRecord(partition, offsets[partition], key, value, now_ms)
        offsets[partition] += 1


def restore(directory: Path, subjects: int, engine: str) -> dict[str, object]:
    """Return what it takes to fill a store that is empty, and to open it again."""
    now_ms = time.time_ns() // 1_000_000
    purposes = frozenset({"email_marketing"})
    store = ConsentStoreWriter(directory, _ID_KEY, _MAC_KEY, "boot", purposes=purposes, engine=engine)
    store.open(_TOPIC_ID, _PARTITIONS, _DAY_MS, now_ms)
    records = _records(subjects, now_ms)
    seconds = cpu = 0.0
    # What makes the records is no part of the store; it is not timed.
    while batch := [record for _, record in zip(range(BATCH_RECORDS), records, strict=False)]:
        position = {record.partition: record.offset + 1 for record in batch}
        started, started_cpu = time.perf_counter(), time.process_time()
        store.apply(batch, position)
        seconds += time.perf_counter() - started
        cpu += time.process_time() - started_cpu
    store.mark_complete(now_ms)
    started = time.perf_counter()
    store.close()
    closing = time.perf_counter() - started
    started = time.perf_counter()
    store.open(_TOPIC_ID, _PARTITIONS, _DAY_MS, now_ms)
    opening = time.perf_counter() - started
    store.close()
    used = sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())
    return {
        "store_bytes": used,
        "store_bytes_per_subject": round(used / subjects, 1),
        "restored_subjects_per_second": round(subjects / seconds),
        "restore_cpu_us_per_subject": round(cpu / subjects * 1e6, 2),
        "close_seconds": round(closing, 2),
        "open_again_seconds": round(opening, 2),
        "writer_mebibytes": machine.memory_mebibytes("RssAnon", "RssFile"),
    }


def look_up(directory: Path, subjects: int, engine: str) -> dict[str, object]:
    """Return what it costs to look up subjects that are there, and some that are not, at random."""
    reader = ConsentStoreReader(directory, _ID_KEY, _MAC_KEY, engine=engine)
    reader.snapshot().close()
    before = machine.memory_mebibytes("RssAnon", "RssFile")
    chosen = random.Random(1)
    cpu: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(_ROUNDS):
        for kind, first in (("known", 0), ("unknown", subjects)):
            wanted = [_subject(first + chosen.randrange(subjects)) for _ in range(_LOOKUPS)]
            started = time.process_time()
            answers = []
            for start in range(0, _LOOKUPS, _LOOKUPS_OF_A_SNAPSHOT):
                with reader.snapshot() as snapshot:
                    answers += _answers(snapshot, wanted[start : start + _LOOKUPS_OF_A_SNAPSHOT])
            cpu[kind].append((time.process_time() - started) / _LOOKUPS * 1e6)
            if any(answer != (kind == "known") for answer in answers):
                raise AssertionError(f"a subject that is {kind} was not found to be so")
    return {
        **{f"lookup_us_{kind}": spread(values) for kind, values in cpu.items()},
        "reader_mebibytes_at_first": before,
        "reader_mebibytes": machine.memory_mebibytes("RssAnon", "RssFile"),
    }


def _answers(snapshot: ConsentSnapshot, subjects: Sequence[Subject]) -> list[bool]:
    """Return who is known: asked one by one, or by slices in compiled code as the native engine does.

    There, what is found is turned into values of Python on top, which the engine does not do.
    """
    if snapshot.lookups is None:
        return [snapshot.lookup(subject) is not UNKNOWN for subject in subjects]
    found: list[bool] = []
    for start in range(0, len(subjects), _SLICE):
        found += [bool(states) for states, *_ in snapshot.lookups.look_up_rows(subjects[start : start + _SLICE])]
    return found


if __name__ == "__main__":
    _body = {"restore": restore, "look_up": look_up}[sys.argv[1]]
    print(json.dumps(_body(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
