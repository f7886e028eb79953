"""B1: the transform alone: both engines, what a team would write, and fastavro that only decodes and encodes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import fastavro

from benchmarks import packages, workload
from benchmarks.plain import Plain
from benchmarks.stats import spread, times
from tokenweir.adapters.engines import EngineName, engine_name
from tokenweir.core.batches import RecordBatch
from tokenweir.core.engineapi import Record
from tokenweir.runtime.plans import ReadyPlan

#: The engine's batch in a worker.
_BATCH: Final = 2_000
_CODEC: Final = "fastavro, decode and encode only"
_PLAIN: Final = "plain Python"

_TOKENS: Final = ("customer_id", "device_id", "email", "card")

#: What treats all events.
Contender = Callable[[list[bytes]], object]


def _engine(bench: workload.Bench, name: EngineName, now_ms: int) -> Contender:
    """Return an engine that remembers no token yet."""
    engine, bound = bench.engine(name)
    plan = ReadyPlan(bound, (1,))

    def run(data: list[bytes]) -> None:
        for start in range(0, len(data), _BATCH):
            values = data[start : start + _BATCH]
            count = len(values)
            records = RecordBatch([plan] * count, values, [None] * count, [now_ms] * count)
            engine.run(records, lambda _: bench.consent, now_ms)

    return run


def _contenders(bench: workload.Bench, now_ms: int, subjects: int) -> dict[str, Contender]:
    """Return everything that is compared, as new."""
    parsed = fastavro.parse_schema(workload.SCHEMA)

    def codec(data: list[bytes]) -> None:
        for value in data:
            fastavro.schemaless_writer(
                io.BytesIO(), parsed, fastavro.schemaless_reader(io.BytesIO(value), parsed, None)
            )

    found: dict[str, Contender] = {_CODEC: codec}
    for name in dict.fromkeys((engine_name(), EngineName.REFERENCE)):
        found[name.value] = _engine(bench, name, now_ms)
    if not packages.install():
        return found
    plain = Plain()
    consent = _allowed(subjects)
    return {**found, _PLAIN: lambda data: [plain.event(value, consent) for value in data]}


def _allowed(subjects: int) -> dict[str, bool]:
    return {f"customer:{subject:010d}": True for subject in range(subjects)}


def check(bench: workload.Bench, plain: Plain, data: Sequence[bytes], now_ms: int) -> None:
    """Check that both engines and plain Python make the same of events, tokens apart.

    Raises:
        AssertionError: They do not, and are not to be compared.
    """
    made = []
    for name in dict.fromkeys((engine_name(), EngineName.REFERENCE)):
        engine, bound = bench.engine(name)
        schema = fastavro.parse_schema(json.loads(bound.outputs[0].derived.text if bound.outputs[0].derived else ""))
        outcomes = engine.process(
            [(bound, Record(value, None, now_ms)) for value in data], lambda _: bench.consent, now_ms
        )
        made.append([_untokenized(outcome.value or b"", schema) for (outcome,) in outcomes])
    consent = _allowed(len(data))
    made.append([_untokenized(plain.event(value, consent) or b"", plain.output) for value in data])
    if any(each != made[0] for each in made):
        raise AssertionError("the engines and plain Python do different things")


def _untokenized(data: bytes, schema: Any) -> object:  # noqa: ANN401 - fastavro has no type for it.
    event: Any = fastavro.schemaless_reader(io.BytesIO(data), schema, None)
    tokens = {name: len(event[name]) for name in _TOKENS if name != "email"}
    place = {name: round(degrees, 6) for name, degrees in event["location"].items()}
    return {**event, **tokens, "email": event["email"].partition("@")[2], "location": place}


def run(rounds: int = 7, events: int = 20_000) -> dict[str, object]:
    """Return microseconds of CPU per event, of rounds that alternate, and the ratios within the rounds."""
    now_ms = time.time_ns() // 1_000_000
    bench = workload.Bench(now_ms)
    if packages.install():
        check(bench, Plain(), workload.events(100, subjects=100, now_ms=now_ms), now_ms)
    measured: dict[str, list[float]] = {}
    for number in range(rounds):
        data = workload.events(events, subjects=events, now_ms=now_ms, seed=number)
        for name, contender in _contenders(bench, now_ms, events).items():
            workload.calm_collector()
            started = time.process_time()
            contender(data)
            measured.setdefault(name, []).append((time.process_time() - started) / events * 1e6)
    bases = {"times_fastavro": _CODEC} | ({"times_plain_python": _PLAIN} if _PLAIN in measured else {})
    ratios = {told: times(measured, base, digits=3) for told, base in bases.items()}
    return {
        "events": events,
        "rounds": rounds,
        "contenders": {
            name: {"us_per_event": spread(values)} | {told: ratios[told][name] for told in ratios}
            for name, values in measured.items()
        },
    }
