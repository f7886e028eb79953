"""What compiling a stream needs beside the schema: the policy, the stream and the epochs of its key domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import Output, Policy, Stream


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What does not depend on the schema: the policy, the stream and the epoch of every key domain."""

    table: ClassTable
    policy: Policy
    digest: str
    name: str
    epochs: Mapping[str, int]

    @property
    def stream(self) -> Stream:
        """The stream itself."""
        return self.policy.streams[self.name]

    def purposes(self) -> tuple[str, ...]:
        """The purposes that some output of the stream serves, in the order of the policy."""
        audiences = [self.policy.audiences[output.audience] for output in self.stream.outputs]
        return tuple(name for name in self.policy.purposes if any(name in audience.purposes for audience in audiences))


def topic_of(stream: Stream, output: Output) -> str:
    """Return the topic of an output: as written, or ``{source}.{audience}``."""
    return output.topic or f"{stream.source.topic}.{output.audience}"


def domain_of(policy: Policy, audience: str) -> str:
    """Return the key domain of an audience: as written, or its own name, so that nothing joins by default."""
    return policy.audiences[audience].key_domain or audience
