"""What compiling a stream needs beside the schema: the policy, the stream and the epochs of its key domains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tokenweir.core.epochs import FIRST_EPOCH, epoch_topic, shown_epochs
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import Output, Policy, Stream


@dataclass(frozen=True, slots=True)
class EpochOutput:
    """One output of a stream in one epoch of its key domain: a topic of its own.

    Attributes:
        index: The output's place in the stream.
        audience: Who gets it.
        topic: The topic of this epoch.
        domain: The key domain of its tokens.
        epoch: The epoch.
        active: Whether it is the newest; the others are fed beside it.
    """

    index: int
    audience: str
    topic: str
    domain: str
    epoch: int
    active: bool = True


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What does not depend on the schema: the policy, the stream and the epochs of every key domain.

    ``epochs`` has the active epoch by key domain, ``retiring`` those that are fed beside it.
    """

    table: ClassTable
    policy: Policy
    digest: str
    name: str
    epochs: Mapping[str, int]
    retiring: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def stream(self) -> Stream:
        """The stream itself."""
        return self.policy.streams[self.name]

    def outputs(self) -> tuple[EpochOutput, ...]:
        """Return the outputs of the stream, each in the active epoch and then in those that are fed beside it.

        Plans have their outputs in this order.
        """
        return epoch_outputs(self.policy, self.name, self.epochs, self.retiring)

    def purposes(self) -> tuple[str, ...]:
        """The purposes that some output of the stream serves, in the order of the policy."""
        audiences = [self.policy.audiences[output.audience] for output in self.stream.outputs]
        return tuple(name for name in self.policy.purposes if any(name in audience.purposes for audience in audiences))


def epoch_outputs(
    policy: Policy, stream: str, active: Mapping[str, int], others: Mapping[str, tuple[int, ...]]
) -> tuple[EpochOutput, ...]:
    """Return the outputs of a stream, each in the active epoch of its key domain and then in others of it.

    A key domain without an active epoch counts as being in its first.
    """
    found = policy.streams[stream]
    outputs: list[EpochOutput] = []
    for index, output in enumerate(found.outputs):
        domain = domain_of(policy, output.audience)
        newest = active.get(domain, FIRST_EPOCH)
        for epoch in (newest, *(epoch for epoch in others.get(domain, ()) if epoch != newest)):
            topic = epoch_topic(topic_of(found, output), epoch)
            outputs.append(EpochOutput(index, output.audience, topic, domain, epoch, epoch == newest))
    return tuple(outputs)


def fed_epochs(outputs: Iterable[EpochOutput]) -> str:
    """Return the epochs of a stream's outputs as they stand in the metadata of its offsets."""
    by_index: dict[int, list[int]] = {}
    for output in outputs:
        by_index.setdefault(output.index, []).append(output.epoch)
    return shown_epochs(by_index.values())


def topic_of(stream: Stream, output: Output) -> str:
    """Return the topic of an output in the first epoch: as written, or ``{source}.{audience}``."""
    return output.topic or f"{stream.source.topic}.{output.audience}"


def domain_of(policy: Policy, audience: str) -> str:
    """Return the key domain of an audience: as written, or its own name, so that nothing joins by default."""
    return policy.audiences[audience].key_domain or audience
