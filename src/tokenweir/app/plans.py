"""What a policy makes of every known schema, as plain data: for tables, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

from tokenweir.app.workspace import Workspace
from tokenweir.core import explain
from tokenweir.core.compiler import Compiled
from tokenweir.core.explain import describe_rules
from tokenweir.core.fields import Assigned
from tokenweir.core.plan import OutputPlan, Rules, leaves
from tokenweir.core.planning import PlannedStream
from tokenweir.core.policy.classes import ClassTable, covers
from tokenweir.core.policy.models import Policy
from tokenweir.core.schema import Node

NEVER: Final = "never leaves"
"""Begins what is said of a field that cannot leave."""

FORMAT_VERSION: Final = 1
"""Version of the JSON form; it changes when a key changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class OutputView:
    """An output: who gets what, when, and how it is keyed."""

    audience: str
    title: str
    topic: str
    requires: str
    key: str
    timestamp: str
    key_domain: str
    epoch: int
    headers: list[str]


@dataclass(frozen=True, slots=True)
class FieldView:
    """A field: its class and where that comes from, and what becomes of it for each audience."""

    path: str
    type: str
    class_name: str
    class_from: str
    audiences: dict[str, str]


@dataclass(frozen=True, slots=True)
class SchemaView:
    """One version of a stream's schema."""

    label: str
    id: int
    fields: list[FieldView]


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream."""

    name: str
    topic: str
    format: str
    outputs: list[OutputView]
    schemas: list[SchemaView] = field(default_factory=list)


def view(workspace: Workspace, planned: PlannedStream) -> StreamView:
    """Return a planned stream as plain data; without any schema it has no outputs."""
    stream = planned.context.stream
    newest = planned.versions[-1].compiled if planned.versions else None
    outputs = [] if newest is None else [_output(workspace, newest, output) for output in newest.plan.outputs]
    schemas = [
        SchemaView(version.source.label, version.source.id, fields(workspace, version.compiled))
        for version in planned.versions
    ]
    return StreamView(planned.context.name, stream.source.topic, stream.source.format, outputs, schemas)


def document(workspace: Workspace, streams: list[StreamView]) -> dict[str, object]:
    """Return streams as the document that ``plan --format json`` prints."""
    policy = workspace.policy
    return {
        "format_version": FORMAT_VERSION,
        "policy": {"file": policy.file, "digest": policy.digest, "revision": policy.policy.revision},
        "streams": [asdict(stream) for stream in streams],
    }


def _output(workspace: Workspace, compiled: Compiled, output: OutputPlan) -> OutputView:
    policy = workspace.policy.policy
    return OutputView(
        audience=output.audience,
        title=policy.audiences[output.audience].title,
        topic=output.topic,
        requires=explain.describe_requires(output, compiled.plan, policy),
        key=output.key,
        timestamp=output.timestamp,
        key_domain=output.domain,
        epoch=output.epoch,
        headers=list(output.headers),
    )


def fields(workspace: Workspace, compiled: Compiled) -> list[FieldView]:
    """Return every scalar place of a schema, in its order."""
    table = ClassTable(workspace.policy.policy)
    origins = dict(_origins(compiled))
    rules = {output.audience: rules_by_path(output) for output in compiled.plan.outputs}
    return [
        FieldView(
            row.path,
            row.type,
            row.class_name,
            origins.get(row.path, ""),
            {
                audience: describe_rules(by_path[row.path], compiled.plan.purposes)
                if row.path in by_path
                else why_never(workspace.policy.policy, table, row.class_name, audience)
                for audience, by_path in rules.items()
            },
        )
        for row in explain.rows(compiled)
    ]


def rules_by_path(output: OutputPlan) -> dict[str, Rules]:
    """Return the rules of every place that may leave for an output."""
    return {leaf.source.path: leaf.rules for leaf in leaves(output.root)}


def why_never(policy: Policy, table: ClassTable, class_name: str, audience: str) -> str:
    """Say why nothing of a class can leave for an audience."""
    if not class_name:
        return f"{NEVER}: no class"
    pattern = next((each for each in policy.audiences[audience].never if covers(each, class_name)), None)
    if pattern is not None:
        return f"{NEVER}: {audience} never gets {pattern}"
    if all(treatment.do == "drop" for treatment in table.treatments(class_name)):
        return f"{NEVER}: drop"
    return f"{NEVER}: {audience} serves no purpose of it"


_ORIGINS: Final = {"overlay": "fields", "tag": "tag", "metadata": "registry tag"}


def _origins(compiled: Compiled) -> Iterator[tuple[str, str]]:
    """Yield each path with what gave it its class: ``tag PII_EMAIL``, or ``location: tag …`` if it is inherited."""

    def walk(node: Node, above: tuple[str, Assigned] | None) -> Iterator[tuple[str, str]]:
        own = compiled.classification.own.get(node)
        given = above if own is None else (node.path, own)
        if given is not None:
            path, assigned = given
            words = f"{_ORIGINS[assigned.origin]} {assigned.rule}"
            yield node.path, words if path == node.path else f"{path}: {words}"
        for child in node.children():
            yield from walk(child, given)

    yield from walk(compiled.classification.schema.root, None)
