"""What would leave: the newest records of each source through the engine, without a group, a commit or a write."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import fastavro
from confluent_kafka import Message

from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.registry import NO_ID, RegisteredSchema, Registry
from tokenweir.adapters.topicreader import read_until
from tokenweir.app.consentwriter import ConsentTopic
from tokenweir.app.workspace import Workspace, schema_file
from tokenweir.config import Config
from tokenweir.core import wire
from tokenweir.core.consent import DENIED, UNKNOWN, SubjectConsent
from tokenweir.core.engine import BoundOutput, BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import Record
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Fate, Outcome, Reason
from tokenweir.core.planning import SourceSchema, plan_schema
from tokenweir.core.subjects import Subject
from tokenweir.errors import DecodeError, RefusedError, RegistryError, SchemaError
from tokenweir.runtime.blocks import Blocks
from tokenweir.runtime.gateway import keyset_of, keyset_path, seal_of
from tokenweir.runtime.plans import source_schema
from tokenweir.runtime.sources import key_domains, stream_context

#: What stands in place of a value that cannot be shown.
UNSHOWABLE: Final = "(cannot be decoded)"


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one record in one output: the values that would leave, or why none would."""

    audience: str
    topic: str
    fate: Fate
    key: str | None = None
    fields: object = None
    reason: str = ""
    field_path: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Previewed:
    """One record of a source: where it stands, and what became of it per output. ``raw`` only if it was asked for."""

    stream: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    schema_id: int
    outputs: list[Shown]
    raw: object = None


@dataclass(slots=True)
class Preview:
    """Previews of one configuration.

    Attributes:
        ephemeral: Whether tokens come from keys of this run only, because there is no keyset.
        consent_records: How many records of the consent topic were read; None before that.
        consent_subjects: Of how many of the previewed subjects the topic says something.
        consent_missing: Why the topic could not be read; every decision is then unknown.
        blocks: Keys that cannot be read and nobody has acknowledged; a gateway denies every subject for them.
    """

    config: Config
    workspace: Workspace
    registry: Registry
    ephemeral: bool = field(init=False)
    consent_records: int | None = None
    consent_subjects: int = 0
    consent_missing: str = ""
    blocks: Blocks = field(default_factory=Blocks)
    _keyset: Keyset = field(init=False)

    def __post_init__(self) -> None:
        path = keyset_path(self.config)
        self.ephemeral = not path.exists()
        self._keyset = (
            Keyset.ephemeral(key_domains(self.workspace.policy), os.urandom)
            if self.ephemeral
            else keyset_of(self.config)
        )

    def require_schema_ids(self, streams: Iterable[str]) -> None:
        """Refuse streams whose records name their schema by an id, if schemas are files, which have none.

        Raises:
            RefusedError: There is such a stream; ``run`` would refuse it too.
        """
        if self.config.registry.directory is None:
            return
        policy = self.workspace.policy.policy
        framed = [name for name in streams if policy.streams[name].source.format != "json"]
        if framed:
            raise RefusedError(
                f"records of {', '.join(framed)} name their schema by its id, and a directory has no schema ids: "
                "set registry.url"
            )

    def newest(self, stream: str, limit: int) -> list[Message]:
        """Return the newest committed records of a stream's source, oldest first.

        Raises:
            KafkaFault: The source cannot be read.
        """
        properties = self.config.kafka.client_properties()
        topic = self.workspace.policy.policy.streams[stream].source.topic
        admin = Admin(properties)
        numbers = range(admin.describe_topic(topic).partitions)
        low = admin.low_watermarks(topic, numbers)
        ends = admin.high_watermarks(topic, numbers, "read_committed")
        spans = {number: (max(low[number], ends[number] - limit), ends[number]) for number in numbers}
        messages = sorted(read_until(properties, topic, spans), key=lambda message: message.timestamp()[1])
        return messages[-limit:]

    def show(self, stream: str, messages: list[Message], now_ms: int, *, raw: bool = False) -> list[Previewed]:
        """Run records through the engine and return what would leave.

        Raises:
            RegistryError: The registry does not answer; that it does not know a schema is a record's own fate.
            KeysError: The keyset lacks a key domain.
        """
        policy = self.workspace.policy
        engine = ReferenceEngine(policy.policy, self._keyset)
        plans = _Plans(self, engine, stream)
        items = [plans.item(message) for message in messages]
        batch = [(item.bound, item.record) for item in items if item.bound is not None]
        subjects: set[Subject] = set()

        def ask(subject: Subject) -> SubjectConsent:
            subjects.add(subject)
            return UNKNOWN

        # The first run only tells whose consent is needed, so that not the whole topic has to be kept in memory.
        engine.process(batch, ask, now_ms)
        consent = self._consent(subjects)
        outcomes = iter(engine.process(batch, consent, now_ms))

        def because(item: _Item, index: int) -> str:
            if item.bound is None:
                return ""
            return engine.why_withheld(item.bound, item.bound.outputs[index], item.record, consent, now_ms)

        return [
            self._previewed(stream, item, next(outcomes) if item.bound is not None else None, because, raw=raw)
            for item in items
        ]

    def _consent(self, subjects: set[Subject]) -> _Lookup:
        try:
            found = ConsentTopic(self.config, None if self.ephemeral else seal_of(self._keyset)).read(
                lambda subject: subject in subjects
            )
        except KafkaFault as fault:
            if fault.code != "UNKNOWN_TOPIC_OR_PART":
                raise
            self.consent_missing = f"the topic {self.config.consent.topic} does not exist"
            return _Lookup({}, everybody=UNKNOWN)
        self.consent_records = found.records
        self.consent_subjects = len(found.subjects)
        self.blocks = found.blocks
        known = {subject: found.consent(subject) for subject in subjects}
        return _Lookup(known, everybody=DENIED if found.blocks.offsets else None)

    def _previewed(
        self,
        stream: str,
        item: _Item,
        outcomes: list[Outcome] | None,
        because: Callable[[_Item, int], str],
        *,
        raw: bool,
    ) -> Previewed:
        message = item.message
        outputs = []
        context = stream_context(self.workspace.policy, stream, None if self.ephemeral else self._keyset)
        for index, output in enumerate(context.outputs()):
            topic = output.topic
            if outcomes is None or item.bound is None:
                reason = "" if item.reason is None else item.reason.value
                outputs.append(Shown(output.audience, topic, Fate.REJECTED, reason=reason))
            else:
                shown = _shown(item.bound, item.bound.outputs[index], topic, outcomes[index])
                withheld = shown.fate is Fate.WITHHELD
                outputs.append(replace(shown, because=because(item, index)) if withheld else shown)
        return Previewed(
            stream,
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
            message.timestamp()[1],
            item.schema_id,
            outputs,
            _raw(item) if raw else None,
        )


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Consent as the engine asks for it."""

    subjects: Mapping[Subject, SubjectConsent]
    everybody: SubjectConsent | None

    def __call__(self, subject: Subject) -> SubjectConsent:
        return self.everybody if self.everybody is not None else self.subjects.get(subject, UNKNOWN)


@dataclass(slots=True)
class _Item:
    """A record with what is needed to run it, or why it cannot be run."""

    message: Message
    schema_id: int
    record: Record
    bound: BoundPlan | None = None
    schema: SourceSchema | None = None
    reason: Reason | None = None


class _Plans:
    """Plans by schema id for one stream, fetched when first needed; nothing is registered."""

    def __init__(self, preview: Preview, engine: ReferenceEngine, stream: str) -> None:
        policy = preview.workspace.policy
        self._engine = engine
        self._registry = preview.registry
        self._context = stream_context(policy, stream, None if preview.ephemeral else preview._keyset)  # noqa: SLF001 - one module
        self._directory = preview.workspace.policy_directory
        self._source = policy.policy.streams[stream].source
        self._known: dict[int, tuple[BoundPlan, SourceSchema] | Reason] = {}

    def item(self, message: Message) -> _Item:
        """Return a record with its plan."""
        value = _bytes(message.value())
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        item = _Item(message, NO_ID, Record(value, _bytes(message.key()), max(message.timestamp()[1], 0), headers))
        if value is None:
            # Any plan does for a record without a value.
            known = [found for found in self._known.values() if isinstance(found, tuple)]
            item.bound, item.schema = known[0] if known else (None, None)
            item.reason = None if known else Reason.TOMBSTONE
            return item
        if self._source.format != "json":
            try:
                item.schema_id, datum = wire.unframe(value)
            except DecodeError as error:
                item.reason = Reason(error.reason)
                return item
            item.record = item.record._replace(value=bytes(datum))
        found = self._known.get(item.schema_id)
        if found is None:
            found = self._known[item.schema_id] = self._fetch(item.schema_id)
        if isinstance(found, Reason):
            item.reason = found
        else:
            item.bound, item.schema = found
        return item

    def _fetch(self, schema_id: int) -> tuple[BoundPlan, SourceSchema] | Reason:
        try:
            schema = self._schema(schema_id)
            if schema is None:
                return Reason.SCHEMA_FOREIGN
            planned = plan_schema(self._context, schema)
            # As in a gateway that runs: a field without a class is dropped, and stops nothing.
            problems = [problem for problem in planned.compiled.problems if problem.severity == "error"]
            if any(problem.rule != "unclassified-field" for problem in problems):
                return Reason.SCHEMA_REFUSED
            return self._engine.bind(planned.compiled.plan), schema
        except RegistryError as error:
            if error.kind != "not_found":
                raise
            return Reason.SCHEMA_UNKNOWN
        except SchemaError:
            return Reason.SCHEMA_REFUSED

    def _schema(self, schema_id: int) -> SourceSchema | None:
        """Return a schema, None where it belongs to another topic."""
        if self._source.format == "json":
            return schema_file(self._directory / (self._source.schema_ or ""))
        subject = f"{self._source.topic}-value"
        registered: RegisteredSchema = self._registry.schema_by_id(schema_id)
        owners = {owner for owner, _version in self._registry.subjects_of(schema_id)}
        return None if owners and subject not in owners else source_schema(registered, subject)


def _bytes(part: str | bytes | None) -> bytes | None:
    return part.encode() if isinstance(part, str) else part


def _shown(bound: BoundPlan, output: BoundOutput, topic: str, outcome: Outcome) -> Shown:
    """Return an outcome with the values that would leave, by the names of the derived schema."""
    reason = "" if outcome.reason is None else outcome.reason.value
    key = None if outcome.key is None else outcome.key.decode("utf-8", "replace")
    fields: object = None
    if outcome.value is not None and output.derived is not None:
        fields = _decoded(outcome.value, output.derived.text, {}, avro=bound.plan.format == "avro")
    return Shown(output.output.audience, topic, outcome.fate, key, fields, reason, outcome.field_path)


def _raw(item: _Item) -> object:
    if item.record.value is None:
        return None
    if item.bound is None or item.schema is None:
        return UNSHOWABLE
    avro = item.bound.plan.format == "avro"
    return _decoded(item.record.value, item.schema.text, item.schema.references, avro=avro)


def _decoded(data: bytes, schema: str, references: Mapping[str, str], *, avro: bool) -> object:
    """Return a value as plain JSON data for people; what cannot be decoded is not shown at all."""
    try:
        if not avro:
            return json.loads(data)
        named: dict[str, Any] = {}
        for text in references.values():
            fastavro.parse_schema(json.loads(text), named_schemas=named)
        parsed = fastavro.parse_schema(json.loads(schema), named_schemas=named)
        return json.loads(json.dumps(fastavro.schemaless_reader(io.BytesIO(data), parsed, None), default=_plain))
    except Exception:  # noqa: BLE001 - foreign parsers quote their input, so their errors end here
        return UNSHOWABLE


def _plain(value: object) -> str:
    """Return what JSON has no form for: bytes in base64, times and decimals as text."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
