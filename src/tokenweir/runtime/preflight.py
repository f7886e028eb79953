"""Everything that must be true before the first record is read: each check by name, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.engines import make_engine
from tokenweir.adapters.kafka_errors import KafkaFault, in_words, remedy_for
from tokenweir.adapters.registry import Kind, Registry
from tokenweir.adapters.schemacache import SILENCE, SchemaChangedError
from tokenweir.core import deadletter
from tokenweir.core.keys import Keyset
from tokenweir.core.plan import OutputPlan
from tokenweir.core.planning import NO_ID, PlannedStream
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.selftest import check_ciphers
from tokenweir.errors import PreflightError, RegistryError, TokenweirError
from tokenweir.runtime.checks import READ, Check, unknown
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.sources import key_domains, plan_known, stream_context
from tokenweir.runtime.starts import offset_checks
from tokenweir.words import counted

MAX_CONSENT_PARTITIONS: Final = 128

#: What a check says of a topic that is not there.
MISSING: Final = "does not exist"

#: What a gateway says that starts without its registry.
REGISTRY_SILENT: Final = (
    "the registry does not answer; the gateway starts with the answers that it keeps in its state directory, and "
    "partitions with other schema ids wait"
)

_DAY_MS: Final = 86_400_000
_WRITE: Final = frozenset({"WRITE", "ALL"})


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
        message = in_words(fault, gateway.config.kafka.bootstrap_servers)
        yield Check("kafka", ok=False, message=message, remedy=remedy_for(fault))
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


def _describe(ground: _Ground, name: str, topic: str, remedy: str) -> TopicDescription | Check:
    """Return the description of a topic, or the check that says why there is none; ``remedy`` is for a missing one."""
    try:
        return ground.admin.describe_topic(topic)
    except KafkaFault as fault:
        if fault.code == "UNKNOWN_TOPIC_OR_PART":
            return Check(name, ok=False, message=MISSING, remedy=remedy)
        return unknown(ground.gateway, name, fault, "DESCRIBE on the topic")


def _consent_checks(ground: _Ground) -> Iterator[Check]:
    topic = ground.gateway.config.consent.topic
    name = f"consent topic {topic}"
    remedy = "create it with cleanup.policy=compact, or run 'tokenweir doctor --fix'"
    description = _describe(ground, name, topic, remedy)
    if isinstance(description, Check):
        yield description
        return
    if description.partitions > MAX_CONSENT_PARTITIONS:
        remedy = f"at most {MAX_CONSENT_PARTITIONS} fit the offset metadata"
        yield Check(name, ok=False, message=f"has {description.partitions} partitions", remedy=remedy)
        return
    if description.operations is not None and not description.operations & READ:
        yield Check(name, ok=False, message="may not be read", remedy="grant READ to the gateway's principal")
        return
    try:
        cleanup = ground.admin.topic_config(topic).get("cleanup.policy", "")
    except KafkaFault as fault:
        yield unknown(ground.gateway, name, fault, "DESCRIBE_CONFIGS on the topic")
        return
    if cleanup != "compact":
        remedy = "set cleanup.policy=compact, or decisions are lost"
        yield Check(name, ok=False, message=f"cleanup.policy is '{cleanup}'", remedy=remedy)
        return
    yield Check(name, ok=True, message=f"{counted(description.partitions, 'partition')}, compacted")


def _stream_checks(ground: _Ground, stream: str) -> Iterator[Check]:
    source = ground.loaded.policy.streams[stream].source.topic
    name = f"source topic {source}"
    description = _describe(ground, name, source, "create it, or correct streams in the policy")
    if isinstance(description, Check):
        yield description
    elif description.operations is not None and not description.operations & READ:
        yield Check(name, ok=False, message="may not be read", remedy="grant READ to the gateway's principal")
    else:
        yield Check(name, ok=True, message=counted(description.partitions, "partition"))
        yield from offset_checks(ground.gateway, ground.admin, ground.loaded, stream, description)
    yield from _plan_checks(ground, stream)
    dead_letters = ground.gateway.dead_letter_topic(source)
    yield from _output_checks(ground, "dead-letter topic", dead_letters, None)
    if ground.has_registry:
        yield _registrable(ground, f"{dead_letters}-value", deadletter.SCHEMA, "AVRO")


def _plan_checks(ground: _Ground, stream: str) -> Iterator[Check]:
    name = f"stream {stream}"
    planned: PlannedStream | None = None
    try:
        planned = plan_known(ground.loaded, stream, ground.keyset, ground.registry, ground.gateway.policy_directory)
    except SchemaChangedError:
        raise
    except TokenweirError as error:
        yield Check(name, ok=False, message=str(error), remedy=_schema_remedy(error))
    for output in stream_context(ground.loaded, stream, ground.keyset, retiring=True).outputs():
        yield from _output_checks(ground, "output topic", output.topic, output.audience)
    if planned is None:
        return
    for finding in planned.errors:
        yield Check(name, ok=False, message=str(finding))
    if not planned.errors:
        yield from _bound_checks(ground, name, planned)
        yield Check(name, ok=True, message=f"{counted(len(planned.versions), 'schema version')} planned")
    if not planned.versions:
        return
    newest = planned.versions[-1]
    for planned_output, derived in zip(newest.compiled.plan.outputs, newest.derived, strict=True):
        yield from _key_checks(ground, planned_output, anonymous=newest.compiled.plan.anonymous)
        if derived is not None and newest.source.id != NO_ID and ground.has_registry:
            kind: Kind = "AVRO" if newest.compiled.plan.format == "avro" else "JSON"
            yield _registrable(ground, f"{planned_output.topic}-value", derived.text, kind)


def _bound_checks(ground: _Ground, name: str, planned: PlannedStream) -> Iterator[Check]:
    """Whether the engine takes the plans: what one of them cannot do must not come out record by record."""
    try:
        if ground.keyset is None:
            return  # Said already.
        engine = make_engine(ground.gateway.engine, ground.loaded.policy, ground.keyset)
        for version in planned.versions:
            engine.bind(version.compiled.plan)
    except TokenweirError as error:
        remedy = "simplify the policy, or set gateway.engine to 'reference'"
        yield Check(name, ok=False, message=str(error), remedy=remedy)


def _schema_remedy(error: TokenweirError) -> str:
    if isinstance(error, RegistryError) and error.kind in SILENCE:
        return "start the registry or correct registry.url; the state directory does not have all of its answers yet"
    return "register the schema, or check registry.url"


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
            message, remedy = str(error), _schema_remedy(error)
        return Check(name, ok=False, message=message, remedy=remedy)
    return Check(name, ok=True, message="fits")


def longest_retention_ms(loaded: LoadedPolicy, audience: str) -> int:
    """Return for how long the policy lets an audience keep records: as the longest of its purposes says."""
    purposes = loaded.policy.audiences[audience].purposes
    return max(loaded.policy.purposes[name].retention_days for name in purposes) * _DAY_MS


def _output_checks(ground: _Ground, what: str, topic: str, audience: str | None) -> Iterator[Check]:
    """Whether a topic is there and can be written, and for an audience, whether it keeps records too long.

    Without an audience it is of dead letters, which have no key.
    """
    name = f"{what} {topic}"
    description = _describe(ground, name, topic, "create it, or run 'tokenweir doctor --fix'")
    if isinstance(description, Check):
        yield description
        return
    if description.operations is not None and not description.operations & _WRITE:
        yield Check(name, ok=False, message="may not be written", remedy="grant WRITE to the gateway's principal")
    else:
        yield Check(name, ok=True, message=f"{counted(description.partitions, 'partition')}, writable")
    try:
        config = ground.admin.topic_config(topic)
    except KafkaFault as fault:
        yield unknown(ground.gateway, f"retention of {topic}", fault, "DESCRIBE_CONFIGS on the topic")
        return
    if audience is not None:
        yield from _retention_checks(ground, topic, audience, config)
    elif "compact" in config.get("cleanup.policy", ""):
        yield Check(
            f"retention of {topic}",
            ok=False,
            message="is compacted, but dead letters have no key",
            remedy="set cleanup.policy=delete",
        )


def _retention_checks(ground: _Ground, topic: str, audience: str, config: Mapping[str, str]) -> Iterator[Check]:
    """What the policy says about how long an output may be kept."""
    longest_ms = longest_retention_ms(ground.loaded, audience)
    retention_ms = int(config.get("retention.ms", "-1"))
    if "delete" in config.get("cleanup.policy", "delete") and not 0 <= retention_ms <= longest_ms:
        kept = "for ever" if retention_ms < 0 else f"{retention_ms / _DAY_MS:g} days"
        yield Check(
            f"retention of {topic}",
            ok=False,
            message=f"kept {kept}, but no purpose of audience '{audience}' allows more than "
            f"{longest_ms // _DAY_MS} days",
            remedy=f"set retention.ms={longest_ms} or less",
        )


def _key_checks(ground: _Ground, output: OutputPlan, *, anonymous: bool) -> Iterator[Check]:
    """A compacted topic refuses records without a key, as those of nobody are."""
    needed = ["say no_subject: withhold"] if anonymous else []
    if _key_may_be_null(output):
        needed.append("tokenize the subject without 'when' and say key: subject")
    if not needed:
        return
    try:
        cleanup = ground.admin.topic_config(output.topic).get("cleanup.policy", "delete")
    except KafkaFault as fault:
        if fault.code != "UNKNOWN_TOPIC_OR_PART":  # Said already, by the check of the output itself.
            yield unknown(ground.gateway, f"keys of {output.topic}", fault, "DESCRIBE_CONFIGS on the topic")
        return
    if "compact" in cleanup:
        yield Check(
            f"retention of {output.topic}",
            ok=False,
            message="is compacted, but the record key can be null",
            remedy=f"use cleanup.policy=delete, or {' and '.join(needed)}",
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
