"""A compiled plan as rows for people: what every place becomes for each audience, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenweir.core.compiler import Compiled
from tokenweir.core.plan import Action, OutputPlan, Plan, Requires, Rules, to_plain
from tokenweir.core.plan import leaves as leaves_of
from tokenweir.core.policy.models import ASKING, Policy
from tokenweir.core.schema import Kind, Node

NEVER = "never leaves"


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One place of a schema: its class, and per audience what becomes of it."""

    path: str
    type: str
    class_name: str
    origin: str
    treatments: dict[str, str]


def rows(compiled: Compiled) -> list[FieldRow]:
    """Return one row per scalar place, in the order of the schema."""
    plan = compiled.plan
    by_output = [(output, {leaf.source: leaf for leaf in leaves_of(output.root)}) for output in plan.outputs]
    found = []
    for node in compiled.classification.schema.root.walk():
        if node.kind in {Kind.RECORD, Kind.ARRAY, Kind.MAP, Kind.UNION, Kind.NULL}:
            continue
        class_name = compiled.classification.class_of(node)
        treatments = {}
        for output, leaves in by_output:
            leaf = leaves.get(node)
            treatments[output.audience] = NEVER if leaf is None else describe_rules(leaf.rules, plan.purposes)
        found.append(FieldRow(node.path, type_of(node), class_name or "", _origin(compiled, node), treatments))
    return found


def _origin(compiled: Compiled, node: Node) -> str:
    """Say where a place has its class from."""
    own = compiled.classification.own.get(node)
    if own is None:
        return "inherited" if compiled.classification.class_of(node) else ""
    return f"{own.origin} {own.rule}".strip()


def type_of(node: Node) -> str:
    """Return the type of a place in words: ``long timestamp-millis``."""
    return f"{node.kind.value} {node.logical}".strip()


def describe_action(action: Action) -> str:
    """Return a treatment as the policy writes it: ``tokenize customer``, ``generalize time: hour``."""
    if action.kind == "tokenize":
        return f"tokenize {action.token}"
    if action.generalize is None:
        return action.kind
    parts = to_plain(action.generalize).items()
    return "generalize " + ", ".join(f"{key}: {_flow(value)}" for key, value in parts)


def _flow(value: Any) -> str:  # noqa: ANN401 - plain data of any kind.
    """Return plain data in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def describe_rules(rules: Rules, purposes: Sequence[str]) -> str:
    """Return all treatments of a place in order: ``keep if location_offers; otherwise generalize cell: h3``."""
    parts = []
    for rule in rules.rules:
        names = names_of(rule.when, purposes)
        condition = f" if {' and '.join(names)}" if names else ""
        parts.append(f"{describe_action(rule.action)}{condition}")
    return "; otherwise ".join(parts)


def names_of(mask: int, purposes: Sequence[str]) -> list[str]:
    """Return the names of the purposes in a mask."""
    return [name for position, name in enumerate(purposes) if mask >> position & 1]


def describe_requires(output: OutputPlan, plan: Plan, policy: Policy) -> str:
    """Say in words when a record leaves for an output, and what makes it leave more easily."""
    names = names_of(output.requires.mask, plan.purposes)
    if not names:
        return NEVER
    remarks = [_asked(output.requires, names, policy)]
    remarks += [
        f"{name} has the basis {basis} in {jurisdiction}"
        for name in names
        for jurisdiction, basis in policy.purposes[name].basis_by.items()
    ]
    if plan.anonymous:
        remarks.append("a record about nobody always leaves")
    return "; ".join(remarks)


def _asked(requires: Requires, names: Sequence[str], policy: Policy) -> str:
    asked = [name for name in names if policy.purposes[name].basis in ASKING]
    lenient = [name for name in names if policy.purposes[name].basis in {"opt_out", "legitimate_interest"}]
    if not asked or (not requires.all and len(asked) < len(names)):
        return "always leaves: a purpose's basis does not ask the person"
    if lenient and (not requires.all or len(lenient) == len(asked)):
        return f"leaves unless the person objected ({', '.join(lenient)})"
    needed = [name for name in asked if name not in lenient] if requires.all else names
    joined = " and ".join(needed) if requires.all else " or ".join(needed)
    unless = f", unless the person objected ({', '.join(lenient)})" if lenient else ""
    return f"leaves only with consent for {joined}{unless}"
