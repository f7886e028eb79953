"""What every verb that talks to a cluster begins with: a configuration, its policy, and reads with an end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import Message

from tokenweir.adapters.kafka_errors import KafkaFault, in_words
from tokenweir.adapters.topicreader import TopicBatch, TopicReader
from tokenweir.app.workspace import Workspace, open_config, open_workspace
from tokenweir.config import Config
from tokenweir.config.loader import given_by_environment
from tokenweir.core.librdkafka import PropertyValue
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.topics import require_distinct_topics

_BATCH_RECORDS: Final = 5_000
_BATCH_SECONDS: Final = 0.1


def open_cluster(config_path: Path | None, environ: Mapping[str, str]) -> tuple[Config, Workspace]:
    """Load the configuration, from its file or from the environment alone, and the policy that it names.

    Raises:
        FindingsError: with every finding of either.
        UsageError: if there is neither a file nor a variable ``TOKENWEIR__…``.
        FileFormatError: if a file cannot be read.
    """
    if config_path is None and not given_by_environment(environ):
        raise UsageError("there is no configuration: name one (--config tokenweir.yaml), or set TOKENWEIR__… variables")
    config = open_config(config_path, environ)
    workspace = open_workspace(config_path=None, policy_path=config.policy.file, environ=environ)
    require_distinct_topics(config, workspace.policy.policy)
    workspace.config = config
    return config, workspace


@contextmanager
def cluster_faults(config: Config) -> Iterator[None]:
    """Turn what Kafka answers into words for whoever called the verb.

    Raises:
        RefusedError: in place of a :class:`KafkaFault`.
    """
    try:
        yield
    except KafkaFault as fault:
        raise RefusedError(in_words(fault, config.kafka.bootstrap_servers)) from fault


def read_until(
    properties: Mapping[str, PropertyValue],
    topic: str,
    spans: Mapping[int, tuple[int, int]],
    *,
    patience_seconds: float = 20,
) -> Iterator[Message]:
    """Yield the committed records of a topic in given spans, without a group and without a trace.

    Args:
        properties: librdkafka properties with ``bootstrap.servers``.
        topic: The topic.
        spans: By partition the first offset to read, and the end: the first offset that is not needed.
        patience_seconds: How long nothing may come.

    Raises:
        KafkaFault: The records do not come, or are no longer there. An end that lies behind a transaction which is
            not decided is not reached either.
    """
    open_spans = {partition: span for partition, span in spans.items() if span[0] < span[1]}
    if not open_spans:
        return
    starts = {partition: start for partition, (start, _end) in open_spans.items()}
    reader = TopicReader(properties, topic, starts, "tokenweir-reader")
    heard_seconds = time.monotonic()
    try:
        while open_spans:
            batch = reader.read(_BATCH_RECORDS, _BATCH_SECONDS)
            _raise_lasting(batch.faults)
            for message in batch.records:
                if (message.offset() or 0) < spans[message.partition() or 0][1]:
                    yield message
            _close_reached(open_spans, batch)
            if batch.records:
                heard_seconds = time.monotonic()
            elif time.monotonic() - heard_seconds > patience_seconds:
                detail = "its end is not reached; a transaction may be undecided there"
                raise KafkaFault(f"read topic {topic}", "_TIMED_OUT", detail, retriable=True)
    finally:
        reader.close()


def _raise_lasting(found: list[KafkaFault]) -> None:
    for each in found:
        if each.fatal or not each.retriable:
            raise each


def _close_reached(open_spans: dict[int, tuple[int, int]], batch: TopicBatch) -> None:
    """Take away the spans whose end is reached: by a record, or because nothing but markers comes before it."""
    reached = dict(batch.ends)
    for message in batch.records:
        partition = message.partition() or 0
        reached[partition] = max(reached.get(partition, 0), (message.offset() or 0) + 1)
    for partition, next_offset in reached.items():
        if partition in open_spans and next_offset >= open_spans[partition][1]:
            del open_spans[partition]
