"""B1: the transform alone. The reference engine against fastavro decoding and encoding the same events with no work."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable

import fastavro

from benchmarks import workload
from tokenweir.core.consent import SubjectConsent, parse_value
from tokenweir.core.engine import Record, ReferenceEngine
from tokenweir.core.keys import Keyset
from tokenweir.core.planning import SourceSchema, plan_stream
from tokenweir.core.policy.loader import load_policy
from tokenweir.runtime.sources import key_domains, stream_context


def _microseconds(action: Callable[[], object], events: int) -> float:
    started = time.process_time()
    action()
    return (time.process_time() - started) / events * 1e6


def run(rounds: int = 5, events: int = 4_000) -> dict[str, object]:
    """Return CPU time per event in microseconds, median and range of ``rounds`` alternating rounds."""
    now_ms = time.time_ns() // 1_000_000
    loaded = load_policy(workload.POLICY, "benchmarks/policy.yaml")
    keyset = Keyset.ephemeral(key_domains(loaded), os.urandom)
    context = stream_context(loaded, "interactions", keyset)
    planned = plan_stream(loaded, context, [SourceSchema(workload.schema_text(), "benchmark", 1)])
    state = parse_value(
        b'{"version":1,"decided_at":"2020-01-01T00:00:00Z","decisions":{"email_marketing":"allow"}}', now_ms
    )
    consent = SubjectConsent({} if state is None else {"": state})
    parsed = fastavro.parse_schema(workload.SCHEMA)
    reference: list[float] = []
    copy: list[float] = []
    for number in range(rounds):
        data = workload.events(events, subjects=events, now_ms=now_ms, seed=number)
        engine = ReferenceEngine(loaded.policy, keyset)
        bound = engine.bind(planned.versions[0].compiled.plan)
        batches = [data[start : start + 1_000] for start in range(0, events, 1_000)]

        def sanitize(batches: list[list[bytes]] = batches) -> None:
            for batch in batches:
                engine.process([(bound, Record(value, None, now_ms)) for value in batch], lambda _: consent, now_ms)  # noqa: B023 - called at once

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
