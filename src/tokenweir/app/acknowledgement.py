"""Accepts consent records whose keys cannot be read, so that they no longer deny every subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentstore import acknowledge, store_directories
from tokenweir.adapters.topicreader import read_until
from tokenweir.config import Config
from tokenweir.core.consent import ConsentKeyError, read_key
from tokenweir.errors import RefusedError, UsageError
from tokenweir.runtime.gateway import seal_if_open

_CLIENT_ID: Final = "tokenweir-consent-tool"
_SHOW_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What acknowledging a consent partition up to an offset would do.

    Attributes:
        topic: The consent topic.
        topic_id: The id of its present incarnation, of which alone this is true.
        partition: The consent partition.
        offset: The last offset that is accepted.
        accepted: Offsets of the records with unreadable keys up to there. One that was deleted since is not among them.
        remaining: Those behind it, which go on denying every subject.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    accepted: tuple[int, ...]
    remaining: tuple[int, ...]


def examine(
    config: Config, partition: int, offset: int, on_progress: Callable[[int], None] = lambda _records: None
) -> Acknowledgement:
    """Look at what would be accepted.

    Raises:
        KafkaFault: The topic cannot be read to its end.
        UsageError: The offset is not on the topic, or the record there does not deny everyone.
    """
    properties, topic = config.kafka.client_properties(), config.consent.topic
    admin = Admin(properties, _CLIENT_ID)
    described = admin.describe_topic(topic)
    if partition >= described.partitions:
        raise UsageError(f"the consent topic {topic} has partitions 0 to {described.partitions - 1}, not {partition}")
    low, high = (ask(topic, [partition])[partition] for ask in (admin.low_watermarks, admin.high_watermarks))
    if offset >= high:
        raise UsageError(f"nothing is at offset {offset} of partition {partition}: it ends at {high}")
    seal = seal_if_open(config)
    unreadable = []
    for number, message in enumerate(read_until(properties, topic, {partition: (low, high)}), 1):
        if number % _SHOW_EVERY == 0:
            on_progress(number)
        key, at = message.key(), message.offset() or 0
        if message.value() is not None and not _is_readable(
            key.encode() if isinstance(key, str) else key, "" if seal is None else seal.key_id
        ):
            unreadable.append(at)
        elif at == offset:
            other = f"the last before it that does is at {unreadable[-1]}" if unreadable else "none before it does"
            raise UsageError(f"the record at offset {offset} of partition {partition} does not deny everyone; {other}")
    accepted = tuple(at for at in unreadable if at <= offset)
    return Acknowledgement(topic, described.topic_id, partition, offset, accepted, tuple(unreadable[len(accepted) :]))


def accept(config: Config, found: Acknowledgement) -> None:
    """Write it into the state directory of this machine's gateway, whose applier takes it over within a second.

    Raises:
        RefusedError: No gateway has run with this state directory, or the directory cannot be written to.
    """
    directory = config.state.directory
    if not any(store.is_dir() for store in store_directories(directory)):
        raise RefusedError(
            f"{directory}: no gateway has run with this state directory. Every instance keeps its own copy of consent: "
            "acknowledge where the gateway runs, once for each instance"
        )
    try:
        acknowledge(directory, found.topic_id, found.partition, found.offset)
    except OSError as error:
        raise RefusedError(f"{directory}: the acknowledgement cannot be written ({error.strerror})") from None


def _is_readable(key: bytes | None, key_id: str) -> bool:
    try:
        read_key(key, key_id)
    except ConsentKeyError:
        return False
    return True
