"""Why one field becomes what it becomes: class, rules, purposes, token entry and derived schema, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from tokenweir.app.plans import FieldView, fields, rules_by_path
from tokenweir.app.samples import sample_token, sample_value
from tokenweir.app.workspace import Workspace
from tokenweir.core import explain, paths
from tokenweir.core.derive import Derived
from tokenweir.core.explain import describe_action
from tokenweir.core.plan import Rules
from tokenweir.core.planning import PlannedSchema
from tokenweir.core.policy.models import Policy
from tokenweir.core.tokens import smallest_domain
from tokenweir.errors import UsageError

#: What a basis asks of the person.
BASES: Final = {
    "consent": "leaves only with the person's allow",
    "opt_out": "leaves unless the person opted out",
    "legitimate_interest": "leaves unless the person objected",
    "contract": "does not ask the person",
    "legal_obligation": "does not ask the person",
    "public_task": "does not ask the person",
    "vital_interest": "does not ask the person",
}


@dataclass(frozen=True, slots=True)
class AudienceNote:
    """What becomes of a field for one audience: the rules in order, their purposes, and the derived schema."""

    audience: str
    rules: list[str]
    purposes: list[str]
    derived: str


@dataclass(frozen=True, slots=True)
class TokenNote:
    """A token entry: its format, the fewest values that a value is hidden among, and a made-up sample."""

    entry: str
    format: str
    smallest_domain: int
    sample_value: str
    sample_token: str


@dataclass(frozen=True, slots=True)
class FieldNote:
    """Everything about one field."""

    path: str
    type: str
    class_name: str
    class_title: str
    class_from: str
    audiences: list[AudienceNote]
    tokens: list[TokenNote]


def explain_fields(workspace: Workspace, version: PlannedSchema, path: str | None) -> list[FieldNote]:
    """Explain one field of a schema, or all of them.

    Raises:
        UsageError: the schema has no such field; the message has similar ones.
    """
    found = fields(workspace, version.compiled)
    if path is not None:
        known = [row.path for row in found]
        found = [row for row in found if row.path == path or _is_below(row.path, path)]
        if not found:
            close = get_close_matches(path, known, n=3) or known
            raise UsageError(f"the schema has no field '{path}': there is {', '.join(close)}")
    return [_note(workspace.policy.policy, version, row) for row in found]


def _is_below(path: str, container: str) -> bool:
    return path.startswith((f"{container}.", f"{container}[", f"{container}{{", f"{container}<"))


def _note(policy: Policy, version: PlannedSchema, row: FieldView) -> FieldNote:
    rule = policy.classes.get(row.class_name)
    by_audience = {output.audience: rules_by_path(output).get(row.path) for output in version.compiled.plan.outputs}
    tokens = dict.fromkeys(
        action.token
        for rules in by_audience.values()
        if rules
        for action in rules.actions()
        if action.kind == "tokenize"
    )
    return FieldNote(
        path=row.path,
        type=row.type,
        class_name=row.class_name,
        class_title=(rule.title if rule is not None else None) or "",
        class_from=row.class_from,
        audiences=[_audience(policy, version, row, audience, rules) for audience, rules in by_audience.items()],
        tokens=[_token(policy, entry) for entry in tokens],
    )


def _audience(
    policy: Policy, version: PlannedSchema, row: FieldView, audience: str, rules: Rules | None
) -> AudienceNote:
    plan = version.compiled.plan
    if rules is None:
        return AudienceNote(audience, [row.audiences[audience]], [], "")
    said = []
    mask = 0
    for rule in rules.rules:
        names = explain.names_of(rule.when, plan.purposes)
        condition = f"when {' and '.join(names)} {'pass' if len(names) > 1 else 'passes'}" if names else "always"
        said.append(f"{describe_action(rule.action)}, {condition}")
        mask |= rule.when
    if not any(rule.when == 0 for rule in rules.rules):
        said.append("otherwise withheld")
    if plan.anonymous and any(action.keyed is not None for action in rules.actions()):
        said.append("withheld where the record is about nobody")
    purposes = [describe_purpose(policy, name) for name in explain.names_of(mask, plan.purposes)]
    index = [output.audience for output in plan.outputs].index(audience)
    derived = version.derived[index]
    return AudienceNote(audience, said, purposes, "" if derived is None else snippet(derived, row.path))


def describe_purpose(policy: Policy, name: str) -> str:
    """Return a purpose in words: title, basis, what it asks, and for how long."""
    purpose = policy.purposes[name]
    words = BASES[purpose.basis]
    if purpose.basis == "consent" and not purpose.covers_earlier:
        words += ", given before the event"
    elsewhere = "".join(f"; in {place} basis {basis}" for place, basis in purpose.basis_by.items())
    days = purpose.retention_days
    return (
        f"{name} ({purpose.title}): basis {purpose.basis}, {words}{elsewhere}; "
        f"for events of the last {days} day{'' if days == 1 else 's'}"
    )


def _token(policy: Policy, entry: str) -> TokenNote:
    spec = policy.tokens[entry]
    return TokenNote(entry, spec.format, smallest_domain(spec), sample_value(spec), sample_token(entry, spec))


def snippet(derived: Derived, path: str) -> str:
    """Return the part of a derived schema that declares a place, as compact JSON; "" if it has none of its own."""
    schema = json.loads(derived.text)
    steps = paths.parse_path(path)
    find = _avro_fields if derived.schema.format == "avro" else _json_fields
    found = ""
    for declared in find(schema, steps):
        found = json.dumps(declared, ensure_ascii=False)
    return found


def _avro_fields(schema: Any, steps: Sequence[paths.Step]) -> Iterator[Any]:  # noqa: ANN401 - JSON of any kind.
    """Yield the field declarations on the way, the last one being the place's own."""
    named: dict[str, Any] = {}
    _collect(schema, named)
    shapes = [schema]
    for step in steps:
        shapes = [branch for shape in shapes for branch in _branches(shape, named)]
        if step.kind is paths.StepKind.NAME:
            declared = [
                entry
                for shape in shapes
                if isinstance(shape, dict) and shape.get("type") == "record"
                for entry in shape["fields"]
                if entry["name"] == step.text
            ]
            yield from declared
            shapes = [entry["type"] for entry in declared]
        elif step.kind is not paths.StepKind.BRANCH:
            shapes = [
                shape["items"] if shape.get("type") == "array" else shape.get("values", shape)
                for shape in shapes
                if isinstance(shape, dict)
            ]


def _branches(shape: Any, named: dict[str, Any]) -> Iterator[Any]:  # noqa: ANN401 - as above
    for branch in shape if isinstance(shape, list) else [shape]:
        yield named.get(branch, branch) if isinstance(branch, str) else branch


def _collect(shape: Any, named: dict[str, Any]) -> None:  # noqa: ANN401 - as above
    """Note every named type by its name and full name."""
    if isinstance(shape, list):
        for branch in shape:
            _collect(branch, named)
    elif isinstance(shape, dict):
        if "name" in shape and isinstance(shape.get("fields"), list):
            namespace = shape.get("namespace", "")
            named[shape["name"]] = shape
            named[f"{namespace}.{shape['name']}" if namespace else shape["name"]] = shape
            for entry in shape["fields"]:
                _collect(entry["type"], named)
        for key in ("items", "values"):
            _collect(shape.get(key), named)


def _json_fields(schema: Any, steps: Sequence[paths.Step]) -> Iterator[Any]:  # noqa: ANN401 - as above
    shape = schema
    for step in steps:
        if not isinstance(shape, dict):
            return
        if step.kind in {paths.StepKind.NAME, paths.StepKind.KEY}:
            shape = shape.get("properties", {}).get(step.text)
            if shape is not None:
                yield {step.text: shape}
        elif step.kind is not paths.StepKind.BRANCH:
            shape = shape.get("items" if step.kind is paths.StepKind.ELEMENTS else "additionalProperties")
