"""Workers of the product on the model of a cluster, moved turn by turn; the engine lets every record pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self, cast

from tests.support.groupclients import Questions, Tool
from tests.support.groupmodel import BARRIER, CONSENT, GROUP, OUTPUT, POLICY, SOURCE, TOOL, Cluster, Sanitized

from tokenweir.adapters.consumer import GroupConsumer
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.app.offsets import OffsetTool
from tokenweir.config import Config
from tokenweir.core.batches import OutputBatch, RecordBatch
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.runtime.assignment import Assignment, AssignmentSettings
from tokenweir.runtime.barrier import Barrier, Withdrawal
from tokenweir.runtime.batch import WorkBatch
from tokenweir.runtime.plans import ReadyPlan
from tokenweir.runtime.quarantine import Suspects
from tokenweir.runtime.reading import WorkerSettings
from tokenweir.runtime.status import StatusWriter
from tokenweir.runtime.survey import Flow
from tokenweir.runtime.worker import Worker

_READY: Final = ReadyPlan(cast("Any", None), ())


@dataclass(repr=False)
class Store:
    """The consent store of one gateway and its freshness.

    Attributes:
        cluster: Where the consent topic is.
        client: The worker that reads it.
        position: What is applied.
        generation: Another after each rebuild.
        restored: Whether workers may use it.
    """

    cluster: Cluster
    client: str
    position: list[int] = field(default_factory=lambda: [5, 5])
    generation: int = 1
    restored: bool = True

    def apply(self) -> None:
        """Apply everything that there is."""
        self.position = [self.cluster.consent[number] for number in sorted(self.cluster.consent)]

    def rebuild(self) -> None:
        """Begin anew with the oldest state that can be."""
        self.position = [0 for _ in self.position]
        self.generation += 1

    def staleness_seconds(self, _now_ns: int) -> float:
        """Fresh: how stale consent may be is no part of the barrier."""
        return 0.0

    def snapshot(self) -> Snapshot:
        """The store as it is now."""
        self.cluster.passage(self.client, "snapshot")
        return Snapshot(self.cluster.topic_id, self.generation, tuple(self.position))


@dataclass(frozen=True)
class Snapshot:
    """What was applied at one time."""

    topic_id: str
    generation: int
    position: tuple[int, ...]
    blocked: frozenset[int] = frozenset()

    def __call__(self, _subject: object) -> tuple[int, ...]:
        """Return the position, which is all that the engine of this model looks at."""
        return self.position

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Clock:
    """Moves by a second at each look, so that whatever is done once a second is always due."""

    def __init__(self) -> None:
        self._ns = 0

    def now_ms(self) -> int:
        """Wall clock."""
        return self._ns // 1_000_000

    def monotonic_ns(self) -> int:
        """Monotonic clock."""
        self._ns += 1_000_000_000
        return self._ns


class _Engine:
    """Lets every record pass, with the consent position that it was decided under."""

    def __init__(self, decided: Callable[[], None]) -> None:
        self._decided = decided

    def run(self, batch: RecordBatch, consent: Callable[[object], Any], *_: object) -> list[OutputBatch]:
        outcomes = self._outcomes(batch, consent)
        self._decided()
        return outcomes

    def _outcomes(self, batch: RecordBatch, consent: Callable[[object], Any]) -> list[OutputBatch]:
        output = OutputBatch()
        for _ in range(len(batch)):
            output.add(Outcome(Fate.SANITIZED), b"")
            output.values[-1] = consent(None)
        return [output]


class _Plans:
    def get(self, _schema_id: int) -> ReadyPlan:
        return _READY

    def close(self) -> None:
        pass


class _Intake:
    def batch(self, topic: str, messages: list[Any], partitions: list[int], offsets: list[int]) -> WorkBatch:
        nothing: list[bytes | None] = [None for _ in messages]
        plans: list[ReadyPlan | None] = [_READY for _ in messages]
        return WorkBatch(
            topic, messages, partitions, offsets, nothing, list(nothing), [0] * len(messages), None, 0, plans
        )


class _Delivery:
    outputs = (OUTPUT,)

    def produce(self, producer: Any, batch: WorkBatch, outcomes: Sequence[OutputBatch]) -> None:  # noqa: ANN401 - its client is the model's.
        (output,) = outcomes
        for number, offset, value in zip(batch.partitions, batch.offsets, output.values, strict=True):
            producer._producer.produce(OUTPUT, (batch.topic, number), offset, value)


class _Tally:
    def __init__(self, status: StatusWriter) -> None:
        self.status = status

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class RunningWorker:
    """A worker of the product that is moved turn by turn."""

    def __init__(self, cluster: Cluster, slot: int, directory: Path, store: Store | None = None) -> None:
        self.name = f"{GROUP}.{slot}"
        self.store = Store(cluster, self.name) if store is None else store
        self.busy = False
        clock = Clock()
        self.assignment = Assignment(
            AssignmentSettings("clicks", slot, GROUP, POLICY, CONSENT, 5),
            admin=cast("Any", Questions(cluster, self.name)),
            store=cast("Any", self.store),
            freshness=cast("Any", self.store),
            clock=clock,
        )
        self.worker: Any = Worker(
            WorkerSettings(SOURCE, interval_seconds=0.1, max_records=100, max_bytes=1_000_000),
            consumer=lambda owner: GroupConsumer({}, GROUP, self.name, owner),
            producer=lambda: TransactionalProducer({}, self.name),
            assignment=self.assignment,
            store=cast("Any", self.store),
            engine=cast("Any", _Engine(lambda: cluster.passage(self.name, "decided"))),
            plans=cast("Any", _Plans()),
            intake=cast("Any", _Intake()),
            delivery=cast("Any", _Delivery()),
            suspects=Suspects(directory, "clicks", slot),
            tally=cast("Any", _Tally(StatusWriter(directory / f"{slot}.status"))),
            clock=clock,
        )
        # What its run does before the loop.
        self.worker._producer.init_transactions()
        self.worker._consumer.subscribe([SOURCE])

    def turn(self) -> None:
        """Turn once, unless it stands still within a turn."""
        if self.busy:
            return
        self.busy = True
        try:
            self.worker._turn()
        finally:
            self.busy = False


def barrier(cluster: Cluster, withdrawal: Withdrawal) -> Barrier:
    """Return the barrier of a withdrawal."""
    flows = (Flow("clicks", GROUP, SOURCE, (OUTPUT,)),)
    return Barrier(Questions(cluster, BARRIER), Clock(), withdrawal, flows, "gw", POLICY)


def offset_tool(cluster: Cluster, directory: Path) -> OffsetTool:
    """Return the tool that sets the offsets of the one group, with a state directory of its own machine."""
    config = Config.model_validate(
        {
            "version": 1,
            "kafka": {"bootstrap_servers": "model:1"},
            "gateway": {"group_prefix": GROUP.partition(".")[0]},
            "consent": {"topic": CONSENT},
            "state": {"directory": str(directory / "tool")},
        }
    )
    streams = {GROUP.partition(".")[2]: SimpleNamespace(source=SimpleNamespace(topic=SOURCE))}
    loaded = SimpleNamespace(policy=SimpleNamespace(streams=streams), digest=POLICY)
    return OffsetTool(config, cast("Any", loaded), cast("Any", Tool(cluster, TOOL)))


def violations(cluster: Cluster, withdrawal: Withdrawal, high_watermark: int) -> list[Sanitized]:
    """Return the records at or past H that have left and were decided without the withdrawal."""
    return [
        entry
        for entry in cluster.output[high_watermark:]
        if entry and entry.transaction.committed and entry.decided[withdrawal.partition] <= withdrawal.offset
    ]
