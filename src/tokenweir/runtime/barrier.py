"""The revoke barrier: whether every output record from now on was decided with a withdrawal, and what holds that up.

A withdrawal at offset r of consent partition k is enforced when

1. every source partition of every group has stably committed offsets whose metadata show the same consent topic and a
   position of k beyond r,
2. *then* H, the high watermark of every output partition, is read,
3. the last stable offset of each output partition reaches its H.

Every record at or past H was decided with the withdrawal. A transaction that decided with an older position can end in
three ways. It sent its offsets before (1): then they are pending, which (1) does not accept, or decided. It sends them
later: then its worker still owns the partition, because group metadata from before a rebalance do not commit, and its
position is not below what is committed there. Or it has committed: then its records lie below H, and (3) waits until
all of them can be seen.

A group that replays dead letters and has no members holds nothing up but with offsets that are not decided: whoever
joins it waits for all consent that there is by then, so that its committed position need not be known. Why no older
transaction of it can be overlooked stands in :mod:`tokenweir.runtime.survey`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.adapters.producer import TRANSACTION_TIMEOUT_MS
from tokenweir.core.epochs import read_epochs
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.survey import Flow, GroupReading, PartitionReading, Questions, read_groups

#: A transaction that is not decided after this time is stuck: the broker should have aborted it long ago.
ALARM_SECONDS: Final = 2 * TRANSACTION_TIMEOUT_MS / 1000

#: How long an output of a former key epoch must be missing before it counts as deleted.
GONE_SECONDS: Final = 5.0

_SOON_SECONDS: Final = 0.05
_LATER_SECONDS: Final = 0.25


class State(StrEnum):
    """How far a withdrawal is."""

    ENFORCED = "ENFORCED"
    PENDING = "PENDING"
    NOT_RUNNING = "NOT_RUNNING"
    """A group has no members: nothing leaves, but a worker with an older state may still join."""


class Cause(StrEnum):
    """Why a withdrawal is not enforced yet: one value per cause."""

    CONSENT_TOPIC_CHANGED = "consent_topic_changed"
    GROUP_MISSING = "group_missing"
    GROUP_EMPTY = "group_empty"
    SOURCE_UNKNOWN = "source_unknown"
    OFFSETS_UNSTABLE = "offsets_unstable"
    NOT_COMMITTED = "not_committed"
    POSITION_MISSING = "position_missing"
    OTHER_CONSENT_TOPIC = "other_consent_topic"
    BEHIND = "behind"
    OPEN_TRANSACTION = "open_transaction"
    KAFKA_FAULT = "kafka_fault"


#: By cause, what a person can do about one that does not pass by itself.
REMEDIES: Final[dict[Cause, str]] = {
    Cause.CONSENT_TOPIC_CHANGED: "write the withdrawal again, to the topic that is there now",
    Cause.GROUP_MISSING: "start the gateway of this stream",
    Cause.GROUP_EMPTY: "start the gateway, or if the stream is gone for good, delete its group "
    "(kafka-consumer-groups.sh --delete --group)",
    Cause.SOURCE_UNKNOWN: "wait until its members have partitions, or stop them and delete the group",
    Cause.OFFSETS_UNSTABLE: "restart the worker of this slot; a broker that lost the transaction is not cured by that",
    Cause.NOT_COMMITTED: "a new partition is taken over within 10 seconds; if nobody reads this topic any more, "
    "delete its offsets (kafka-consumer-groups.sh --delete-offsets --topic)",
    Cause.POSITION_MISSING: "the offset was set by another tool; the next commit of a worker repairs it",
    Cause.OTHER_CONSENT_TOPIC: "the group runs with another consent topic, or ran with a deleted one",
    Cause.BEHIND: "if it lasts, look at /readyz of the worker; if nobody reads this topic any more, delete its offsets "
    "(kafka-consumer-groups.sh --delete-offsets --topic)",
    Cause.OPEN_TRANSACTION: "restart the worker whose transaction is open; kafka-transactions.sh finds it",
    Cause.KAFKA_FAULT: "are all brokers up, and may this client describe groups and topics?",
}

_EMPTY: Final = frozenset({Cause.GROUP_MISSING, Cause.GROUP_EMPTY})
_UNDECIDED: Final = frozenset({Cause.OFFSETS_UNSTABLE, Cause.OPEN_TRANSACTION})
_SOON: Final = frozenset({*_UNDECIDED, Cause.BEHIND})


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Where a withdrawal was written: partition k and offset r of one incarnation of the consent topic."""

    topic: str
    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Holdup:
    """One thing that a withdrawal still waits for.

    Attributes:
        cause: Which kind.
        text: The same in words.
        group: The consumer group, "" where it is about none.
        topic: A source topic, or for an open transaction an output.
        partition: Its number, None where it is about no partition.
        worker: Who has the partition, "" where that is not known.
        alarm: A transaction is not decided for longer than :data:`ALARM_SECONDS`; it does not pass by itself.
    """

    cause: Cause
    text: str
    group: str = ""
    topic: str = ""
    partition: int | None = None
    worker: str = ""
    alarm: bool = False

    @property
    def place(self) -> tuple[Cause, str, str, int | None]:
        """What makes it the same one in the next answer."""
        return self.cause, self.group, self.topic, self.partition

    @property
    def remedy(self) -> str:
        """What a person can do if it lasts."""
        return REMEDIES[self.cause]

    def __str__(self) -> str:
        place = self.topic if self.partition is None else f"{self.topic}-{self.partition}"
        words = [word for word in (self.group, place, f"({self.worker})" if self.worker else "") if word]
        return f"{' '.join(words)}: {self.text}" if words else self.text


@dataclass(frozen=True, slots=True)
class OutputReading:
    """The proof of one output partition: every record at or past ``high_watermark`` was decided with the withdrawal."""

    topic: str
    partition: int
    high_watermark: int
    high_watermark_at_ms: int
    last_stable_offset: int
    last_stable_offset_at_ms: int

    @property
    def reached(self) -> bool:
        """Whether everything below the high watermark is decided."""
        return self.last_stable_offset >= self.high_watermark


@dataclass(frozen=True, slots=True)
class Report:
    """One answer of the barrier, with everything that it rests on.

    Attributes:
        state: The answer.
        at_ms: When it was complete.
        holdups: What is missing, for every state but ENFORCED.
        groups: The groups as they were last read.
        outputs: The output partitions; empty before the groups are through.
        not_known: In words, what the answer does not cover.
    """

    state: State
    at_ms: int
    holdups: tuple[Holdup, ...] = ()
    groups: tuple[GroupReading, ...] = ()
    outputs: tuple[OutputReading, ...] = ()
    not_known: tuple[str, ...] = ()


@dataclass(slots=True)
class Barrier:
    """The barrier of one withdrawal: each :meth:`look` asks the cluster and never answers too early.

    It raises nothing: what cannot be asked is one more thing to wait for.

    Args:
        questions: The cluster.
        clock: Gives the times of the evidence and measures how long a transaction is undecided.
        withdrawal: Where the withdrawal was written.
        flows: The streams of the policy.
        group_prefix: What the names of all groups of the gateway begin with, before a dot.
        policy_digest: The policy of ``flows``; groups with another one may write outputs that are not known here.
    """

    questions: Questions
    clock: Clock
    withdrawal: Withdrawal
    flows: Sequence[Flow]
    group_prefix: str
    policy_digest: str
    _groups: tuple[GroupReading, ...] = field(default=(), init=False)
    _passed: dict[tuple[str, str, int], PartitionReading] = field(default_factory=dict, init=False)
    _outputs: tuple[OutputReading, ...] | None = field(default=None, init=False)
    _undecided_since_ns: dict[tuple[Cause, str, str, int | None], int] = field(default_factory=dict, init=False)
    _gone_since_ns: dict[str, int] = field(default_factory=dict, init=False)

    def look(self) -> Report:
        """Ask the cluster once.

        The groups are asked until every partition is through; from then on only the outputs are.
        """
        try:
            holdups = list(self._look())
        except KafkaFault as fault:
            holdups = [Holdup(Cause.KAFKA_FAULT, str(fault))]
        holdups = self._with_alarms(holdups)
        return Report(
            state=_state(holdups),
            at_ms=self.clock.now_ms(),
            holdups=tuple(holdups),
            groups=self._groups,
            outputs=self._outputs or (),
            not_known=tuple(self._not_known()),
        )

    def _look(self) -> Iterator[Holdup]:
        if self._outputs is None:
            held = False
            for holdup in self._hold_ups_of_groups():  # 1
                held = True
                yield holdup
            if held:
                return
            self._outputs = tuple(self._high_watermarks())  # 2
        self._outputs = tuple(self._last_stable_offsets(self._outputs))  # 3
        for output in self._outputs:
            if not output.reached:
                text = f"a transaction is open: stable to {output.last_stable_offset} of {output.high_watermark}"
                yield Holdup(Cause.OPEN_TRANSACTION, text, topic=output.topic, partition=output.partition)

    # 1: the groups.

    def _hold_ups_of_groups(self) -> Iterator[Holdup]:
        self._groups = ()
        topic_id = self.questions.describe_topic(self.withdrawal.topic).topic_id
        if topic_id != self.withdrawal.topic_id:
            text = f"the consent topic {self.withdrawal.topic} is not the one that the withdrawal was written to"
            yield Holdup(Cause.CONSENT_TOPIC_CHANGED, text)
            return
        found = read_groups(self.questions, self.flows, self.group_prefix, self.clock)
        self._groups = tuple(map(self._with_passed, found))
        if not self._groups:
            yield Holdup(Cause.GROUP_MISSING, f"no group is named {self.group_prefix}.…")
        for group in self._groups:
            yield from self._hold_ups_of_group(group)

    def _with_passed(self, group: GroupReading) -> GroupReading:
        """Keep the reading of each partition that was through before.

        Its position never goes back, so that it need not be caught without a pending transaction once more: with many
        busy workers the moment in which all of them are would hardly ever come.
        """
        kept = (
            self._passed.get((group.group, reading.topic, reading.partition), reading) for reading in group.partitions
        )
        return replace(group, partitions=tuple(kept))

    def _hold_ups_of_group(self, group: GroupReading) -> Iterator[Holdup]:
        if not group.exists:
            yield Holdup(Cause.GROUP_MISSING, "the group does not exist", group.group)
        elif group.fault is not None:
            yield Holdup(Cause.KAFKA_FAULT, str(group.fault), group.group)
        elif group.replay and not group.members:
            yield from _hold_ups_of_resting_replay(group)
            return
        elif not group.members:
            yield Holdup(Cause.GROUP_EMPTY, "the group has no members", group.group)
        elif not group.partitions:
            yield Holdup(Cause.SOURCE_UNKNOWN, "nothing shows what the group reads", group.group)
        for reading in group.partitions:
            found = self._judge(reading)
            if found is None:
                self._passed[group.group, reading.topic, reading.partition] = reading
            else:
                cause, text = found
                yield Holdup(cause, text, group.group, reading.topic, reading.partition, reading.worker)

    def _judge(self, reading: PartitionReading) -> tuple[Cause, str] | None:
        """Return what a source partition still lacks, None where its position is beyond the withdrawal."""
        committed, position, withdrawal = reading.committed, reading.position, self.withdrawal
        if isinstance(committed, KafkaFault):
            return _judge_fault(committed)
        if committed.offset is None:
            return Cause.NOT_COMMITTED, "no offset is committed yet"
        if position is None:
            return Cause.POSITION_MISSING, "the committed offset has no consent position"
        if position.topic_id != withdrawal.topic_id:
            return Cause.OTHER_CONSENT_TOPIC, "the committed position is one of another consent topic"
        applied = position.offsets.get(withdrawal.partition, 0)
        if applied <= withdrawal.offset:
            place = f"consent partition {withdrawal.partition}"
            return Cause.BEHIND, f"{place} is applied below offset {applied}, the withdrawal is at {withdrawal.offset}"
        return None

    # 2 and 3: the outputs.

    def _high_watermarks(self) -> Iterator[OutputReading]:
        """Read H; by now nothing below the withdrawal's position can still begin."""
        fed = {output for flow in self.flows for output in flow.outputs}
        former = {output for flow in self.flows for output in flow.former} - fed
        for topic in sorted(fed | former):
            if topic in former and self._is_gone(topic):
                continue
            numbers = range(self.questions.describe_topic(topic).partitions)
            ends = self.questions.high_watermarks(topic, numbers, "read_uncommitted")
            now_ms = self.clock.now_ms()
            if set(ends) != set(numbers):
                raise KafkaFault(f"read the ends of topic {topic}", "INCOMPLETE_ANSWER", retriable=True)
            for number in numbers:
                yield OutputReading(
                    topic, number, ends[number], now_ms, last_stable_offset=-1, last_stable_offset_at_ms=0
                )

    def _is_gone(self, topic: str) -> bool:
        """Return whether an output that is fed no longer was deleted; then there is no record of it to be seen.

        A broker that is only just starting may not know a topic that is there, so that one answer is not enough.

        Raises:
            KafkaFault: It is missing, and not for long enough yet.
        """
        try:
            self.questions.describe_topic(topic)
        except KafkaFault as fault:
            if fault.code != "UNKNOWN_TOPIC_OR_PART":
                raise
            since_ns = self._gone_since_ns.setdefault(topic, self.clock.monotonic_ns())
            if (self.clock.monotonic_ns() - since_ns) / 1e9 < GONE_SECONDS:
                raise
            return True
        self._gone_since_ns.pop(topic, None)
        return False

    def _last_stable_offsets(self, outputs: Sequence[OutputReading]) -> Iterator[OutputReading]:
        """Read how far each output can be seen; a part of the answer that is missing counts as nothing."""
        for topic in dict.fromkeys(output.topic for output in outputs):
            of_topic = [output for output in outputs if output.topic == topic]
            stable = self.questions.high_watermarks(topic, [output.partition for output in of_topic], "read_committed")
            now_ms = self.clock.now_ms()
            for output in of_topic:
                found = stable.get(output.partition, -1)
                yield replace(output, last_stable_offset=found, last_stable_offset_at_ms=now_ms)

    # What is said beside the answer.

    def _with_alarms(self, holdups: Sequence[Holdup]) -> list[Holdup]:
        """Mark transactions that have been undecided for too long."""
        now_ns = self.clock.monotonic_ns()
        undecided = [holdup.place for holdup in holdups if holdup.cause in _UNDECIDED]
        self._undecided_since_ns = {place: self._undecided_since_ns.get(place, now_ns) for place in undecided}
        marked = []
        for holdup in holdups:
            since_ns = self._undecided_since_ns.get(holdup.place, now_ns)
            alarm = (now_ns - since_ns) / 1e9 > ALARM_SECONDS
            text = f"{holdup.text}, for {(now_ns - since_ns) / 1e9:.0f} s" if alarm else holdup.text
            marked.append(replace(holdup, text=text, alarm=alarm))
        return marked

    def _covers_epochs(self, group: GroupReading) -> bool:
        """Whether every key epoch that a group feeds, as its offsets say, is one whose topics are known here."""
        known = next((flow.epochs for flow in self.flows if flow.stream == group.stream), ())
        if not known:
            return True
        for position in (reading.position for reading in group.partitions if reading.position is not None):
            fed = read_epochs(position.epochs, len(known))
            if fed is None or any(set(each) - epochs for each, epochs in zip(fed, known, strict=True)):
                return False
        return True

    def _not_known(self) -> Iterator[str]:
        for group in self._groups:
            if group.stream is None:
                yield f"group {group.group} is of no stream of this policy: the outputs that it writes are not covered"
                continue
            digests = {reading.position.policy_digest for reading in group.partitions if reading.position is not None}
            if digests - {self.policy_digest}:
                yield f"group {group.group} runs with another policy: outputs that only that one has are not covered"
            elif not self._covers_epochs(group):
                yield f"group {group.group} feeds key epochs that this keyset does not have: they are not covered"


def _hold_ups_of_resting_replay(group: GroupReading) -> Iterator[Holdup]:
    """Yield the partitions of dead letters whose offsets are not known to be decided."""
    for reading in group.partitions:
        if reading.fault is not None:
            cause, text = _judge_fault(reading.fault)
            yield Holdup(cause, text, group.group, reading.topic, reading.partition)


def _judge_fault(fault: KafkaFault) -> tuple[Cause, str]:
    if isinstance(fault, UnstableOffsetsError):
        return Cause.OFFSETS_UNSTABLE, "a transaction with its offsets is not decided"
    return Cause.KAFKA_FAULT, str(fault)


def _state(holdups: Sequence[Holdup]) -> State:
    if not holdups:
        return State.ENFORCED
    return State.NOT_RUNNING if any(holdup.cause in _EMPTY for holdup in holdups) else State.PENDING


def wait(
    barrier: Barrier,
    seconds: float,
    *,
    sleep: Callable[[float], None],
    on_report: Callable[[Report], None] = lambda _report: None,
) -> Report:
    """Look until the withdrawal is enforced or the time is up, at least once, and return the last report.

    Args:
        barrier: The barrier.
        seconds: How long, by the barrier's clock; a question that is under way is waited for.
        sleep: Waits for a number of seconds.
        on_report: Told of every report that is not the last.
    """
    deadline_ns = barrier.clock.monotonic_ns() + int(seconds * 1e9)
    while True:
        report = barrier.look()
        left_seconds = (deadline_ns - barrier.clock.monotonic_ns()) / 1e9
        if report.state is State.ENFORCED or left_seconds <= 0:
            return report
        on_report(report)
        soon = all(holdup.cause in _SOON for holdup in report.holdups)
        sleep(min(_SOON_SECONDS if soon else _LATER_SECONDS, left_seconds))
