"""Whether the engine's memory stays flat: millions of events of ever new people, and what the process keeps of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from benchmarks import workload
from tokenweir.adapters.engines import engine_name
from tokenweir.core.engineapi import Record

_BATCH: Final = 2_000
_SAMPLES: Final = 10


def run(events: int = int(os.environ.get("TOKENWEIR_EVENTS", "200000"))) -> dict[str, object]:
    """Return the resident memory in MiB after each tenth of the events."""
    now_ms = time.time_ns() // 1_000_000
    bench = workload.Bench(now_ms)
    engine, bound = bench.engine(engine_name())
    workload.calm_collector()
    samples = []
    batches = max(events // _BATCH, _SAMPLES)
    for number in range(batches):
        data = workload.events(_BATCH, subjects=10**9, now_ms=now_ms, seed=number)
        engine.process([(bound, Record(value, None, now_ms)) for value in data], lambda _: bench.consent, now_ms)
        if (number + 1) % (batches // _SAMPLES) == 0:
            samples.append(_resident_mebibytes())
    return {"events": batches * _BATCH, "resident_mebibytes": samples}


def _resident_mebibytes() -> float:
    status = Path("/proc/self/status").read_text("ascii")
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)
