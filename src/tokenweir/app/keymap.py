"""The mapping between two epochs: which token of the old one has become which of the new one, for the values seen.

It is made from what has left already, the old epoch's topics, and holds nothing but tokens: each is reversed in memory
and tokenized anew. So it never says more than both topics do together, and nothing is in it that consent withheld.
Pairs go to a compacted topic under the old token as key, so that a pair that is written twice is there once.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.registry import NO_ID, Registry
from tokenweir.adapters.topicreader import read_until
from tokenweir.adapters.topicwriter import TopicWriter
from tokenweir.app.workspace import Workspace
from tokenweir.config import Config
from tokenweir.core import wire
from tokenweir.core.context import EpochOutput, topic_of
from tokenweir.core.epochs import mapping_topic
from tokenweir.core.keys import Keyset
from tokenweir.core.tokenpairs import RecordTokens, Successors
from tokenweir.errors import DecodeError, InvalidValueError, RefusedError, RegistryError
from tokenweir.runtime.gateway import keyset_of
from tokenweir.runtime.keyrows import outputs_of, read_rows
from tokenweir.runtime.sources import plan_known

_CLIENT_ID: Final = "tokenweir-keys-map"
#: So many pairs are remembered, so that each is seldom written twice.
_REMEMBERED: Final = 1_000_000
_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Route:
    """One mapping topic: the old epoch's topic of an output, and where its pairs go."""

    stream: str
    old: EpochOutput
    new: EpochOutput
    topic: str


@dataclass(slots=True)
class Mapped:
    """What was done for one route.

    Attributes:
        records: Records of the old topic that were read.
        written: Pairs that were written.
        unknown_schemas: Records whose schema is none that the policy makes of a known version now, by schema id.
        no_tokens: Records in which something at the place of a token is none.
        irreversible: Entries whose tokens cannot be reversed, and have no successors here.
        varying: Paths at which a value may be a token or something else, which are left out.
    """

    records: int = 0
    written: int = 0
    unknown_schemas: Counter[int] = field(default_factory=Counter)
    no_tokens: int = 0
    irreversible: set[str] = field(default_factory=set)
    varying: set[str] = field(default_factory=set)


class KeyMap:
    """Writes the mapping topics of one key domain.

    Args:
        config: The configuration.
        workspace: Its policy.
        registry: Where the derived schemas are registered.
        domain: The key domain, with an epoch that is fed beside the active one.

    Raises:
        KeysError: the keyset cannot be opened.
        RefusedError: no epoch is fed beside the active one: there is nothing to map.
    """

    def __init__(self, config: Config, workspace: Workspace, registry: Registry, domain: str) -> None:
        self._config = config
        self._policy = workspace.policy
        self._directory = workspace.policy_directory
        self._registry = registry
        self._admin = Admin(config.kafka.client_properties(), _CLIENT_ID)
        self._keyset: Keyset = keyset_of(config)
        self.routes = list(self._routes(domain))
        if not self.routes:
            raise RefusedError(
                f"key domain {domain} has no epoch that is fed beside the active one: there is nothing to map; "
                f"'tokenweir keys rotate {domain}' begins one"
            )
        epochs = (self.routes[0].old.epoch, self.routes[0].new.epoch)
        self._successors = Successors(self._keyset, domain, epochs, self._policy.policy.tokens)
        self.done = {route.topic: Mapped() for route in self.routes}
        self._next: dict[tuple[str, int], int] = {}
        self._known: dict[str, dict[int, RecordTokens]] = {}
        self._seen: set[bytes] = set()

    def _routes(self, domain: str) -> Iterator[Route]:
        policy, rows = self._policy.policy, read_rows(self._config)
        for stream, found in policy.streams.items():
            outputs = [output for output in outputs_of(policy, stream, rows) if output.domain == domain]
            for new in (output for output in outputs if output.active):
                base = topic_of(found, found.outputs[new.index])
                for old in (each for each in outputs if each.index == new.index and not each.active):
                    yield Route(stream, old, new, mapping_topic(base, new.epoch))

    def prepare(self, *, create: bool) -> list[str]:
        """See to it that every mapping topic is there and compacted; return those that were created.

        Raises:
            KafkaFault: the cluster does not answer.
            RefusedError: a topic is missing, or not compacted.
        """
        topics, created = self._admin.topics(), []
        for route in self.routes:
            if route.topic not in topics:
                if not create:
                    raise RefusedError(
                        f"{route.topic} does not exist: create it with cleanup.policy=compact and give READ to the "
                        "consumers that move over and to nobody else, or say --create"
                    )
                partitions = topics.get(route.new.topic) or topics.get(route.old.topic) or 1
                self._admin.create_topic(route.topic, partitions, config={"cleanup.policy": "compact"})
                created.append(route.topic)
            elif (cleanup := self._admin.topic_config(route.topic).get("cleanup.policy")) != "compact":
                raise RefusedError(f"{route.topic} has cleanup.policy={cleanup}: set compact, so that no pair is lost")
        return created

    def run(self, *, follow: bool, stopping: Callable[[], bool]) -> None:
        """Map all that the old topics hold, and with ``follow`` what comes, until ``stopping`` says so.

        Raises:
            KafkaFault: a topic cannot be read or written.
            RegistryError: the registry does not answer.
        """
        while True:
            for route in self.routes:
                self._map(route)
            if not follow:
                return
            until = time.monotonic() + _PAUSE_SECONDS
            while time.monotonic() < until:
                if stopping():
                    return
                time.sleep(0.1)

    def _map(self, route: Route) -> None:
        topic, properties = route.old.topic, self._config.kafka.client_properties()
        numbers = range(self._admin.describe_topic(topic).partitions)
        low = self._admin.low_watermarks(topic, numbers)
        ends = self._admin.high_watermarks(topic, numbers, "read_committed")
        spans = {number: (max(low[number], self._next.get((topic, number), 0)), ends[number]) for number in numbers}
        spans = {number: span for number, span in spans.items() if span[0] < span[1]}
        if not spans:
            return
        writer = TopicWriter(properties, route.topic, _CLIENT_ID)
        writer.write_all(self._pairs(route, read_until(properties, topic, spans)), lambda _key, _place: None)
        # Only what was acknowledged counts as done; after a fault all of it is read and written again.
        self._next |= {(topic, number): end for number, (_, end) in spans.items()}

    def _pairs(self, route: Route, messages: Iterable[Message]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of each pair that was not seen before."""
        done = self.done[route.topic]
        for message in messages:
            done.records += 1
            value, key = message.value(), message.key()
            if value is None:
                continue
            tokens, datum = self._tokens(route, value, done)
            if tokens is None:
                continue
            try:
                found = [
                    pair(each.entry, each.token, self._successors.successor(each.entry, each.token))
                    for each in dict.fromkeys(tokens.of(datum, key))
                ]
            except (DecodeError, InvalidValueError):
                done.no_tokens += 1
                continue
            for mapped in found:
                mark = route.topic.encode() + mapped[0]
                if mark not in self._seen:
                    if len(self._seen) >= _REMEMBERED:
                        self._seen.clear()
                    self._seen.add(mark)
                    done.written += 1
                    yield mapped

    def _tokens(self, route: Route, value: bytes, done: Mapped) -> tuple[RecordTokens | None, bytes]:
        """Return what finds the tokens of a record, and its datum."""
        known = self._known.get(route.topic)
        if known is None:
            known = self._known[route.topic] = self._plans(route, done)
        if self._policy.policy.streams[route.stream].source.format == "json":
            return known.get(NO_ID), value
        try:
            schema_id, datum = wire.unframe(value)
        except DecodeError:
            done.no_tokens += 1
            return None, b""
        found = known.get(schema_id)
        if found is None:
            done.unknown_schemas[schema_id] += 1
        return found, datum

    def _plans(self, route: Route, done: Mapped) -> dict[int, RecordTokens]:
        """Return what finds the tokens of a record, by the schema id of the old topic's records."""
        planned = plan_known(self._policy, route.stream, self._keyset, self._registry, self._directory)
        found: dict[int, RecordTokens] = {}
        for version in planned.versions:
            plan = version.compiled.plan
            for output, derived in zip(plan.outputs, version.derived, strict=True):
                if output.topic != route.old.topic or derived is None:
                    continue
                tokens = RecordTokens(plan, output, derived, self._successors)
                done.varying.update(tokens.varying)
                done.irreversible.update(tokens.irreversible)
                found[self._schema_id(output.topic, derived.text, plan.format)] = tokens
        return found

    def _schema_id(self, topic: str, text: str, format_: str) -> int:
        """Return the id of a derived schema; that of one which no gateway has registered is no record's."""
        if format_ == "json":
            return NO_ID
        try:
            return self._registry.lookup(f"{topic}-value", text, "AVRO" if format_ == "avro" else "JSON")
        except RegistryError as error:
            if error.kind != "not_found":
                raise
            return NO_ID


def pair(entry: str, old: str, new: str) -> tuple[bytes, bytes]:
    """Return key and value of a record that leads from one token to the next: JSON, always spelled in one way.

    Integers stand as the text that all tokens of their entry are compared by.
    """
    return _json({"entry": entry, "token": old}), _json({"token": new})


def _json(value: dict[str, str]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
