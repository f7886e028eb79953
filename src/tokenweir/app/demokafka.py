"""The demo's events through Kafka's protocol: produced raw, consumed, sanitized, committed, read back."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tokenweir import __version__
from tokenweir.adapters.mockcluster import MockCluster
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.adapters.topicreader import TopicReader
from tokenweir.app.demo import Stage
from tokenweir.app.demodata import Event
from tokenweir.core import avro, avro_codec
from tokenweir.core.deadletter import SCHEMA, DeadLetter
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.core.schema import Schema
from tokenweir.core.wire import frame, unframe
from tokenweir.errors import RefusedError

if TYPE_CHECKING:
    from confluent_kafka import Message

#: Schema ids as a registry would give them: the source's, then one for each output.
_SOURCE_ID: Final = 1
_FIRST_OUTPUT_ID: Final = 2
_DEAD_LETTER_ID: Final = 100

_WAIT_SECONDS: Final = 20
_POLL_SECONDS: Final = 0.2


class EmbeddedKafka:
    """A mock broker with the topics of the demo, and a gateway of one loop beside it."""

    def __init__(self, stage: Stage) -> None:
        """Take the stage; nothing is started before the context is entered."""
        self._stage = stage
        self._source = stage.version.compiled.plan.topic
        self._outputs = [output.output.topic for output in stage.bound.outputs]
        self._dead_letters = f"{self._source}.dead-letters"
        self._transactions = 0
        self._dead = 0

    def __enter__(self) -> Self:
        """Start the broker, make the topics, and connect."""
        self._cluster = MockCluster()
        self._properties = {"bootstrap.servers": self._cluster.bootstrap_servers}
        self._partitions = self._cluster.create_topics([self._source, *self._outputs, self._dead_letters])
        self._shop = TransactionalProducer(self._properties, "demo.shop")
        self._gateway = TransactionalProducer(self._properties, "demo.gateway")
        for producer in (self._shop, self._gateway):
            producer.init_transactions()
        self._reader = self._open(self._source)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Disconnect; the broker ends with this object."""
        self._reader.close()
        self._shop.purge()
        self._gateway.purge()

    def _open(self, topic: str) -> TopicReader:
        return TopicReader(self._properties, topic, dict.fromkeys(range(self._partitions[topic]), 0), "demo")

    def handle(self, event: Event) -> list[Outcome]:
        """Let an event take the whole way: raw topic, engine, output topics."""
        self._shop.begin()
        self._shop.produce(self._source, frame(_SOURCE_ID, event.value), timestamp_ms=event.at_ms)
        self._shop.commit()
        [message] = self._read(self._reader, 1)
        _, datum = unframe(message.value() or b"")
        outcomes = self._stage.handle(event, datum)
        self._gateway.begin()
        for index, outcome in enumerate(outcomes):
            if outcome.fate is Fate.SANITIZED and outcome.value is not None:
                value = frame(_FIRST_OUTPUT_ID + index, outcome.value)
                self._gateway.produce(self._outputs[index], value, outcome.key, timestamp_ms=outcome.timestamp_ms)
            elif outcome.fate is Fate.REJECTED:
                letter = self._letter(index, outcome, message.partition() or 0, message.offset() or 0, event.at_ms)
                self._gateway.produce(self._dead_letters, frame(_DEAD_LETTER_ID, letter))
                self._dead += 1
        self._gateway.commit()
        self._transactions += 1
        return outcomes

    def _letter(self, index: int, outcome: Outcome, partition: int, offset: int, timestamp_ms: int) -> bytes:
        if outcome.reason is None:
            raise RefusedError("a rejected record has no reason")
        plan = self._stage.version.compiled.plan
        return DeadLetter(
            self._source,
            partition,
            offset,
            timestamp_ms,
            _SOURCE_ID,
            self._outputs[index],
            outcome.reason,
            outcome.field_path,
            plan.policy_digest,
            __version__,
        ).encode()

    def summary(self, sanitized: list[int]) -> list[str]:
        """Read the output topics back as a consumer of committed records, and say what is there.

        Args:
            sanitized: How many records each output must hold.
        """
        lines = [f"broker: {self._cluster.bootstrap_servers}, inside this process"]
        lines.append(f"committed: {self._transactions} transactions, one for each event")
        for topic, number, output in zip(self._outputs, sanitized, self._stage.bound.outputs, strict=True):
            if output.derived is not None:
                lines.append(self._read_back(topic, number, output.derived.schema))
        lines.append(self._read_back(self._dead_letters, self._dead, avro.parse(SCHEMA)))
        return lines

    def _read_back(self, topic: str, number: int, schema: Schema) -> str:
        """Read the records of a topic and decode each, as a consumer would."""
        decode = avro_codec.reader(schema)
        reader = self._open(topic)
        try:
            for message in self._read(reader, number):
                decode(unframe(message.value() or b"")[1])
        finally:
            reader.close()
        return f"{topic}: {number} record{'' if number == 1 else 's'} read back and decoded"

    def _read(self, reader: TopicReader, number: int) -> list[Message]:
        """Wait for so many records."""
        messages: list[Message] = []
        deadline = time.monotonic() + _WAIT_SECONDS
        while len(messages) < number:
            if time.monotonic() > deadline:
                raise RefusedError("the embedded broker does not give back what was produced")
            messages += reader.read(number - len(messages), _POLL_SECONDS).records
        return messages
