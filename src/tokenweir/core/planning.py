"""All known schema versions of a stream become plans, or findings at the policy's own lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tokenweir.core import avro, jsonschema
from tokenweir.core.compiler import Compiled, StreamContext, compile_plan
from tokenweir.core.derive import Derived, derive
from tokenweir.core.places import UNKNOWN_PATH
from tokenweir.core.plan import ArrayOut, MapOut, Out, RecordOut, UnionOut
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.schema import DEFAULT_LIMITS, Limits, Schema, join
from tokenweir.core.tagging import Problem
from tokenweir.errors import Finding, SchemaError

#: The id of a schema that no registry knows: that of a file.
NO_ID = -1


@dataclass(frozen=True, slots=True)
class SourceSchema:
    """One version of a stream's schema as it was found.

    ``label`` says where: a registry subject with version and id, or a file. ``references`` are the texts of the
    schemas that it refers to, by name, in an order in which each can be parsed after those before it.
    """

    text: str
    label: str
    id: int = NO_ID
    references: Mapping[str, str] = field(default_factory=dict)
    metadata_tags: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class PlannedSchema:
    """A schema version with its plan and, per output, the derived schema (None where nothing of it can leave)."""

    source: SourceSchema
    compiled: Compiled
    derived: tuple[Derived | None, ...]


@dataclass(slots=True)
class PlannedStream:
    """All versions of one stream that could be planned, oldest first, and everything that is wrong."""

    context: StreamContext
    versions: list[PlannedSchema] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that forbid to run."""
        return [finding for finding in self.findings if finding.severity == "error"]


def parse_schema(source: SourceSchema, format_: str, limits: Limits = DEFAULT_LIMITS) -> Schema:
    """Parse a stream's schema by the stream's format.

    Raises:
        SchemaError: if it is malformed, over a limit or not supported.
    """
    if format_ == "avro":
        return avro.parse(source.text, list(source.references.values()), limits=limits)
    return jsonschema.parse(source.text, source.references, limits=limits)


def plan_schema(context: StreamContext, source: SourceSchema) -> PlannedSchema:
    """Plan one version; what is wrong with it is in the plan's problems.

    Raises:
        SchemaError: if the schema itself cannot be worked with.
    """
    compiled = compile_plan(
        context, parse_schema(source, context.stream.source.format), source.id, source.metadata_tags
    )
    derived: list[Derived | None] = []
    for index, output in enumerate(compiled.plan.outputs):
        try:
            derived.append(derive(compiled.plan, output))
        except SchemaError as error:
            derived.append(None)
            compiled.problems.append(
                Problem(
                    "underivable-schema",
                    f"no schema can be derived for audience '{output.audience}': {error.message}",
                    error.path,
                    ("outputs", str(context.outputs()[index].index)),
                    "treat the named places alike",
                )
            )
    return PlannedSchema(source, compiled, tuple(derived))


def plan_stream(loaded: LoadedPolicy, context: StreamContext, schemas: Sequence[SourceSchema]) -> PlannedStream:
    """Plan every known version of a stream's schema.

    ``schemas`` are in the order of their versions, oldest first. A path rule that matches nothing is an error only if
    it matches in none of them.
    """
    planned = PlannedStream(context)
    unmatched: set[str] | None = None
    for source in schemas:
        try:
            version = plan_schema(context, source)
        except SchemaError as error:
            planned.findings.append(Finding(source.label, 0, 0, "schema", str(error)))
            continue
        planned.versions.append(version)
        missing = set(version.compiled.unmatched)
        unmatched = missing if unmatched is None else unmatched & missing
    _forgive_unknown_paths(planned.versions)
    for version in planned.versions:
        planned.findings.extend(
            _finding(loaded, context, problem, version.source.label) for problem in version.compiled.problems
        )
    places = [output.index for output in context.outputs()]
    planned.findings.extend(
        _finding(loaded, context, problem, "") for problem in _always_missing(planned.versions, places)
    )
    planned.findings.extend(
        _finding(
            loaded,
            context,
            Problem(
                "unmatched-rule",
                f"'{rule}' matches no field of any known schema",
                rule,
                ("fields", rule),
                "correct the path, or take the rule away",
            ),
            "",
        )
        for rule in sorted(unmatched or ())
    )
    planned.findings = list(dict.fromkeys(planned.findings))
    return planned


def _forgive_unknown_paths(versions: Sequence[PlannedSchema]) -> None:
    """Take away the problem that a version does not have a place of the stream, where only later versions have it.

    A version after the first that has the place keeps it, whether it is known at start or first seen while running: a
    producer that renames the id of a subject would otherwise take the subject's denials away.
    """
    lacking = [
        {problem.policy_key for problem in version.compiled.problems if problem.rule == UNKNOWN_PATH}
        for version in versions
    ]
    forgiven = {key for keys in lacking for key in keys if not all(key in others for others in lacking)}
    for version, keys in zip(versions, lacking, strict=True):
        forgiven &= keys  # What this version has, no later one is forgiven to lack.
        version.compiled.problems = [
            problem
            for problem in version.compiled.problems
            if problem.rule != UNKNOWN_PATH or problem.policy_key not in forgiven
        ]


def _always_missing(versions: Sequence[PlannedSchema], places: Sequence[int]) -> Iterator[Problem]:
    """Find ``always`` fields that another version does not have in the same record, or does not have always.

    ``places`` are those of the plans' outputs in the policy.
    """
    for index, at in enumerate(places if versions else ()):
        outputs = [version.compiled.plan.outputs[index] for version in versions]
        found = [dict(_always_fields(output.root)) for output in outputs]
        for path in dict.fromkeys(path for records in found for path in records):
            sets = [records[path] for records in found if path in records]
            for name in sorted(set[str]().union(*sets).difference(sets[0].intersection(*sets))):
                place = join(path, name)
                yield Problem(
                    "always-missing",
                    f"'{place}' is always in the output for '{outputs[0].audience}', but not in every known version",
                    place,
                    ("outputs", str(at)),
                    "take always away from its class",
                )


def _always_fields(out: Out | None) -> Iterator[tuple[str, set[str]]]:
    """Yield for each record that may leave the names of its ``always`` fields."""
    match out:
        case RecordOut():
            yield out.source.path, {entry.name for entry in out.fields if entry.always}
            for entry in out.fields:
                yield from _always_fields(entry.value)
        case ArrayOut():
            yield from _always_fields(out.items)
        case MapOut():
            for _, value in out.named:
                yield from _always_fields(value)
            yield from _always_fields(out.values)
        case UnionOut():
            for branch in out.branches:
                yield from _always_fields(branch)
        case _:
            return


def _finding(loaded: LoadedPolicy, context: StreamContext, problem: Problem, label: str) -> Finding:
    key: tuple[str | int, ...] = (
        "streams",
        context.name,
        *(int(part) if part.isdigit() else part for part in problem.policy_key),
    )
    line, column = loaded.positions.key(key)
    where = f" [{label}]" if label else ""
    return Finding(
        loaded.file,
        line,
        column,
        problem.rule,
        f"{problem.message}{where}",
        problem.remedy,
        problem.severity,
    )
