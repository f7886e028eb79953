"""Sanitize files: Avro container files and JSON lines through the same engine as the gateway.

Container in, container out; lines in, lines out. Records are worked on in batches, so that memory does not grow with
the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tokenweir.adapters.engines import EngineName, make_engine
from tokenweir.app.consentlines import ConsentLines
from tokenweir.app.containers import same_layout
from tokenweir.app.files import Outputs, Sink, Source, open_source
from tokenweir.app.workspace import Workspace, schema_file
from tokenweir.core.compiler import StreamContext
from tokenweir.core.engineapi import Ready, Record
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.core.plan import Plan
from tokenweir.core.planning import SourceSchema, plan_stream
from tokenweir.errors import FileFormatError, FindingsError, UsageError

_BATCH_RECORDS: Final = 1_000

#: How many places of rejected records are remembered.
_PLACES: Final = 5


@dataclass(slots=True)
class Report:
    """What became of the records of all files; rejections count pairs of record and output."""

    read: int = 0
    outputs: dict[str, Counter[Fate]] = field(default_factory=dict)
    rejections: Counter[str] = field(default_factory=Counter)
    #: Where the first records were rejected: ``events.jsonl: line 4: subject_invalid at customer``, and no values.
    places: list[str] = field(default_factory=list)

    def count(self, audience: str, outcome: Outcome, place: str) -> None:
        """Count one outcome of the record at a place, such as ``line 4``."""
        self.outputs[audience][outcome.fate] += 1
        if outcome.reason is not None:
            self.rejections[outcome.reason.value] += 1
            said = f"{place}: {outcome.reason.value}{f' at {outcome.field_path}' if outcome.field_path else ''}"
            if len(self.places) < _PLACES and said not in self.places:
                self.places.append(said)

    def plain(self) -> dict[str, object]:
        """Return the report as the JSON object that ``--format json`` prints."""
        return {
            "read": self.read,
            "outputs": {
                audience: {fate.value: counts[fate] for fate in Fate} for audience, counts in self.outputs.items()
            },
            "rejections": dict(sorted(self.rejections.items())),
        }


class Sanitizer:
    """One run of ``tokenweir sanitize``.

    Args:
        workspace: The policy.
        context: The stream, with the epochs of the keyset.
        audiences: Whose outputs are wanted.
        keyset: Makes the tokens.
        consent: The decisions; without any, everything is unknown.
        schema: Replaces the schema of the stream and of containers; they must have its layout.
        now_ms: The clock at the start of the run, in milliseconds since 1970; it stands for every record's timestamp.
        engine: Which one.
        on_progress: Called with the number of records read so far.
        on_fault: Told of an exception of the engine.
    """

    def __init__(  # noqa: PLR0913 - the parts of one run, each from an option.
        self,
        workspace: Workspace,
        context: StreamContext,
        audiences: Sequence[str],
        keyset: Keyset,
        consent: ConsentLines,
        *,
        schema: SourceSchema | None,
        now_ms: int,
        engine: EngineName,
        on_progress: Callable[[int], None] = lambda _read: None,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self._workspace = workspace
        self._context = context
        self._audiences = list(audiences)
        self._engine = make_engine(engine, workspace.policy.policy, keyset, on_fault=on_fault)
        self._consent = consent
        self._schema = schema
        self._now_ms = now_ms
        self._on_progress = on_progress
        self._bound: dict[str, Ready] = {}
        self.report = Report(outputs={audience: Counter() for audience in audiences})

    def run(self, files: Sequence[str], outputs: Outputs) -> None:
        """Sanitize files into outputs.

        Raises:
            FileFormatError: a file cannot be read or written, or is not what the stream's format says.
            FindingsError: policy and schema do not go together.
            UsageError: lines without a schema, or a stream that finds its subjects outside of the value.
        """
        for name in files:
            with open_source(name) as source:
                if source.schema is not None and outputs.to_terminal:
                    raise UsageError("an Avro container does not go to a terminal: give -o FILE, or redirect")
                bound = self._plan(self._schema_of(source))
                self._sanitize(bound, source, outputs.sinks(source, bound))
        outputs.complete()

    def _schema_of(self, source: Source) -> SourceSchema:
        """Return the schema with which a source is read."""
        format_ = self._context.stream.source.format
        name = self._context.name
        if source.schema is not None:
            if format_ != "avro":
                raise FileFormatError(f"{source.name} is an Avro container, and stream '{name}' has format {format_}")
            if self._schema is None:
                return source.schema
            if not same_layout(self._schema.text, source.schema.text):
                raise FileFormatError(
                    f"{source.name} was written with another schema than {self._schema.label}: only names of classes "
                    "and other attributes may differ"
                )
            return self._schema
        if format_ == "avro":
            raise FileFormatError(
                f"{source.name} is no Avro container, and stream '{name}' has format avro: "
                "lines need a stream of format json or json_schema"
            )
        if self._schema is not None:
            return self._schema
        file = self._context.stream.source.schema_
        if file is None:
            raise UsageError(f"stream '{name}' has its schema in a registry: give it with --schema FILE")
        return schema_file(self._workspace.policy_directory / file)

    def _plan(self, schema: SourceSchema) -> Ready:
        bound = self._bound.get(schema.text)
        if bound is None:
            planned = plan_stream(self._workspace.policy, self._context, [schema])
            if planned.errors:
                raise FindingsError(planned.errors)
            plan = planned.versions[0].compiled.plan
            self._require_subjects_in_values(plan)
            bound = self._bound[schema.text] = self._engine.bind(plan)
        return bound

    def _require_subjects_in_values(self, plan: Plan) -> None:
        """Refuse a stream of whose subjects a file cannot tell all: without one, another would decide for it."""
        for source in plan.subjects:
            if source.origin != "value":
                place = "$key" if source.origin == "key" else f"$headers{{{source.path}}}"
                raise UsageError(
                    f"stream '{self._context.name}' finds a {source.type} in {place}: "
                    "files hold values without keys and headers, so nobody could say whose decision counts"
                )

    def _sanitize(self, bound: Ready, source: Source, sinks: dict[str, Sink]) -> None:
        audiences = [output.output.audience for output in bound.outputs]
        read = 0
        for batch in _batches(source.records):
            pairs = [(bound, Record(value, None, self._now_ms)) for value in batch]
            done = self._engine.process(pairs, self._consent.lookup, self._now_ms)
            for number, outcomes in enumerate(done, start=read + 1):
                for audience, outcome in zip(audiences, outcomes, strict=True):
                    if audience in sinks:
                        self.report.count(audience, outcome, source.place(number))
                        if outcome.value is not None:
                            sinks[audience].write(outcome.value)
            read += len(batch)
            self.report.read += len(batch)
            self._on_progress(self.report.read)


def _batches(data: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for value in data:
        batch.append(value)
        if len(batch) == _BATCH_RECORDS:
            yield batch
            batch = []
    if batch:
        yield batch
