"""Everything that must be true before the first record is read: each check by name, with what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault, in_words
from tokenweir.adapters.registry import Kind, Registry
from tokenweir.core import deadletter
from tokenweir.core.keys import Keyset
from tokenweir.core.plan import OutputPlan
from tokenweir.core.planning import NO_ID, PlannedStream
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.selftest import check_ciphers
from tokenweir.errors import PreflightError, RegistryError, TokenweirError
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.position import ConsentPosition
from tokenweir.runtime.sources import key_domains, plan_known
from tokenweir.words import counted

MAX_CONSENT_PARTITIONS: Final = 128

#: What a check says of a topic that is not there.
MISSING: Final = "does not exist"

_DAY_MS: Final = 86_400_000
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what, whether it is well, and if not, what to do."""

    name: str
    ok: bool
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f" ({self.remedy})" if self.remedy and not self.ok else "")


@dataclass(frozen=True, slots=True)
class _Ground:
    """What is checked, and against what. Without a keyset, plans are made as if every key domain had one."""

    gateway: Gateway
    admin: Admin
    registry: Registry
    loaded: LoadedPolicy
    keyset: Keyset | None

    @property
    def has_registry(self) -> bool:
        """Whether there is a registry that schemas could be registered in, and not only a directory."""
        return self.gateway.config.registry.directory is None


def checks(gateway: Gateway, admin: Admin, registry: Registry) -> Iterator[Check]:
    """Yield every check, in the order in which a person would repair what fails."""
    yield _attempt("ciphers", "answer their known answers", check_ciphers, "reinstall tokenweir and cryptography")
    loaded = gateway.policy()
    keyset, keys = _keys_check(gateway, loaded)
    yield keys
    if gateway.config.registry.directory is not None:
        yield Check(
            "registry",
            ok=False,
            message="a directory has no schema ids, which records and dead letters carry",
            remedy="set registry.url",
        )
    try:
        topics = admin.topics()
    except KafkaFault as fault:
        remedy = "is the broker up, and kafka.bootstrap_servers right?"
        message = in_words(fault, gateway.config.kafka.bootstrap_servers)
        yield Check("kafka", ok=False, message=message, remedy=remedy)
        return
    yield Check("kafka", ok=True, message=f"answers, {counted(len(topics), 'topic')} visible")
    ground = _Ground(gateway, admin, registry, loaded, keyset)
    yield from _consent_checks(ground)
    for stream in loaded.policy.streams:
        yield from _stream_checks(ground, stream)


def _keys_check(gateway: Gateway, loaded: LoadedPolicy) -> tuple[Keyset | None, Check]:
    remedy = "run 'tokenweir keys init'"
    try:
        keyset = gateway.keyset()
    except TokenweirError as error:
        return None, Check("keys", ok=False, message=str(error))
    missing = sorted(set(key_domains(loaded)) - set(keyset.domains))
    if missing:
        return None, Check("keys", ok=False, message=f"no key for {', '.join(missing)}", remedy=remedy)
    return keyset, Check("keys", ok=True, message=f"open, {len(keyset.domains)} key domains")


def _attempt(name: str, message: str, action: Callable[[], object], remedy: str) -> Check:
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the check reports
        return Check(name, ok=False, message=f"{type(error).__name__}", remedy=remedy)
    return Check(name, ok=True, message=message)


def _describe(admin: Admin, topic: str) -> TopicDescription | str:
    """Return the description of a topic, or in words why there is none."""
    try:
        return admin.describe_topic(topic)
    except KafkaFault as fault:
        return MISSING if fault.code == "UNKNOWN_TOPIC_OR_PART" else str(fault)


def _consent_checks(ground: _Ground) -> Iterator[Check]:
    topic = ground.gateway.config.consent.topic
    name = f"consent topic {topic}"
    description = _describe(ground.admin, topic)
    if isinstance(description, str):
        remedy = "create it with cleanup.policy=compact, or run 'tokenweir doctor --fix'"
        yield Check(name, ok=False, message=description, remedy=remedy)
        return
    if description.partitions > MAX_CONSENT_PARTITIONS:
        remedy = f"at most {MAX_CONSENT_PARTITIONS} fit the offset metadata"
        yield Check(name, ok=False, message=f"has {description.partitions} partitions", remedy=remedy)
        return
    if description.operations is not None and not description.operations & {"READ", "ALL"}:
        yield Check(name, ok=False, message="may not be read", remedy="grant READ to the gateway's principal")
        return
    try:
        cleanup = ground.admin.topic_config(topic).get("cleanup.policy", "")
    except KafkaFault as fault:
        yield Check(name, ok=False, message=str(fault), remedy="grant DESCRIBE_CONFIGS to the gateway's principal")
        return
    if cleanup != "compact":
        remedy = "set cleanup.policy=compact, or decisions are lost"
        yield Check(name, ok=False, message=f"cleanup.policy is '{cleanup}'", remedy=remedy)
        return
    yield Check(name, ok=True, message=f"{counted(description.partitions, 'partition')}, compacted")


def _stream_checks(ground: _Ground, stream: str) -> Iterator[Check]:
    source = ground.loaded.policy.streams[stream].source.topic
    name = f"source topic {source}"
    description = _describe(ground.admin, source)
    if isinstance(description, str):
        yield Check(name, ok=False, message=description, remedy="create it, or correct streams in the policy")
    elif description.operations is not None and not description.operations & {"READ", "ALL"}:
        yield Check(name, ok=False, message="may not be read", remedy="grant READ to the gateway's principal")
    else:
        yield Check(name, ok=True, message=f"{description.partitions} partitions")
    yield from _plan_checks(ground, stream)
    dead_letters = ground.gateway.dead_letter_topic(source)
    yield _writable(ground.admin, dead_letters, "dead-letter topic")
    if ground.has_registry:
        yield _registrable(ground, f"{dead_letters}-value", deadletter.SCHEMA, "AVRO")


def _plan_checks(ground: _Ground, stream: str) -> Iterator[Check]:
    name = f"stream {stream}"
    planned: PlannedStream | None = None
    try:
        planned = plan_known(ground.loaded, stream, ground.keyset, ground.registry, ground.gateway.policy_directory)
    except TokenweirError as error:
        yield Check(name, ok=False, message=str(error), remedy="register the schema, or check registry.url")
    for topic in ground.gateway.output_topics(ground.loaded, stream):
        yield _writable(ground.admin, topic, "output topic")
    if planned is None:
        return
    for finding in planned.errors:
        yield Check(name, ok=False, message=str(finding))
    if not planned.errors:
        yield Check(name, ok=True, message=f"{counted(len(planned.versions), 'schema version')} planned")
    if not planned.versions:
        return
    newest = planned.versions[-1]
    for output, derived in zip(newest.compiled.plan.outputs, newest.derived, strict=True):
        yield from _output_checks(ground, output)
        if derived is not None and newest.source.id != NO_ID and ground.has_registry:
            kind: Kind = "AVRO" if newest.compiled.plan.format == "avro" else "JSON"
            yield _registrable(ground, f"{output.topic}-value", derived.text, kind)


def _registrable(ground: _Ground, subject: str, text: str, kind: Kind) -> Check:
    """Whether a schema is registered, or could be: nothing is written."""
    name = f"registry subject {subject}"
    try:
        if ground.gateway.config.registry.register_ == "never":
            ground.registry.lookup(subject, text, kind)
        elif not ground.registry.is_compatible(subject, text, kind):
            return Check(
                name,
                ok=False,
                message="the derived schema is not compatible with the newest version",
                remedy="see 'tokenweir schema derive'; a changed type needs a new output topic",
            )
    except RegistryError as error:
        if error.kind == "not_found":
            message, remedy = "the derived schema is not registered", "run 'tokenweir schema register'"
        else:
            message, remedy = str(error), "is the registry up, and registry.url right?"
        return Check(name, ok=False, message=message, remedy=remedy)
    return Check(name, ok=True, message="fits")


def _writable(admin: Admin, topic: str, what: str) -> Check:
    name = f"{what} {topic}"
    description = _describe(admin, topic)
    if isinstance(description, str):
        return Check(name, ok=False, message=description, remedy="create it, or run 'tokenweir doctor --fix'")
    if description.operations is not None and not description.operations & {"WRITE", "ALL"}:
        return Check(name, ok=False, message="may not be written", remedy="grant WRITE to the gateway's principal")
    return Check(name, ok=True, message=f"{counted(description.partitions, 'partition')}, writable")


def longest_retention_ms(loaded: LoadedPolicy, audience: str) -> int:
    """Return for how long the policy lets an audience keep records: as the longest of its purposes says."""
    purposes = loaded.policy.audiences[audience].purposes
    return max(loaded.policy.purposes[name].retention_days for name in purposes) * _DAY_MS


def _output_checks(ground: _Ground, output: OutputPlan) -> Iterator[Check]:
    """What the policy says about how long an output may be kept and what its cleanup may be."""
    try:
        config = ground.admin.topic_config(output.topic)
    except KafkaFault:
        return
    longest_ms = longest_retention_ms(ground.loaded, output.audience)
    retention_ms = int(config.get("retention.ms", "-1"))
    cleanup = config.get("cleanup.policy", "delete")
    name = f"retention of {output.topic}"
    if "delete" in cleanup and not 0 <= retention_ms <= longest_ms:
        kept = "for ever" if retention_ms < 0 else f"{retention_ms / _DAY_MS:g} days"
        yield Check(
            name,
            ok=False,
            message=f"kept {kept}, but no purpose of audience '{output.audience}' allows more than "
            f"{longest_ms // _DAY_MS} days",
            remedy=f"set retention.ms={longest_ms} or less",
        )
    if "compact" in cleanup and _key_may_be_null(output):
        yield Check(
            name,
            ok=False,
            message="is compacted, but the record key can be null",
            remedy="use cleanup.policy=delete, or tokenize the subject without 'when' and say key: subject",
        )


def _key_may_be_null(output: OutputPlan) -> bool:
    if output.key != "subject":
        return True
    return any(not rules.unconditional or rules.rules[0].action.kind != "tokenize" for rules in output.key_rules)


def require(found: Iterator[Check]) -> list[Check]:
    """Run all checks.

    Raises:
        PreflightError: with every check that failed.
    """
    done = list(found)
    failed = [str(check) for check in done if not check.ok]
    if failed:
        raise PreflightError(failed)
    return done


def set_starts(gateway: Gateway, admin: Admin, loaded: LoadedPolicy, stream: str) -> None:
    """Commit where a stream begins that has no committed offset at all, as ``gateway.start`` says.

    It is done before any worker joins: a group without members can be given all its offsets at once. If another
    instance is faster, the group has members or offsets, and those count.

    A coordinator that is only just loading is asked again for a while.

    Raises:
        PreflightError: if ``gateway.start`` is ``refuse``.
        KafkaFault: if the broker cannot be asked.
    """
    deadline_seconds = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            _set_starts(gateway, admin, loaded, stream)
        except KafkaFault as fault:
            if not fault.retriable or time.monotonic() > deadline_seconds:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _set_starts(gateway: Gateway, admin: Admin, loaded: LoadedPolicy, stream: str) -> None:
    source = loaded.policy.streams[stream].source.topic
    group = gateway.group(stream)
    numbers = range(admin.describe_topic(source).partitions)
    if any(committed.offset is not None for committed in admin.committed(group, source, numbers).values()):
        return
    start = gateway.config.gateway.start
    if start == "refuse":
        raise PreflightError([f"group {group} has no committed offsets, and gateway.start is 'refuse'"])
    offsets = admin.low_watermarks(source, numbers) if start == "earliest" else admin.high_watermarks(source, numbers)
    metadata = _consent_now(gateway, admin, loaded).encode()
    try:
        admin.set_committed(group, source, {number: (offset, metadata) for number, offset in offsets.items()})
    except KafkaFault:
        if not admin.groups(group).get(group, False):
            raise


def _consent_now(gateway: Gateway, admin: Admin, loaded: LoadedPolicy) -> ConsentPosition:
    topic = gateway.config.consent.topic
    description = admin.describe_topic(topic)
    return ConsentPosition(
        description.topic_id, loaded.digest, admin.high_watermarks(topic, range(description.partitions))
    )
