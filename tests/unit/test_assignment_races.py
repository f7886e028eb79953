"""Workers, takeovers and the barrier on a model of Kafka, in every order: ENFORCED is never said too early.

A step is a turn of a worker, or something that happens to it, to consent or to the group. In the middle of a turn, and
of a look of the barrier, further steps can be taken, as if the process stood still there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.support.groupclients import use_models
from tests.support.groupmodel import BARRIER, CALLS, CONSENT, LAST_LOOKS, QUESTIONS, SOURCE, TOOL, Cluster
from tests.support.groupworkers import RunningWorker, barrier, offset_tool, violations

from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.app.offsetplan import Change, Target, Where
from tokenweir.errors import RefusedError
from tokenweir.runtime.barrier import Barrier, Report, State, Withdrawal
from tokenweir.runtime.position import ConsentPosition

_SETTLED_TURNS: Final = 40

Step = tuple[Any, ...]
"""What is done and to whom; for a turn or a look also the call in which further steps come in between."""


@dataclass(repr=False)
class World:
    """Two workers with a store each, and the withdrawals so far."""

    directory: Path
    cluster: Cluster = field(default_factory=Cluster)
    workers: list[RunningWorker] = field(default_factory=list)
    barriers: list[tuple[Withdrawal, Barrier]] = field(default_factory=list)
    enforced: dict[int, Report] = field(default_factory=dict)
    plan: Change | None = None
    interrupts: dict[str, tuple[str, Sequence[Step]]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def begin(self) -> None:
        """Let both workers join, own a partition each and process a few records."""
        self.cluster.passage = self._passage
        self.workers = [RunningWorker(self.cluster, slot, self.directory) for slot in range(2)]
        for _ in range(6):
            self.cluster.add_records()
            self.take([("turn", 0), ("turn", 1)])

    def take(self, steps: Sequence[Step]) -> None:
        """Take steps one after the other."""
        for name, *rest in steps:
            getattr(self, f"_{name}")(*rest)

    def _passage(self, client: str, call: str) -> None:
        self.calls.append((client, call))
        where, steps = self.interrupts.get(client, ("", ()))
        if call == where:
            del self.interrupts[client]
            self.take(steps)

    # Steps.

    def _turn(self, slot: int, where: str = "", between: Sequence[Step] = ()) -> None:
        worker = self.workers[slot]
        if worker.busy:
            return
        self.interrupts[worker.name] = (where, between)
        try:
            worker.turn()
        except (KafkaFault, RefusedError):
            # It ends, and is started again.
            self.cluster.expel(worker.name)
            self.workers[slot] = RunningWorker(self.cluster, slot, self.directory, worker.store)
        self.interrupts.pop(worker.name, None)

    def _look(self, where: str = "", between: Sequence[Step] = ()) -> None:
        if BARRIER in self.interrupts:
            return
        self.interrupts[BARRIER] = (where, between)
        for number, (_, waiting) in enumerate(list(self.barriers)):
            if number in self.enforced:
                continue
            report = waiting.look()
            if report.state is State.ENFORCED:
                self.enforced[number] = report
                self._assert_decided_below(report.outputs[0].high_watermark)
        self.interrupts.pop(BARRIER, None)

    def _assert_decided_below(self, high_watermark: int) -> None:
        below = [entry for entry in self.cluster.output[:high_watermark] if entry]
        assert not [entry for entry in below if "records" in entry.transaction.unmarked], "it will be seen only later"

    def _withdraw(self, partition: int = 0) -> None:
        offset = self.cluster.consent[partition]
        self.cluster.consent[partition] += 1
        withdrawal = Withdrawal(CONSENT, self.cluster.topic_id, partition, offset)
        self.barriers.append((withdrawal, barrier(self.cluster, withdrawal)))

    def _apply(self, slot: int) -> None:
        self.workers[slot].store.apply()

    def _rebuild(self, slot: int) -> None:
        self.workers[slot].store.rebuild()

    def _expel(self, slot: int) -> None:
        self.cluster.expel(self.workers[slot].name)

    def _expire(self, slot: int) -> None:
        self.cluster.expire(self.workers[slot].name)

    def _mark(self, slot: int, which: str) -> None:
        transaction = self.cluster.transactions.get(self.workers[slot].name)
        if transaction is not None:
            self.cluster.mark(transaction, [which])

    def _reset(self) -> None:
        self.cluster.reset()

    def _plan(self) -> None:
        """Stop the gateway and look at what setting offsets would do; somebody thinks about it."""
        self.take([("expel", 0), ("expel", 1)])
        with suppress(KafkaFault, RefusedError):
            self.plan = offset_tool(self.cluster, self.directory).plan("clicks", None, Target(Where.COMMITTED))

    def _carry_out(self, where: str = "", between: Sequence[Step] = ()) -> None:
        """Stop the gateway and do it, however long ago that was."""
        if self.plan is None or TOOL in self.interrupts:
            return
        self.take([("expel", 0), ("expel", 1)])
        self.interrupts[TOOL] = (where, between)
        with suppress(KafkaFault, RefusedError):
            offset_tool(self.cluster, self.directory).carry_out(self.plan)
        self.interrupts.pop(TOOL, None)

    def _records(self) -> None:
        self.cluster.add_records()

    # The end.

    def settle(self) -> None:
        """Let everything go on until all is enforced, and records flow after it."""
        for _ in range(_SETTLED_TURNS):
            self.take([("records",), ("apply", 0), ("apply", 1), ("turn", 0), ("turn", 1), ("look",)])

    def judge(self) -> None:
        """Nothing at or past H was decided without the withdrawal, nothing has left twice, and metadata are true."""
        assert len(self.enforced) == len(self.barriers), "it is never enforced"
        for number, report in self.enforced.items():
            withdrawal, _ = self.barriers[number]
            assert not violations(self.cluster, withdrawal, report.outputs[0].high_watermark)
        left = [entry for entry in self.cluster.output if entry and entry.transaction.committed]
        assert set(Counter((entry.source, entry.offset) for entry in left).values()) == {1}
        for entry in left:
            _, metadata = entry.transaction.offsets[entry.source]
            position = ConsentPosition.parse(metadata)
            assert position is not None
            assert tuple(position.offsets.values()) == entry.decided


@pytest.fixture(name="make")
def _make(tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Make a world whose clients stand on its own model."""
    worlds: list[World] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_models(monkeypatch, lambda: worlds[-1].cluster)

        def new() -> World:
            worlds.append(World(tmp_path))
            worlds[-1].begin()
            return worlds[-1]

        yield new


# Schedules in which one rule alone stands between a withdrawal and a record that leaves against it.

_BOTH: Final[list[Step]] = [("turn", 0), ("turn", 1)]
_ENFORCED: Final[list[Step]] = [("withdraw",), ("apply", 0), ("apply", 1), *_BOTH, ("look",), ("records",)]
_FIRST_ALONE: Final[list[Step]] = [("expel", 1), *[("turn", 0)] * 5]
_SECOND_ALONE: Final[list[Step]] = [("expel", 0), *[("turn", 1)] * 5]

_SCHEDULES: Final[Mapping[str, list[Step]]] = {
    # B2: the first worker takes both partitions and is with the withdrawal; the second comes back and is not.
    "a worker that is behind comes back": [
        ("withdraw",),
        ("apply", 0),
        *_FIRST_ALONE,
        ("look",),
        *_BOTH * 4,
        ("records",),
        *_BOTH,
    ],
    # B2: as before, but behind in one component only.
    "a worker that is behind in one component comes back": [
        ("withdraw", 0),
        ("apply", 0),
        ("apply", 1),
        ("withdraw", 1),
        ("apply", 0),
        *_FIRST_ALONE,
        ("look",),
        *_BOTH * 4,
        ("records",),
        *_BOTH,
    ],
    # B2: the position is not known, so all that there is counts.
    "offsets without metadata are taken over by one who is behind": [
        *_ENFORCED,
        ("expel", 0),
        ("expel", 1),
        ("reset",),
        ("rebuild", 1),
        *[("turn", 1)] * 6,
    ],
    # B2: the offsets of a worker that stands still hang on its transaction.
    "a partition is taken over while its last transaction is open": [
        ("records",),
        ("turn", 0, "offsets sent", [*_SECOND_ALONE, ("records",), ("turn", 1)]),
    ],
    # B3: the metadata say under which consent a record was decided.
    "consent moves on while records are decided": [
        ("records",),
        ("turn", 0, "decided", [("withdraw",), ("apply", 0)]),
    ],
    # B3: what was applied once is gone.
    "a store is rebuilt": [*_ENFORCED, ("rebuild", 0), *[("turn", 0)] * 3],
    "a store is rebuilt between the look at it and the snapshot": [
        *_ENFORCED,
        ("turn", 0, "snapshot", [("rebuild", 0)]),
    ],
    # B4: a zombie has decided, and its partition has gone on without it.
    **{
        f"a worker stands still at '{call}' and is replaced": [
            ("records",),
            ("turn", 0, call, [("withdraw",), ("apply", 1), *_SECOND_ALONE, ("look",)]),
            *_BOTH * 5,
        ]
        for call in CALLS[:-1]
    },
    # No record twice: the plan was made before the gateway went on.
    "offsets are set by an old plan": [("plan",), ("records",), *_BOTH * 6, ("carry_out",)],
    # B6: the plan was made before the withdrawal, and nothing but the consent position has moved since.
    "offsets are set by a plan from before a withdrawal": [
        *_BOTH * 3,
        ("plan",),
        *_FIRST_ALONE,
        ("withdraw",),
        ("apply", 0),
        *[("turn", 0)] * 3,
        ("look",),
        ("carry_out",),
        *_SECOND_ALONE,
        ("records",),
        ("turn", 1),
    ],
    **{
        f"a gateway comes and goes at '{call}' of the last look of a plan": [
            ("plan",),
            ("carry_out", call, [*_BOTH * 4, ("records",), *_BOTH, ("expel", 0), ("expel", 1)]),
        ]
        for call in LAST_LOOKS
    },
    # B6, 1: offsets that hang on a transaction say nothing.
    "the barrier asks while offsets are sent": [
        ("records",),
        ("turn", 0, "offsets sent", [("withdraw",), ("apply", 1), ("turn", 1), ("look",)]),
        ("look",),
        ("records",),
        ("turn", 0),
    ],
    # B6, 2: an older transaction begins and ends while the barrier looks at the groups.
    "an older transaction ends while the barrier looks": [
        ("withdraw",),
        ("apply", 1),
        ("turn", 1),
        ("look", QUESTIONS[0], [("records",), ("turn", 0), ("apply", 0), ("records",), *_BOTH]),
    ],
    # B6, 3: the markers of an older transaction arrive one by one.
    "the records of a transaction are decided after its offsets": [
        ("records",),
        ("turn", 0, "ended", [("withdraw",), ("apply", 1), ("mark", 0, "offsets"), *_SECOND_ALONE, ("look",)]),
    ],
}


@pytest.mark.parametrize("steps", _SCHEDULES.values(), ids=_SCHEDULES)
def test_a_rule_holds_where_nothing_else_would(make: Callable[[], World], steps: list[Step]) -> None:
    """Each of these schedules ends badly, or never, where its rule is missing."""
    world = make()
    world.take(steps)
    world.settle()
    world.judge()


def test_the_group_metadata_are_taken_once_before_anything_is_read(make: Callable[[], World]) -> None:
    """B4: metadata from after the read could be of a generation in which the partition belongs to somebody else."""
    world = make()
    world.take([("records",)])
    world.calls.clear()
    world.take([("turn", 0)])
    calls = [call for client, call in world.calls if client == world.workers[0].name]
    assert calls == list(CALLS[:-1])


def test_partitions_without_data_go_on_with_the_others(make: Callable[[], World]) -> None:
    """B5: one worker has both, and only one of them has records."""
    world = make()
    world.take([*_FIRST_ALONE, ("withdraw",), ("apply", 0)])
    for offset in range(6, 9):
        world.cluster.add_records_to((SOURCE, 0), 1)
        world.take([("turn", 0)])
        assert world.cluster.committed[SOURCE, 0][0] == offset + 1
    world.take([("look",)])
    assert set(world.enforced) == {0}


def test_without_any_data_a_moved_position_is_committed(make: Callable[[], World]) -> None:
    """B5: one transaction with offsets alone, and no further one while the position stands."""
    world = make()
    world.take([("withdraw",), ("apply", 0), ("apply", 1), *_BOTH, ("look",)])
    assert set(world.enforced) == {0}
    world.calls.clear()
    world.take(_BOTH * 3)
    assert "begin" not in {call for _, call in world.calls}


_SLOTS = st.integers(0, 1)
_EVENTS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("turn"), _SLOTS),
    st.tuples(st.sampled_from(["apply", "expel", "expire", "rebuild"]), _SLOTS),
    st.tuples(st.just("mark"), _SLOTS, st.sampled_from(["offsets", "records"])),
    st.sampled_from([("records",), ("look",), ("withdraw", 0), ("withdraw", 1), ("reset",)]),
    st.sampled_from([("plan",), ("carry_out",)]),
)


def _with_steps_between(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    between = st.lists(steps, min_size=1, max_size=10)
    return st.one_of(
        _EVENTS,
        st.tuples(st.just("turn"), _SLOTS, st.sampled_from(CALLS), between),
        st.tuples(st.just("look"), st.sampled_from(QUESTIONS), between),
        st.tuples(st.just("carry_out"), st.sampled_from(LAST_LOOKS), between),
    )


@given(steps=st.lists(_with_steps_between(_with_steps_between(_EVENTS)), max_size=15))
@settings(max_examples=200, deadline=None, phases=set(Phase) - {Phase.shrink, Phase.explain})
def test_it_is_never_enforced_too_early(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    """And always at last, once everything goes on."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = World(tmp_path_factory.mktemp("world"))
        use_models(monkeypatch, lambda: world.cluster)
        world.begin()
        world.take(steps)
        world.settle()
        world.judge()
