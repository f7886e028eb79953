"""B6: latency from the producer's timestamp to a ``read_committed`` reader, of the gateway and of a mirror.

The timestamp of a record is the time at which it was due, so that a producer that falls behind hides nothing
(coordinated omission). Producer, broker, worker and reader share the machine. The maximum of a leg is what it does
when it is given more than it can, with producer and reader at work; the rates are shares of that maximum.
"""

from __future__ import annotations

import multiprocessing
import queue
import time
from array import array
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import cluster, machine, workload
from benchmarks.cluster import Cluster
from benchmarks.end_to_end import measure
from benchmarks.legs import Leg, Running, running
from benchmarks.stats import spread
from tokenweir.adapters.engines import engine_name

_SUBJECTS: Final = 1_000_000
#: For the first estimate of the maximum.
_EVENTS: Final = 1_200_000
_DIFFERENT_EVENTS: Final = 50_000
_SHARES: Final = (0.25, 0.5, 0.75)
#: The rate of the goal in the design, beside the shares of the maximum.
_FIXED_RATE: Final = 5_000
_ROUNDS: Final = 3
_SECONDS: Final = 10.0
#: Not counted: queues and caches settle.
_SETTLE_SECONDS: Final = 2.0
#: A record that takes longer has not been kept up with.
_LATE_SECONDS: Final = 10.0
_PERCENTILES: Final = (50, 95, 99)
_SPAWN: Final = multiprocessing.get_context("spawn")

Level = dict[str, float]


def run(
    rounds: int = _ROUNDS, events: int = _EVENTS, subjects: int = _SUBJECTS, seconds: float = _SECONDS
) -> dict[str, object]:
    """Return percentiles of the latency at each rate, in milliseconds."""
    levels: dict[str, dict[str, list[Level]]] = {}
    maxima: dict[str, list[float]] = {}
    others: list[float] = []
    with cluster.cluster(events, subjects) as place:
        for _ in range(rounds):
            for leg in (Leg("copy", 1), Leg(engine_name().value, 1)):
                others.append(machine.busy_cpus())
                maximum, found = _round(place, leg, seconds)
                maxima.setdefault(leg.name, []).append(maximum)
                for name, level in found.items():
                    levels.setdefault(leg.name, {}).setdefault(name, []).append(level)
    return {
        "subjects": subjects,
        "rounds": rounds,
        "seconds": seconds,
        "commit_interval_ms": 100,
        "cpus_busy_between_legs": spread(others),
        "legs": {
            name: {
                "maximum_events_per_second": spread(maxima[name], 0),
                "levels": {level: _told(measured) for level, measured in found.items()},
            }
            for name, found in levels.items()
        },
    }


def _told(measured: Sequence[Level]) -> dict[str, object]:
    return {name: spread([level[name] for level in measured]) for name in measured[0]}


def _round(place: Cluster, leg: Leg, seconds: float) -> tuple[float, dict[str, Level]]:
    """Return the maximum of a leg, and what it does at every rate."""
    with running(place, leg) as found:
        alone = measure(place, found, seconds / 2).rate
    with running(place, leg, start="latest") as found:
        maximum = _level(place, found, alone, seconds)["read_per_second"]
        rates = {f"{_FIXED_RATE:,} events/s": float(_FIXED_RATE)}
        rates |= {f"{share:.0%} of the maximum": share * maximum for share in _SHARES}
        levels = {}
        for name, rate in rates.items():
            _catch_up(place, found)
            levels[name] = _level(place, found, rate, seconds)
        return maximum, levels


def _catch_up(place: Cluster, found: Running) -> None:
    while place.committed(found.group) < sum(place.ends().values()):
        found.check()
        time.sleep(0.2)
    time.sleep(1)


def _level(place: Cluster, found: Running, rate: float, seconds: float) -> Level:
    """Return what the reader sees of events at one rate.

    Raises:
        RuntimeError: Producer or reader did not end.
    """
    began = _SPAWN.Value("d", 0.0)
    answers: Queue[Level] = _SPAWN.Queue()
    reading = _SPAWN.Event()
    reader = _SPAWN.Process(
        target=_read, args=(place.bootstrap, found.leg.output, rate, seconds, reading, began, answers), daemon=True
    )
    feed = _SPAWN.Process(
        target=_feed,
        args=(place.bootstrap, place.schema_id, place.subjects, rate, seconds, reading, began),
        daemon=True,
    )
    reader.start()
    feed.start()
    try:
        return answers.get(timeout=seconds + _LATE_SECONDS + 60)
    except queue.Empty:
        raise RuntimeError(f"the events for {found.leg.name} were not all produced and read") from None
    finally:
        for process in (feed, reader):
            process.kill()
            process.join()


def _feed(  # noqa: PLR0913, PLR0917 - a process of its own
    bootstrap: str,
    schema_id: int,
    subjects: int,
    rate: float,
    seconds: float,
    reading: Event,
    began: Synchronized[float],
) -> None:
    """Produce at a rate, each record with the time at which it was due."""
    head = cluster.frame(schema_id)
    now_ms = time.time_ns() // 1_000_000
    values = [head + event for event in workload.events(_DIFFERENT_EVENTS, subjects, now_ms, seed=now_ms)]
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "delivery.report.only.error": True})
    producer.list_topics(timeout=10)
    reading.wait()
    began.value = begin = time.time() + 0.1
    sent, count = 0, int(rate * seconds)
    while sent < count:
        due = min(count, int((time.time() - begin) * rate))
        while sent < due:
            due_ms = int((begin + sent / rate) * 1000)
            try:
                producer.produce(
                    cluster.SOURCE, values[sent % len(values)], partition=sent % cluster.PARTITIONS, timestamp=due_ms
                )
            except BufferError:
                break
            sent += 1
        producer.poll(0)
        time.sleep(0.001)
    producer.flush()


def _read(  # noqa: PLR0913, PLR0917 - a process of its own
    bootstrap: str,
    topic: str,
    rate: float,
    seconds: float,
    reading: Event,
    began: Synchronized[float],
    answers: Queue[Level],
) -> None:
    """Read what is produced from now on; answer with what it was when all has come, or too late."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    # The end for such a reader, at which nothing is under way now.
    ends = [TopicPartition(topic, number) for number in range(cluster.PARTITIONS)]
    for place in ends:
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign(ends)
    consumer.consume(1, 0.5)
    reading.set()
    due_ms, read_ms = array("q"), array("q")
    count = int(rate * seconds)
    while len(due_ms) < count and not 0 < began.value < time.time() - seconds - _LATE_SECONDS:
        messages = consumer.consume(1_000, 0.1)
        now_ms = time.time_ns() // 1_000_000
        due_ms.extend(message.timestamp()[1] for message in messages)
        read_ms.extend([now_ms] * len(messages))
    answers.put(
        _level_of(due_ms, read_ms, (began.value + _SETTLE_SECONDS) * 1000, (began.value + seconds) * 1000, rate)
    )


def _level_of(due_ms: Sequence[int], read_ms: Sequence[int], first_ms: float, last_ms: float, rate: float) -> Level:
    """Return what is told of records that were due from the first to the last millisecond."""
    counted = sorted(read - due for due, read in zip(due_ms, read_ms, strict=True) if first_ms <= due < last_ms)
    expected = int(rate * (last_ms - first_ms) / 1000)
    share_read = len(counted) / expected
    # What has not come is at least that late.
    counted += [int(_LATE_SECONDS * 1000)] * (expected - len(counted))
    meanwhile = sum(first_ms <= read < last_ms for read in read_ms)
    return {
        "offered_per_second": rate,
        "read_per_second": meanwhile / (last_ms - first_ms) * 1000,
        "share_read": share_read,
        **{f"p{percent}_ms": float(counted[len(counted) * percent // 100]) for percent in _PERCENTILES},
    }
