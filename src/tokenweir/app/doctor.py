"""Looks at everything that a gateway needs, says what to do about what is unfit, and can create missing topics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.engines import engine_name
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.keysource import KeyRow
from tokenweir.adapters.registry import Registry
from tokenweir.config import Config
from tokenweir.core import strictjson
from tokenweir.errors import DecodeError, KeysError, RegistryError, SchemaError
from tokenweir.runtime import preflight
from tokenweir.runtime.advice import consent_advice, file_advice
from tokenweir.runtime.checks import Check
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.keyrows import outputs_of
from tokenweir.runtime.preflight import MISSING
from tokenweir.runtime.sources import open_registry, read_text
from tokenweir.words import counted

#: Partitions of a consent topic that is made here; each costs a few bytes in every committed offset.
CONSENT_PARTITIONS: Final = 8

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
    found.checks += [advice.check for advice in file_advice(config)]
    found.checks += preflight.checks(gateway, admin, registry)
    kafka_answers = any(check.name == "kafka" and check.ok for check in found.checks)
    if kafka_answers:
        found.checks += [advice.check for advice in consent_advice(config, admin)]
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
        return Gateway(
            config, read_text(config.policy.file), str(config.policy.file), "", engine_name(config.gateway.engine)
        )


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


def _rows(gateway: Gateway) -> list[KeyRow]:
    """Return what the keyset says of its roots; without one every key domain is in its first epoch."""
    try:
        return gateway.key_rows()
    except KeysError:
        return []  # The check of the keys says what is wrong.


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
    rows = _rows(gateway)
    for name, stream in loaded.policy.streams.items():
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
        for output in outputs_of(loaded.policy, name, rows):
            retention_ms = preflight.longest_retention_ms(loaded, output.audience)
            wanted[output.topic] = (partitions, {"cleanup.policy": "delete", "retention.ms": str(retention_ms)})
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
