"""What a leak of outputs would have shown: how many people, which fields, on which topics, from when to when.

Fields come from the policies that decided in that time, which the state directory keeps, and from every schema version
that the registry knows. People are counted by the keys of records, which are their tokens for that audience.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.keysource import KeyRow
from tokenweir.adapters.registry import Registry
from tokenweir.adapters.topicreader import read_until
from tokenweir.app.erasuresignal import DAY_MS, signal_topic, signalled_tokens
from tokenweir.config import Config
from tokenweir.core.context import topic_of
from tokenweir.core.explain import NEVER, rows
from tokenweir.core.policy.loader import LoadedPolicy, load_policy
from tokenweir.core.policy.models import Output, Policy
from tokenweir.errors import FileFormatError, FindingsError, RegistryError, SchemaError
from tokenweir.runtime.keyrows import EVER_FED, outputs_of, read_rows
from tokenweir.runtime.policyarchive import Period, PolicyArchive
from tokenweir.runtime.sources import plan_known

_CLIENT_ID: Final = "tokenweir-report"
_HOUR_MS: Final = 3_600_000
_UNKNOWN_TOPIC: Final = "UNKNOWN_TOPIC_OR_PART"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a span of time in milliseconds since 1970, both ends included, and optionally one output."""

    since_ms: int
    until_ms: int
    stream: str | None = None
    audience: str | None = None


@dataclass(slots=True)
class ExposedField:
    """A field that could leave: its class, what became of it, and by which policies."""

    path: str
    class_name: str
    treatment: str
    policies: list[str]


@dataclass(slots=True)
class Exposure:
    """One output in the span.

    Attributes:
        stream: The stream.
        audience: Who reads it.
        recipients: Their names.
        topic: The output.
        precision: To what the records' timestamps are rounded down: ``keep``, ``hour`` or ``day``.
        signal_topic: Where readers of the output are told of erasures.
        records: How many records lie in the span.
        without_key: How many of them have no key, so that nobody can say whom they are about.
        tokens: The keys of the others.
        erased: Those of them whose persons were erased since, as the signals say.
        spans: By partition, the first and the last offset.
        first_ms: The timestamp of the oldest record.
        last_ms: That of the newest.
        fields: What could leave.
        missing: Why something of this is not known.
    """

    stream: str
    audience: str
    recipients: list[str]
    topic: str
    precision: str
    signal_topic: str
    records: int = 0
    without_key: int = 0
    tokens: set[bytes] = field(default_factory=set)
    erased: int | None = None
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    first_ms: int | None = None
    last_ms: int | None = None
    fields: list[ExposedField] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Breach:
    """The answer: the periods of policies in the span, the outputs, and what is not known."""

    periods: list[Period]
    exposures: list[Exposure]
    missing: list[str]


def report(config: Config, present: LoadedPolicy, registry: Registry, question: Question) -> Breach:
    """Return what was exposed.

    Raises:
        KafkaFault: A topic cannot be read.
        FileFormatError: The archive of policies is damaged.
    """
    archive = PolicyArchive(config.state.directory)
    every = archive.periods()
    periods = [period for period in every if period.overlaps(question.since_ms, question.until_ms)]
    missing = []
    if not every or every[0].started_ms > question.since_ms:
        missing.append(
            "which policies decided before the archive of this state directory begins, and on other instances of the "
            "gateway: ask each of them"
        )
    policies, unknown = _policies(archive, periods)
    missing += [f"policy {digest}: its text is not in the archive any more" for digest in unknown]
    exposures: dict[str, Exposure] = {}
    keys = read_rows(config)
    for loaded in [*policies, present]:
        _add_outputs(exposures, loaded.policy, keys, question)
    for loaded in policies:
        _add_fields(exposures, loaded, config, registry)
    reader = _Reader(config, question)
    for exposure in exposures.values():
        reader.read(exposure)
    return Breach(periods, list(exposures.values()), missing)


def _policies(archive: PolicyArchive, periods: Iterable[Period]) -> tuple[list[LoadedPolicy], list[str]]:
    found: list[LoadedPolicy] = []
    unknown: list[str] = []
    for digest in dict.fromkeys(period.digest for period in periods):
        text = archive.text(digest)
        try:
            loaded = None if text is None else load_policy(text, f"{digest}.yaml")
        except FindingsError:
            loaded = None
        # A text that was changed is another policy.
        if loaded is None or loaded.digest != digest:
            unknown.append(digest)
        else:
            found.append(loaded)
    return found, unknown


def _add_outputs(exposures: dict[str, Exposure], policy: Policy, keys: Collection[KeyRow], question: Question) -> None:
    """Add the outputs of a policy in every key epoch that there ever was: each has a topic of its own."""
    for name, stream in policy.streams.items():
        if question.stream not in {None, name}:
            continue
        for each in outputs_of(policy, name, keys, EVER_FED):
            if question.audience in {None, each.audience} and each.topic not in exposures:
                output = stream.outputs[each.index]
                recipients = [recipient.name for recipient in policy.audiences[each.audience].recipients]
                told = signal_topic(topic_of(stream, output))
                precision = _precision(policy, output)
                exposures[each.topic] = Exposure(name, each.audience, recipients, each.topic, precision, told)


def _precision(policy: Policy, output: Output) -> str:
    if output.timestamp is not None:
        return output.timestamp
    internal = all(recipient.role == "internal" for recipient in policy.audiences[output.audience].recipients)
    return "keep" if internal else "day"


def _add_fields(exposures: Mapping[str, Exposure], loaded: LoadedPolicy, config: Config, registry: Registry) -> None:
    """Add what a policy lets leave, by every known schema version of each stream."""
    for name in dict.fromkeys(exposure.stream for exposure in exposures.values()):
        mine = [exposure for exposure in exposures.values() if exposure.stream == name]
        if name not in loaded.policy.streams:
            continue
        try:
            planned = plan_known(loaded, name, None, registry, config.policy.file.parent)
        except (RegistryError, SchemaError, FileFormatError):
            for exposure in mine:
                exposure.missing.append(f"the fields by policy {loaded.digest}: the schemas of {name} cannot be read")
            continue
        for version in planned.versions:
            for row in rows(version.compiled):
                for exposure in mine:
                    treatment = row.treatments.get(exposure.audience, NEVER)
                    if not treatment.startswith(NEVER):
                        _add_field(exposure, row.path, row.class_name, treatment, loaded.digest)


def _add_field(exposure: Exposure, path: str, class_name: str, treatment: str, digest: str) -> None:
    for known in exposure.fields:
        if (known.path, known.class_name, known.treatment) == (path, class_name, treatment):
            if digest not in known.policies:
                known.policies.append(digest)
            return
    exposure.fields.append(ExposedField(path, class_name, treatment, [digest]))


class _Reader:
    """Reads the records of outputs in a span of time."""

    def __init__(self, config: Config, question: Question) -> None:
        self._properties = config.kafka.client_properties()
        self._admin = Admin(self._properties, _CLIENT_ID)
        self._question = question

    def read(self, exposure: Exposure) -> None:
        """Count what an output has."""
        # Records that are rounded down to their day lie at its beginning.
        unit_ms = {"hour": _HOUR_MS, "day": DAY_MS}.get(exposure.precision, 1)
        since_ms = self._question.since_ms // unit_ms * unit_ms
        try:
            numbers = range(self._admin.describe_topic(exposure.topic).partitions)
        except KafkaFault as fault:
            if fault.code != _UNKNOWN_TOPIC:
                raise
            exposure.missing.append("the topic does not exist any more")
            return
        starts = self._admin.offsets_at(exposure.topic, numbers, since_ms)
        ends = self._admin.high_watermarks(exposure.topic, numbers, "read_committed")
        spans = {number: (start, ends[number]) for number, start in starts.items() if start is not None}
        if any(self._admin.low_watermarks(exposure.topic, numbers).values()):
            exposure.missing.append("records that retention has deleted")
        for message in read_until(self._properties, exposure.topic, spans):
            time_ms = message.timestamp()[1]
            if since_ms <= time_ms <= self._question.until_ms:
                _count(exposure, message.partition() or 0, message.offset() or 0, _bytes(message.key()), time_ms)
        exposure.erased = self._erased(exposure)

    def _erased(self, exposure: Exposure) -> int | None:
        """Return how many of these people were erased, None where nobody is told of erasures."""
        topic = exposure.signal_topic
        try:
            numbers = range(self._admin.describe_topic(topic).partitions)
        except KafkaFault as fault:
            if fault.code != _UNKNOWN_TOPIC:
                raise
            return None
        low, high = self._admin.low_watermarks(topic, numbers), self._admin.high_watermarks(topic, numbers)
        told: dict[bytes | None, frozenset[bytes]] = {}
        for message in read_until(self._properties, topic, {number: (low[number], high[number]) for number in numbers}):
            value = _bytes(message.value())
            told[_bytes(message.key())] = frozenset() if value is None else signalled_tokens(value)
        return sum(not exposure.tokens.isdisjoint(tokens) for tokens in told.values())


def _count(exposure: Exposure, partition: int, offset: int, key: bytes | None, time_ms: int) -> None:
    exposure.records += 1
    if key is None:
        exposure.without_key += 1
    else:
        exposure.tokens.add(key)
    first, last = exposure.spans.get(partition, (offset, offset))
    exposure.spans[partition] = (min(first, offset), max(last, offset))
    exposure.first_ms = time_ms if exposure.first_ms is None else min(exposure.first_ms, time_ms)
    exposure.last_ms = time_ms if exposure.last_ms is None else max(exposure.last_ms, time_ms)


def _bytes(part: str | bytes | None) -> bytes | None:
    return part.encode() if isinstance(part, str) else part
