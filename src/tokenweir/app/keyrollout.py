"""How far a change of the keyset has come in the gateways that run: their committed offsets say which epochs they feed.

Gateways keep the keyset that they began with. Before an epoch ends, every one of them must feed its successor; before
a root is destroyed, none may make tokens from it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import UnstableOffsetsError
from tokenweir.adapters.producer import TRANSACTION_TIMEOUT_MS
from tokenweir.app.enforcement import flows_of
from tokenweir.config import Config
from tokenweir.core.context import EpochOutput, topic_of
from tokenweir.core.epochs import epoch_topic, mapping_topic, read_epochs
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.runtime.clock import SystemClock
from tokenweir.runtime.keyrows import outputs_of, read_rows
from tokenweir.runtime.survey import GroupReading, PartitionReading, read_groups

_CLIENT_ID: Final = "tokenweir-keys-tool"
_ANSWER_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = TRANSACTION_TIMEOUT_MS / 1000 + 5
_PAUSE_SECONDS: Final = 0.05
#: Kafka's own limit.
_TOPIC_CHARACTERS: Final = 249


class Fed(NamedTuple):
    """Which epochs of a key domain were fed when a source partition was committed last.

    Attributes:
        place: The group and the partition.
        epochs: The epochs by topic of the first epoch; None where that cannot be told.
        why_not: Why it cannot.
        undecided: Whether that is for a transaction with its offsets, which passes.
        unread: Whether the cluster did not say what was committed.
    """

    place: str
    epochs: dict[str, tuple[int, ...]] | None
    why_not: str = ""
    undecided: bool = False
    unread: bool = False


class Rollout:
    """The running gateways of one configuration, as far as one key domain goes.

    Raises from every method:
        KafkaFault: The cluster cannot be asked.
    """

    def __init__(self, config: Config, loaded: LoadedPolicy, domain: str) -> None:
        self.config = config
        self._loaded = loaded
        self._domain = domain
        self._admin = Admin(config.kafka.client_properties(), _CLIENT_ID, _ANSWER_SECONDS)

    def outputs(self) -> list[EpochOutput]:
        """Return the outputs of the key domain in the epochs that the keyset says are fed."""
        policy, rows = self._loaded.policy, read_rows(self.config)
        found = (output for stream in policy.streams for output in outputs_of(policy, stream, rows))
        return [output for output in found if output.domain == self._domain]

    def too_long(self) -> str:
        """Return an output whose name leaves no room for the names of later topics, "" where there is none."""
        policy = self._loaded.policy
        later = self._next()
        bases = (topic for stream in policy.streams for topic in self._domains(stream).values())
        return next((base for base in bases if len(mapping_topic(base, later)) > _TOPIC_CHARACTERS), "")

    def without(self, epoch: int) -> list[str]:
        """Return in words the partitions whose last commit was not by a gateway that feeds an epoch."""
        return [said for said in (_lacks(fed, epoch) for fed in self._settled()) if said]

    def ahead(self) -> list[str]:
        """Return in words what shows that the epoch of a next rotation was there before: the keyset is an old copy.

        That are partitions committed by a gateway that fed it or a later one, or for which the cluster does not say,
        and topics of the epoch to which anything was ever written. A gateway with another policy is not judged.
        """
        epoch, topics = self._next(), self._admin.topics()
        said = [f"{fed.place}: {fed.why_not}" if fed.unread else _beyond(fed, epoch) for fed in self._settled()]
        bases = {topic for stream in self._loaded.policy.streams for topic in self._domains(stream).values()}
        said += [
            f"{topic} has been written before"
            for topic in sorted(epoch_topic(base, epoch) for base in bases)
            if topic in topics and any(self._admin.high_watermarks(topic, range(topics[topic])).values())
        ]
        return [each for each in said if each]

    def _next(self) -> int:
        """Return the epoch that a rotation begins."""
        return max((row.epoch for row in read_rows(self.config) if row.domain == self._domain), default=0) + 1

    def still(self, epoch: int) -> list[str]:
        """Return in words the partitions whose last commit was by a gateway that feeds an epoch, or may be."""
        return [said for said in (_has(fed, epoch) for fed in self._settled()) if said]

    def mappings(self, epoch: int) -> list[str]:
        """Return the mapping topics that there are and that lead from the tokens of an epoch to later ones.

        Whoever has one, and the later epoch's root, can reverse the tokens of the epoch although its root is gone.
        """
        policy, topics = self._loaded.policy, self._admin.topics()
        later = [row.epoch for row in read_rows(self.config) if row.domain == self._domain and row.epoch > epoch]
        bases = [topic for stream in policy.streams for topic in self._domains(stream).values()]
        # A mapping leads from one epoch to the next, so that only the first one after this begins here.
        return [topic for base in bases if later and (topic := mapping_topic(base, min(later))) in topics]

    def _settled(self) -> list[Fed]:
        """Return what was fed at every place, each as it was when it was last caught without an open transaction.

        Of busy workers some have their offsets in a transaction at any moment, so that it takes several looks; one that
        is never caught within the time of a transaction is told as it is.
        """
        found: dict[str, Fed] = {}
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            for fed in self._fed():
                if not (fed.undecided and fed.place in found):
                    found[fed.place] = fed
            if not any(fed.undecided for fed in found.values()) or time.monotonic() > deadline:
                return list(found.values())
            time.sleep(_PAUSE_SECONDS)

    def _fed(self) -> Iterator[Fed]:
        flows = flows_of(self.config, self._loaded.policy)
        for group in read_groups(self._admin, flows, self.config.gateway.group_prefix, SystemClock()):
            if not group.exists or group.stream is None or not self._domains(group.stream):
                continue
            if group.replay and not group.members:
                continue  # Whoever joins it has the keyset of then.
            if group.fault is not None:
                yield Fed(group.group, None, str(group.fault), unread=True)
            for reading in group.partitions:
                yield self._read(group, group.stream, reading)

    def _domains(self, stream: str) -> dict[int, str]:
        """Return the topics of a stream's outputs in this key domain, by their place."""
        policy = self._loaded.policy
        return {
            output.index: topic_of(policy.streams[stream], policy.streams[stream].outputs[output.index])
            for output in outputs_of(policy, stream, ())
            if output.domain == self._domain
        }

    def _read(self, group: GroupReading, stream: str, reading: PartitionReading) -> Fed:
        place = f"{group.group} {reading.topic}-{reading.partition}"
        if reading.fault is not None:
            return Fed(place, None, str(reading.fault), isinstance(reading.fault, UnstableOffsetsError), unread=True)
        position = reading.position
        if position is None:
            return Fed(place, None, "no gateway has committed an offset yet")
        fed = read_epochs(position.epochs, len(self._loaded.policy.streams[stream].outputs))
        if position.policy_digest != self._loaded.digest or fed is None:
            return Fed(place, None, "its gateway runs with another policy")
        return Fed(place, {topic: fed[index] for index, topic in self._domains(stream).items()})


def _lacks(fed: Fed, epoch: int) -> str:
    if fed.epochs is None:
        return f"{fed.place}: {fed.why_not}"
    topics = [topic for topic, epochs in fed.epochs.items() if epoch not in epochs]
    return f"{fed.place}: epoch {epoch} of {', '.join(topics)} was not fed" if topics else ""


def _beyond(fed: Fed, epoch: int) -> str:
    """Return in words that an epoch or a later one was fed, "" where that is not known."""
    topics = [topic for topic, epochs in (fed.epochs or {}).items() if max(epochs) >= epoch]
    return f"{fed.place}: epoch {epoch} or a later one of {', '.join(topics)} was fed" if topics else ""


def _has(fed: Fed, epoch: int) -> str:
    if fed.epochs is None:
        return f"{fed.place}: {fed.why_not}"
    topics = [topic for topic, epochs in fed.epochs.items() if epoch in epochs]
    return f"{fed.place}: epoch {epoch} of {', '.join(topics)} was fed" if topics else ""
