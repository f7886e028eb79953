"""A crowd of subjects that withdraw while events of their own flow, and the independent check of what left for whom.

Every event carries its number in a field that no treatment touches. So an output record is traced back to its subject
by a list of the test's own, and not by the token, which the gateway has made.
"""

from __future__ import annotations

import bisect
import io
import itertools
import json
import os
import random
import signal
import statistics
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self, cast

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from tests.support.gatewayrun import GatewayRun
from tests.support.worlds import SCHEMA, World

from tokenweir.adapters.topicreader import read_until
from tokenweir.config import load_config
from tokenweir.runtime.barrier import Cause, Report, State, Withdrawal

_TICK_SECONDS: Final = 0.02
_SPAN: Final = 500
"""So many offsets before H are looked at once more in the end."""

Place = tuple[str, int]
"""Topic and partition."""


class Crowd:
    """Sends events of whoever is in the crowd, in turn, to every partition of the source, until it is left.

    Attributes:
        customers: By number of an event, whose it is.
        per_second: Events per second, as long as anybody is there.
    """

    def __init__(self, world: World, bootstrap: str, partitions: int, per_second: float) -> None:
        self.customers: list[int] = []
        self.per_second = per_second
        self._world, self._partitions = world, partitions
        self._schema = fastavro.parse_schema(json.loads(json.dumps(SCHEMA)))
        self._frame = b"\0" + struct.pack(">I", world.schema_id)
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "enable.idempotence": True})
        self._members: dict[int, None] = {}
        self._failures: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        left = self._producer.flush(30)
        assert not left, "events were not acknowledged"
        assert not self._failures, self._failures[:3]

    def join(self, customers: Iterable[int]) -> None:
        """From now on these have events."""
        with self._lock:
            self._members.update(dict.fromkeys(customers))

    def leave(self, customers: Iterable[int]) -> None:
        """From now on these have none."""
        with self._lock:
            for customer in customers:
                self._members.pop(customer, None)

    def _run(self) -> None:
        due = begun = time.monotonic()
        turn = 0
        while not self._stop.wait(max(due - time.monotonic(), 0)):
            due = max(due + _TICK_SECONDS, begun)
            with self._lock:
                members = list(self._members)
            for _ in range(round(self.per_second * _TICK_SECONDS) if members else 0):
                self._send(members[turn % len(members)])
                turn += 1
            self._producer.poll(0)

    def _send(self, customer: int) -> None:
        number = len(self.customers)
        self.customers.append(customer)
        event = {
            "kind": str(number),
            "customer_id": f"{customer:010}",
            "occurred_at": time.time_ns() // 1_000_000,
            "email": f"someone{customer}@example.com",
        }
        data = io.BytesIO()
        fastavro.schemaless_writer(data, self._schema, event)
        # Any order of partitions in which each subject meets each of them.
        partition = random.randrange(self._partitions)
        value = self._frame + data.getvalue()
        self._producer.produce(self._world.source, value, None, partition, on_delivery=self._delivered)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failures.append(error.name())


@dataclass(slots=True)
class Revoked:
    """One withdrawal, and what was said of it.

    Attributes:
        customer: Whose.
        outputs: The topics that need what was withdrawn.
        phase: In which part of the run.
        withdrawal: Where it stands.
        written: By output partition, the next offset when the withdrawal had just been written: an end of the outputs
            that is too early to prove anything.
        asked_seconds: When the subject asked for it, on the monotonic clock.
        told_seconds: When the answer came.
        state: The answer.
        causes: What it was waiting for at any time.
        evidence: By output partition, the offset at and past which nothing may be.
        visible: For some, by output partition the offsets below H that could be seen at the moment of the answer.
    """

    customer: int
    outputs: tuple[str, ...]
    phase: str
    withdrawal: Withdrawal
    written: Mapping[Place, int]
    asked_seconds: float
    told_seconds: float = 0.0
    state: State = State.PENDING
    causes: Counter[Cause] = field(default_factory=Counter)
    evidence: dict[Place, int] = field(default_factory=dict)
    visible: dict[Place, list[int]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the wish to the answer."""
        return self.told_seconds - self.asked_seconds

    def told(self, report: Report) -> None:
        """Note the last report."""
        self.told_seconds = time.monotonic()
        self.state = report.state
        self.evidence = {(each.topic, each.partition): each.high_watermark for each in report.outputs}
        self.waits(report)

    def waits(self, report: Report) -> None:
        """Note a report."""
        self.causes.update({holdup.cause for holdup in report.holdups})


class Left(NamedTuple):
    """A sanitized record that has left."""

    topic: str
    partition: int
    offset: int
    number: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the outputs say of the withdrawals.

    Attributes:
        read: Records in the outputs.
        violations: Records of somebody who has withdrawn, at or past H.
        doubled: Events of which there are two records in one output.
        surfaced: Records below H that could not be seen yet when ENFORCED was said.
        after_writing: Records that would be violations if the outputs' ends had been read when the withdrawal had just
            been written; if there are none, the run was too tame to show that the barrier is needed.
        unhurt: Records at or past H of those who have withdrawn, in outputs that do not need what was withdrawn.
    """

    read: int
    violations: list[Left]
    doubled: int
    surfaced: int
    after_writing: int
    unhurt: int


def judge(left: Sequence[Left], revoked: Iterable[Revoked], customers: Sequence[int]) -> Verdict:
    """Hold every record that has left against the withdrawal of its subject."""
    by_customer = {each.customer: each for each in revoked}
    violations, after_writing, unhurt = [], 0, 0
    for record in left:
        found = by_customer.get(customers[record.number])
        if found is None or not found.evidence:
            continue
        place = (record.topic, record.partition)
        if record.topic not in found.outputs:
            unhurt += record.offset >= found.evidence[place]
            continue
        after_writing += record.offset >= found.written[place]
        if record.offset >= found.evidence[place]:
            violations.append(record)
    counts = Counter((record.topic, record.number) for record in left)
    return Verdict(
        read=len(left),
        violations=violations,
        doubled=sum(count > 1 for count in counts.values()),
        surfaced=_surfaced(left, by_customer.values()),
        after_writing=after_writing,
        unhurt=unhurt,
    )


def _surfaced(left: Iterable[Left], revoked: Iterable[Revoked]) -> int:
    """Return how many records were not visible when they should have been."""
    offsets: dict[Place, list[int]] = defaultdict(list)
    for record in sorted(left):
        offsets[record.topic, record.partition].append(record.offset)
    missing = 0
    for each in revoked:
        for place, seen in each.visible.items():
            high = each.evidence[place]
            first = bisect.bisect_left(offsets[place], high - _SPAN)
            missing += len(set(offsets[place][first : bisect.bisect_left(offsets[place], high)]) - set(seen))
    return missing


def note_visible(properties: Mapping[str, Any], revoked: Revoked) -> None:
    """Note which offsets just below H can be seen now."""
    for topic in {topic for topic, _ in revoked.evidence}:
        spans = {part: (max(high - _SPAN, 0), high) for (name, part), high in revoked.evidence.items() if name == topic}
        for part in spans:
            revoked.visible[topic, part] = []
        for message in read_until(properties, topic, spans):
            revoked.visible[topic, message.partition() or 0].append(message.offset() or 0)


def read_outputs(world: World, topics: Iterable[str]) -> list[Left]:
    """Return every record that has left, with the number of its event."""
    properties = load_config(world.config, {}).kafka.client_properties()
    schemas: dict[int, Any] = {}
    left = []
    for topic in topics:
        ends = world.admin.high_watermarks(topic, range(world.admin.topics()[topic]), "read_committed")
        for message in read_until(properties, topic, {number: (0, end) for number, end in ends.items()}):
            value = cast("bytes", message.value())
            schema_id = int.from_bytes(value[1:5], "big")
            if schema_id not in schemas:
                schemas[schema_id] = fastavro.parse_schema(json.loads(world.registry.schema_by_id(schema_id).text))
            event = cast("dict[str, Any]", fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id], None))
            left.append(Left(topic, message.partition() or 0, message.offset() or 0, int(event["kind"])))
    return left


class Fire:
    """Strikes two gateways until it is left: kills, freezes, and one of them leaves and joins.

    The first always has a supervisor. Every process that it stops goes on in the end.
    """

    def __init__(self, gateways: Sequence[GatewayRun], dice: random.Random) -> None:
        self.strikes: Counter[str] = Counter()
        self._dice = dice
        self._steady, self._other = gateways
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fire", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self._other.running:
            self._other.start()

    def _run(self) -> None:
        kinds = (self._kill_worker, self._kill_applier, self._freeze_worker, self._freeze_applier, self._come_or_go)
        # Each kind in turn, in an order of its own every time, so that a short run has them all.
        rounds = (self._dice.sample(kinds, len(kinds)) for _ in itertools.count())
        for strike in itertools.chain.from_iterable(rounds):
            if self._stop.wait(self._dice.uniform(0.5, 3)):
                return
            strike()

    def _gateway(self) -> GatewayRun:
        return self._dice.choice([each for each in (self._steady, self._other) if each.running])

    def _kill_worker(self) -> None:
        self.strikes["worker killed"] += self._gateway().kill_a_child("worker", self._dice)

    def _kill_applier(self) -> None:
        self.strikes["applier killed"] += self._gateway().kill_a_child("applier", self._dice)

    def _freeze_worker(self) -> None:
        # Sometimes for longer than the session: then others take over, and what wakes up is a zombie.
        self._freeze("worker", self._dice.choice([self._dice.uniform(0.1, 2), self._dice.uniform(3.5, 6)]))

    def _freeze_applier(self) -> None:
        # Sometimes for longer than consent may be stale.
        self._freeze("applier", self._dice.uniform(0.1, 4))

    def _freeze(self, kind: str, seconds: float) -> None:
        children = self._gateway().children(kind)
        if not children:
            return
        pid = self._dice.choice(children)
        try:
            os.kill(pid, signal.SIGSTOP)
            self.strikes[f"{kind} frozen"] += 1
            self._stop.wait(seconds)
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def _come_or_go(self) -> None:
        if not self._other.running:
            self._other.start()
            self.strikes["gateway came"] += 1
        elif self._dice.random() < 0.5:
            self._other.terminate()
            self.strikes["gateway went"] += 1
        else:
            self._other.crash()
            self.strikes["gateway killed"] += 1


def phases(revoked: Sequence[Revoked]) -> str:
    """Return how many withdrawals of each phase got which answer, after how long, and what they waited for."""
    heads = ("revokes", "ENFORCED", "PENDING", "NOT_RUNNING", "p50 (s)", "p99 (s)", "max (s)")
    lines = [f"{'phase':18}" + "".join(f"{head:>13}" for head in heads)]
    for phase in dict.fromkeys(each.phase for each in revoked):
        of_phase = [each for each in revoked if each.phase == phase]
        states = Counter(each.state for each in of_phase)
        seconds = sorted(each.seconds for each in of_phase if each.state is State.ENFORCED) or [0.0]
        counts = (len(of_phase), *(states[state] for state in (State.ENFORCED, State.PENDING, State.NOT_RUNNING)))
        times = (statistics.median(seconds), seconds[int(0.99 * (len(seconds) - 1))], seconds[-1])
        cells = [*(f"{count:13}" for count in counts), *(f"{time:13.2f}" for time in times)]
        lines.append(f"{phase:18}{''.join(cells)}")
        causes = sum((Counter(dict.fromkeys(each.causes, 1)) for each in of_phase), Counter[Cause]())
        lines.append(f"  waited for: {', '.join(f'{cause} {count}' for cause, count in causes.most_common())}")
    return "\n".join(lines)


def findings(verdict: Verdict, strikes: Mapping[str, int]) -> str:
    """Return what struck, and what was found afterwards."""
    lines = [
        f"strikes: {', '.join(f'{name} {count}' for name, count in sorted(strikes.items()))}",
        f"records that left: {verdict.read}",
        f"violations: {len(verdict.violations)} at or past H, {verdict.surfaced} below H but not visible when ENFORCED",
        f"doubled: {verdict.doubled}",
        f"controls: {verdict.after_writing} would be violations if the ends were read when the withdrawal was written,",
        f"          {verdict.unhurt} past H in outputs that do not need what was withdrawn",
    ]
    return "\n".join(lines)
