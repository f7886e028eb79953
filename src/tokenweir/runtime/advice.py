"""What keeps no gateway from starting, but must not stay as it is: ``doctor`` fails for it, and ``run`` warns."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.topicreader import read_until
from tokenweir.config import Config
from tokenweir.core.consent import ConsentKeyError, read_key
from tokenweir.core.subjects import partition_of
from tokenweir.runtime.blocks import Blocks, blocks_of
from tokenweir.runtime.checks import Check
from tokenweir.runtime.gateway import keyset_path, seal_if_open
from tokenweir.words import counted

_SAMPLE_RECORDS: Final = 500
_SHOWN_PLACES: Final = 5

_MISPLACED_REMEDY: Final = (
    "their subjects are denied: let every writer use murmur2, as Kafka's Java clients do (in librdkafka "
    "partitioner=murmur2_random), and the canonical spelling; write the decisions anew under the right keys; then "
    "write a tombstone with the very key to each of these partitions. See 'A key in the wrong place' in "
    "docs/consent.md"
)


class Advice(NamedTuple):
    """A check, and its name in the log, which has no place for sentences."""

    name: str
    check: Check


def file_advice(config: Config) -> Iterator[Advice]:
    """Who may read the keys, and whether the state directory can be used."""
    keys = (
        ("kek_mode", "key-encryption key", config.keys.kek.file),
        ("keyset_mode", "keyset", keyset_path(config)),
    )
    for name, words, path in keys:
        if path is None:
            continue  # A KEK at a provider has no file.
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # The check of the keys says that it is missing.
        others = mode & (stat.S_IRWXG | stat.S_IRWXO)
        check = Check(
            f"mode of the {words}",
            not others,
            f"{path} has mode {mode:04o}" + (", so others than its owner can use it" if others else ""),
            f"run: chmod 600 {path}",
        )
        yield Advice(name, check)
    directory = config.state.directory
    place = next(found for found in (directory, *directory.parents) if found.exists())
    usable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    check = Check(
        "state directory",
        usable,
        f"{directory} {'can be written' if usable else 'cannot be written'}",
        "set state.directory to a place that the gateway's user can write",
    )
    yield Advice("state_directory", check)


def consent_advice(config: Config, admin: Admin) -> Iterator[Advice]:
    """Whether those who write consent records write keys as they must: the newest records of each partition tell.

    Of keys that deny every subject the gateway of this machine may have met more than these.
    """
    topic = config.consent.topic
    try:
        described = admin.describe_topic(topic)
        seal = seal_if_open(config)
        sample = _Sample(described.partitions, "" if seal is None else seal.key_id)
        numbers = range(described.partitions)
        low = admin.low_watermarks(topic, numbers)
        ends = admin.high_watermarks(topic, numbers, "read_committed")
        spans = {number: (max(low[number], ends[number] - _SAMPLE_RECORDS), ends[number]) for number in numbers}
        for message in read_until(config.kafka.client_properties(), topic, spans):
            sample.add(message)
    except KafkaFault as fault:
        if fault.code != "UNKNOWN_TOPIC_OR_PART":  # The check of the topic says that it is missing.
            yield Advice("consent_keys", Check(f"keys of {topic}", ok=False, message=str(fault)))
        return
    yield Advice("consent_keys", _placement(topic, sample))
    blocks = blocks_of(config, described.topic_id, sample.unreadable)
    yield Advice("consent_unreadable", _readability(topic, blocks, sample.records))


def warnings(config: Config, admin: Admin) -> list[Advice]:
    """Return what a person should be told at a start."""
    return [found for found in (*file_advice(config), *consent_advice(config, admin)) if not found.check.ok]


@dataclass(slots=True, repr=False)
class _Sample:
    """What the newest records of the consent topic say about their writers.

    Of each key only the last record in its partition counts, as for the gateway: a tombstone takes the key away.

    Attributes:
        partitions: How many the topic has.
        key_id: Of the key that hides erased people here; "" where it is not known.
        records: How many were looked at.
        misplaced: Keys that stand in a wrong partition, with the partition and the offset of the last record.
        misspelled: Keys that are not in canonical form, likewise.
        unreadable: By partition the offset of the last record whose key cannot be read. A tombstone is none of these,
            and takes none of them away: what is not known cannot be forgotten.
    """

    partitions: int
    key_id: str = ""
    records: int = 0
    misplaced: dict[tuple[int, bytes], int] = field(default_factory=dict)
    misspelled: dict[tuple[int, bytes], int] = field(default_factory=dict)
    unreadable: dict[int, int] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        """Look at the next record."""
        self.records += 1
        key, partition, offset = message.key(), message.partition() or 0, message.offset() or 0
        raw_key = key.encode() if isinstance(key, str) else key or b""
        forgets = message.value() is None
        try:
            canonical = read_key(raw_key, self.key_id).canonical
        except ConsentKeyError:
            if not forgets:
                self.unreadable[partition] = offset
            return
        where = partition, raw_key
        if forgets:
            self.misplaced.pop(where, None)
            self.misspelled.pop(where, None)
        elif partition_of(raw_key, self.partitions) != partition:
            self.misplaced[where] = offset
        elif not canonical:
            self.misspelled[where] = offset


def _placement(topic: str, sample: _Sample) -> Check:
    faults = [
        f"{counted(len(found), 'key')} {what} ({_places(found)})"
        for found, what in (
            ([(partition, at) for (partition, _key), at in sample.misplaced.items()], "in a wrong partition"),
            ([(partition, at) for (partition, _key), at in sample.misspelled.items()], "not in canonical form"),
        )
        if found
    ]
    newest = f"the newest {counted(sample.records, 'record')}"
    if not faults:
        return Check(f"keys of {topic}", ok=True, message=f"{newest}: every key is where it belongs")
    return Check(f"keys of {topic}", ok=False, message=f"{newest}: {', '.join(faults)}", remedy=_MISPLACED_REMEDY)


def _readability(topic: str, blocks: Blocks, records: int) -> Check:
    name = f"unreadable keys of {topic}"
    if not blocks.offsets:
        met = ", and the gateway of this machine has met none" if blocks.gateway_heard else ""
        return Check(name, ok=True, message=f"none that denies every subject in the newest {records:,}{met}")
    uncounted = "" if blocks.acknowledgements_read else "; acknowledgements of this machine's gateway are not counted"
    return Check(
        name,
        ok=False,
        message=f"every subject is denied, for keys that cannot be read (the last at {_places(blocks.offsets.items())})"
        f"{uncounted}",
        remedy="write what they meant under keys that can be read, if anybody knows; then run where the gateway runs: "
        f"{'; '.join(blocks.commands)}",
    )


def _places(found: Collection[tuple[int, int]]) -> str:
    """Name records by partition@offset, the first few of them; a key is never shown."""
    shown = ", ".join(f"{partition}@{offset}" for partition, offset in sorted(found)[:_SHOWN_PLACES])
    return f"{shown}, ..." if len(found) > _SHOWN_PLACES else shown
