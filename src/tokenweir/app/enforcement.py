"""Withdrawals and how far they are: builds the revoke barrier from a configuration, and looks at all positions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.keysource import KeyRow
from tokenweir.config import Config
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.policy.models import Policy
from tokenweir.errors import UsageError
from tokenweir.runtime.barrier import Barrier, Report, Withdrawal, wait
from tokenweir.runtime.blocks import Blocks, blocks_of
from tokenweir.runtime.clock import SystemClock
from tokenweir.runtime.gateway import group_of
from tokenweir.runtime.keyrows import EVER_FED, FED, outputs_of, read_rows
from tokenweir.runtime.survey import Flow, GroupReading, PartitionReading, read_groups
from tokenweir.runtime.topics import dead_letter_topic

_CLIENT_ID: Final = "tokenweir-consent-tool"

#: How long a single question may take; a wait can last this much longer than it should.
_ANSWER_SECONDS: Final = 5.0


def flows_of(config: Config, policy: Policy) -> list[Flow]:
    """Return the streams of a policy with their groups and topics, in every epoch of the keyset.

    Raises:
        KeysError: the keyset is malformed, so that nobody knows which topics are written.
    """
    rows = read_rows(config)
    return [_flow(config, policy, stream, rows) for stream in policy.streams]


def _flow(config: Config, policy: Policy, stream: str, rows: Sequence[KeyRow]) -> Flow:
    found = policy.streams[stream]
    every = outputs_of(policy, stream, rows, EVER_FED)
    fed = {output.topic for output in outputs_of(policy, stream, rows, FED)}
    return Flow(
        stream,
        group_of(config, stream),
        found.source.topic,
        tuple(output.topic for output in every if output.topic in fed),
        dead_letter_topic(config, found.source.topic),
        tuple(output.topic for output in every if output.topic not in fed),
        tuple(
            frozenset(output.epoch for output in every if output.index == index) for index in range(len(found.outputs))
        ),
    )


def await_enforcement(
    config: Config,
    loaded: LoadedPolicy,
    withdrawal: Withdrawal,
    seconds: float,
    on_report: Callable[[Report], None] = lambda _report: None,
) -> Report:
    """Wait until a withdrawal is enforced or the time is up, and return what the barrier says then."""
    barrier = Barrier(
        questions=Admin(config.kafka.client_properties(), _CLIENT_ID, _ANSWER_SECONDS),
        clock=SystemClock(),
        withdrawal=withdrawal,
        flows=flows_of(config, loaded.policy),
        group_prefix=config.gateway.group_prefix,
        policy_digest=loaded.digest,
    )
    return wait(barrier, seconds, sleep=time.sleep, on_report=on_report)


@dataclass(frozen=True, slots=True)
class Positions:
    """How far every group is with the consent topic.

    Attributes:
        topic: The consent topic.
        topic_id: The id of its present incarnation.
        ends: By partition, its high watermark before the groups were read.
        groups: Every group under the prefix.
        read_at_ms: When the groups were read.
        blocks: What denies every subject, as far as this machine's gateway has met it; the topic is not read for it.
    """

    topic: str
    topic_id: str
    ends: Mapping[int, int]
    groups: tuple[GroupReading, ...]
    read_at_ms: int
    blocks: Blocks = field(default_factory=Blocks)

    def behind(self, reading: PartitionReading) -> int | None:
        """Return how many offsets of the consent topic a source partition's last commit lacks, None if not known."""
        position = reading.position
        if position is None or position.topic_id != self.topic_id:
            return None
        return sum(max(0, end - position.offsets.get(number, 0)) for number, end in self.ends.items())

    def withdrawal(self, partition: int, offset: int) -> Withdrawal:
        """Return the withdrawal that stands at a place of the topic.

        Raises:
            UsageError: Nothing was ever written there.
        """
        end = self.ends.get(partition)
        if end is None:
            raise UsageError(f"{self.topic} has the partitions 0 to {len(self.ends) - 1}, and not {partition}")
        if not 0 <= offset < end:
            raise UsageError(f"nothing is at offset {offset} of {self.topic}-{partition}: it ends at {end}")
        return Withdrawal(self.topic, self.topic_id, partition, offset)


def read_positions(config: Config, policy: Policy) -> Positions:
    """Read the consent positions that all groups have committed.

    Raises:
        KafkaFault: The consent topic or the list of groups cannot be read.
    """
    admin = Admin(config.kafka.client_properties(), _CLIENT_ID, _ANSWER_SECONDS)
    clock = SystemClock()
    description = admin.describe_topic(config.consent.topic)
    ends = admin.high_watermarks(config.consent.topic, range(description.partitions))
    groups = read_groups(admin, flows_of(config, policy), config.gateway.group_prefix, clock)
    blocks = blocks_of(config, description.topic_id, {})
    return Positions(config.consent.topic, description.topic_id, ends, tuple(groups), clock.now_ms(), blocks)
