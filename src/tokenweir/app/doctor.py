"""Looks at everything that a gateway needs, says what to do about what is unfit, and can create missing topics."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.registry import Registry
from tokenweir.app.cluster import read_until
from tokenweir.config import Config
from tokenweir.core import strictjson
from tokenweir.core.consent import ConsentKeyError, parse_key
from tokenweir.core.subjects import partition_of
from tokenweir.errors import DecodeError, KeysError, RegistryError, SchemaError
from tokenweir.runtime import preflight
from tokenweir.runtime.checks import Check
from tokenweir.runtime.gateway import Gateway, keyset_path
from tokenweir.runtime.preflight import MISSING
from tokenweir.runtime.sources import open_registry, read_text
from tokenweir.words import counted

#: Partitions of a consent topic that is made here; each costs a few bytes in every committed offset.
CONSENT_PARTITIONS: Final = 8

_SAMPLE_RECORDS: Final = 500
_SCRATCH_SUBJECT: Final = "tokenweir.doctor-value"
_SCRATCH_SCHEMA: Final[Mapping[str, object]] = {
    "type": "record",
    "name": "Doctor",
    "namespace": "tokenweir",
    "doc": "Written by 'tokenweir doctor --fix' to see whether this registry keeps tags. It may be deleted.",
    "fields": [{"name": "probe", "type": "string", "confluent:tags": ["tokenweir.probe"]}],
}

#: What no check can show without writing to the cluster or without other tools.
NEVER_TRIED: Final = (
    "whether the registry keeps metadata (tags inside the schema are enough)",
    "how far the brokers' clocks are from this machine's",
)


@dataclass(slots=True)
class Diagnosis:
    """Everything that was looked at.

    Attributes:
        checks: In the order in which a person would repair what fails.
        created: Topics that were created, with their settings in words.
        not_tried: What nobody looked at.
    """

    checks: list[Check] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def diagnose(config: Config, *, fix: bool) -> Diagnosis:
    """Run every check; with ``fix`` create what is missing first.

    Raises:
        FindingsError: The policy is not sound.
        FileFormatError: The policy cannot be read.
    """
    gateway = _gateway(config)
    admin = Admin(config.kafka.client_properties())
    registry = open_registry(config)
    found = Diagnosis()
    if fix:
        found.checks += _create_missing(gateway, admin, found.created)
    found.checks += _file_checks(config)
    found.checks += preflight.checks(gateway, admin, registry)
    kafka_answers = any(check.name == "kafka" and check.ok for check in found.checks)
    if kafka_answers:
        found.checks += _placement_checks(config, admin)
    if config.registry.directory is not None:
        found.not_tried.append("whether derived schemas can be registered, and tags are kept: there is no registry.url")
    elif fix:
        found.checks.append(_keeps_tags(registry))
    else:
        found.not_tried.append("whether the registry keeps tags inside schemas (--fix writes a scratch schema to see)")
    found.not_tried += NEVER_TRIED
    return found


def _gateway(config: Config) -> Gateway:
    """Return the gateway; without a keyset one that says so when it is asked for its keys."""
    try:
        return Gateway.open(config)
    except KeysError:
        return Gateway(config, read_text(config.policy.file), str(config.policy.file), "")


def _file_checks(config: Config) -> Iterator[Check]:
    """Who may read the keys, and whether the state directory can be used."""
    for name, path in (("key-encryption key", config.keys.kek.file), ("keyset", keyset_path(config))):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # The check of the keys says that it is missing.
        others = mode & (stat.S_IRWXG | stat.S_IRWXO)
        yield Check(
            f"mode of the {name}",
            not others,
            f"{path} has mode {mode:04o}" + (", so others than its owner can use it" if others else ""),
            f"run: chmod 600 {path}",
        )
    directory = config.state.directory
    place = next(found for found in (directory, *directory.parents) if found.exists())
    usable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    yield Check(
        "state directory",
        usable,
        f"{directory} {'can be written' if usable else 'cannot be written'}",
        "set state.directory to a place that the gateway's user can write",
    )


def _placement_checks(config: Config, admin: Admin) -> Iterator[Check]:
    """Whether those who write consent records put keys where Kafka's Java clients do: the newest records tell."""
    topic = config.consent.topic
    name = f"keys of {topic}"
    try:
        numbers = range(admin.describe_topic(topic).partitions)
        low = admin.low_watermarks(topic, numbers)
        ends = admin.high_watermarks(topic, numbers, "read_committed")
        spans = {number: (max(low[number], ends[number] - _SAMPLE_RECORDS), ends[number]) for number in numbers}
        counts: Counter[str] = Counter()
        for message in read_until(config.kafka.client_properties(), topic, spans):
            key = message.key()
            raw_key = key.encode() if isinstance(key, str) else key
            counts["records"] += 1
            try:
                parsed = parse_key(raw_key)
            except ConsentKeyError:
                counts["unreadable"] += 1
                continue
            counts["misspelled"] += not parsed.canonical
            counts["misplaced"] += partition_of(raw_key or b"", len(numbers)) != message.partition()
    except KafkaFault as fault:
        if fault.code != "UNKNOWN_TOPIC_OR_PART":
            yield Check(name, ok=False, message=str(fault))
        return
    if counts["misplaced"]:
        yield Check(
            name,
            ok=False,
            message=f"{counts['misplaced']} of the newest {counts['records']} records are in a wrong partition",
            remedy="writers must use murmur2, as Kafka's Java clients do; in librdkafka partitioner=murmur2_random",
        )
    elif counts["unreadable"] or counts["misspelled"]:
        bad = counts["unreadable"] + counts["misspelled"]
        yield Check(
            name,
            ok=False,
            message=f"{bad} of the newest {counts['records']} records have a key that is no type:id in canonical form",
            remedy="a key that cannot be read denies every subject; see the consent record's format",
        )
    else:
        yield Check(name, ok=True, message=f"{counts['records']} newest records are where they belong")


def _keeps_tags(registry: Registry) -> Check:
    """Write a schema with a tag and read it back."""
    name, remedy = "registry keeps tags", "give classes by path in the policy ('fields'), not by tags in schemas"
    try:
        schema_id = registry.register(_SCRATCH_SUBJECT, json.dumps(_SCRATCH_SCHEMA), "AVRO")
        text = registry.schema_by_id(schema_id).text
        read = strictjson.parse(text.encode(), numbers="python")
    except (RegistryError, SchemaError, DecodeError) as error:
        return Check(name, ok=False, message=str(error), remedy="is the registry up, and may it be written?")
    kept = isinstance(read, dict) and read.get("fields") == _SCRATCH_SCHEMA["fields"]
    message = f"subject {_SCRATCH_SUBJECT} was read back " + ("as it was written" if kept else "without its tags")
    return Check(name, kept, message, remedy)


def _create_missing(gateway: Gateway, admin: Admin, created: list[str]) -> Iterator[Check]:
    """Create outputs, dead-letter topics and the consent topic where they are missing; yield what did not work."""
    loaded = gateway.policy()
    try:
        existing = admin.topics()
    except KafkaFault:
        return  # The check of the broker says so.
    wanted: dict[str, tuple[int, dict[str, str]]] = {}
    consent = gateway.config.consent.topic
    wanted[consent] = (CONSENT_PARTITIONS, {"cleanup.policy": "compact"})
    for stream in loaded.policy.streams.values():
        source = stream.source.topic
        partitions = existing.get(source)
        if partitions is None:
            yield Check(
                f"outputs of {source}",
                ok=False,
                message=f"cannot be created: the source {MISSING}, so nobody knows how many partitions they need",
                remedy="create the source topic, or correct streams in the policy",
            )
            continue
        for output in stream.outputs:
            topic = output.topic or f"{source}.{output.audience}"
            retention_ms = preflight.longest_retention_ms(loaded, output.audience)
            wanted[topic] = (partitions, {"cleanup.policy": "delete", "retention.ms": str(retention_ms)})
        wanted[gateway.dead_letter_topic(source)] = (partitions, {"cleanup.policy": "delete"})
    for topic, (partitions, settings) in wanted.items():
        if topic in existing:
            continue
        try:
            admin.create_topic(topic, partitions, config=settings)
        except KafkaFault as fault:
            if fault.code != "TOPIC_ALREADY_EXISTS":
                yield Check(f"create {topic}", ok=False, message=str(fault), remedy="may the principal CREATE topics?")
            continue
        words = ", ".join(f"{key}={value}" for key, value in settings.items())
        created.append(f"{topic}: {counted(partitions, 'partition')}, {words}")
