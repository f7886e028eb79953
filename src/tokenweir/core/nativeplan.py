"""The document that the native engine is made from: a plan with all that binding adds to it, as plain data.

:meth:`tokenweir.core.plan.Plan.plain` is the whole plan for anybody who reads it. What an engine runs is less and more:
places without what is below them, numbers of the policy as exact decimals, paths as the moves that they mean, the rules
of the purposes, the numbers of the token tables, and the derived schemas.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from itertools import groupby
from typing import Any, Final, NamedTuple

from tokenweir.core import access
from tokenweir.core.consent import PurposeRule
from tokenweir.core.derive import Derived
from tokenweir.core.generalize import user_agent
from tokenweir.core.generalize.specs import (
    BucketsSpec,
    CellSpec,
    GeneralizeSpec,
    KeyedSpec,
    MapSpec,
    NoiseSpec,
    PrefixSpec,
    RoundSpec,
    ShiftSpec,
    TimeSpec,
    UrlSpec,
    UserAgentSpec,
    decimal_of,
)
from tokenweir.core.plan import (
    Action,
    ArrayOut,
    Leaf,
    MapOut,
    Out,
    OutputPlan,
    Plan,
    RecordOut,
    Rules,
    SubjectSource,
    UnionOut,
    leaves,
    to_plain,
)
from tokenweir.core.policy.models import DigitsForm, Form
from tokenweir.core.schema import Kind, Limits, Node
from tokenweir.core.timestamps import INSTANT_TICKS, event_time_reader
from tokenweir.errors import SchemaError

#: Version of the document; the engine refuses one that it does not know.
VERSION: Final = 1
#: One bit for each.
_MAX_PURPOSES: Final = 64

_DAY_MS: Final = 86_400_000

Document = dict[str, Any]


class Numbers(NamedTuple):
    """Gives the engine's numbers for what has keys, both for an output's key domain and epoch."""

    #: Of the token table of an entry, by its name.
    table: Callable[[OutputPlan, str], int]
    #: Of the keyed function of a treatment.
    prf: Callable[[OutputPlan, KeyedSpec], int]


def document(
    plan: Plan,
    derived: list[Derived | None],
    rules: Mapping[str, PurposeRule],
    numbers: Numbers,
    limits: Limits,
) -> str:
    """Return the document of a plan as JSON.

    Args:
        plan: The plan.
        derived: What was derived for each of its outputs.
        rules: The purposes of the policy by name.
        numbers: Gives the numbers of token tables and keyed functions.
        limits: What one record may cost.

    Raises:
        SchemaError: if the event's time cannot be read where it stands, or there are too many purposes.
    """
    if len(plan.purposes) > _MAX_PURPOSES:
        raise SchemaError(f"the native engine knows at most {_MAX_PURPOSES} purposes of a stream")
    whole = {
        "version": VERSION,
        "source": to_plain(plan.source),
        "limits": to_plain(limits),
        "purposes": [_purpose(rules[name]) for name in plan.purposes],
        "subjects": [_subject(plan, source) for source in plan.subjects],
        "anonymous": plan.anonymous,
        "event_time": _event_time(plan) if plan.event_time else None,
        "outputs": [_Output(output, numbers).plain(made) for output, made in zip(plan.outputs, derived, strict=True)],
        "printable": printable_ranges() if _asks_for_printable(plan) else (),
    }
    return json.dumps(whole, ensure_ascii=True, allow_nan=False)


@cache
def printable_ranges() -> tuple[tuple[int, int], ...]:
    """Return the characters that this version of Python would print: first and last of each range."""
    codes = (code for code in range(sys.maxunicode + 1) if chr(code).isprintable())
    # Neighbours differ from their place in the list by the same number.
    groups = ([code for _, code in group] for _, group in groupby(enumerate(codes), lambda pair: pair[1] - pair[0]))
    return tuple((codes[0], codes[-1]) for codes in groups)


def _asks_for_printable(plan: Plan) -> bool:
    actions = (action for output in plan.outputs for leaf in leaves(output.root) for action in leaf.rules.actions())
    return any(isinstance(action.generalize, UrlSpec) for action in actions)


def _purpose(rule: PurposeRule) -> Document:
    return {
        "name": rule.name,
        "basis": rule.basis,
        "basis_by": dict(rule.basis_by),
        "retention_ms": rule.retention_days * _DAY_MS,
        "refuses_minors": rule.minors == "refuse",
        "covers_earlier": rule.covers_earlier,
    }


def _form(form: Form) -> object:
    return {"digits": form.digits} if isinstance(form, DigitsForm) else form


def _subject(plan: Plan, source: SubjectSource) -> Document:
    origins: dict[str, object] = {"key": "key", "header": {"header": source.path}}
    origin = origins.get(source.origin) or {"value": _moves(plan, source.path)}
    place = {"value": source.path, "key": "$key", "header": f"$headers{{{source.path}}}"}[source.origin]
    return {
        "type": source.type,
        "origin": origin,
        "form": _form(source.form),
        "null_values": source.null_values,
        "place": place,
    }


def _moves(plan: Plan, path: str) -> list[list[Document]]:
    places = access.plain_moves(plan.source, path)
    return [[{move.kind: move.key if move.kind == "key" else move.at} for move in moves] for moves in places]


def _event_time(plan: Plan) -> Document:
    # Where a path goes through several branches, all of them hold the time in one type.
    found = access.locate_all(plan.source, plan.event_time)[0]
    node = found.optional_of or found
    event_time_reader(node)
    ticks = None if node.kind is Kind.STRING else INSTANT_TICKS.get(node.logical, 1000) // 1000
    return {"path": plan.event_time, "places": _moves(plan, plan.event_time), "ticks_per_ms": ticks}


class _Output:
    """One output; its actions name the token tables and keyed functions of its key domain."""

    def __init__(self, output: OutputPlan, numbers: Numbers) -> None:
        self._output = output
        self._numbers = numbers

    def plain(self, derived: Derived | None) -> Document:
        output = self._output
        value = None
        if output.root is not None and derived is not None:
            value = {"root": self._out(output.root), "schema": to_plain(derived.schema)}
        return {
            "recipients": output.recipients,
            "served": output.served,
            "requires": to_plain(output.requires),
            "key": [self._rules(rules) for rules in output.key_rules] if output.key == "subject" else None,
            "timestamp": output.timestamp,
            "headers": output.headers,
            "person_headers": output.person_headers,
            "tombstones": output.tombstones,
            "value": value,
        }

    def _rules(self, rules: Rules) -> Document:
        return {
            "rules": [{"when": rule.when, "action": self._action(rule.action)} for rule in rules.rules],
            "person": rules.person,
            "reject_invalid": rules.reject_invalid,
        }

    def _gate(self, gate: Rules | None) -> Document | None:
        return None if gate is None else self._rules(gate)

    def _action(self, action: Action) -> object:
        if action.kind == "tokenize":
            return {"tokenize": self._numbers.table(self._output, action.token)}
        if action.kind == "generalize" and action.generalize is not None:
            keyed = action.keyed
            if keyed is None:
                return {"generalize": _coarser(action.generalize)}
            prf = self._numbers.prf(self._output, keyed)
            return {"generalize": _keyed(keyed, prf)}
        return action.kind

    def _out(self, out: Out | None) -> Document | None:
        match out:
            case None:
                return None
            case Leaf():
                form = None if out.form is None else _form(out.form)
                leaf = {"place": _place(out.source), "rules": self._rules(out.rules), "form": form}
                return {"leaf": {**leaf, "subject": out.subject, "pair": out.pair}}
            case RecordOut():
                fields = [
                    {"index": entry.index, "always": entry.always, "value": self._out(entry.value)}
                    for entry in out.fields
                ]
                return {"record": {"fields": fields, "gate": self._gate(out.gate)}}
            case ArrayOut():
                return {"array": {"items": self._out(out.items), "gate": self._gate(out.gate)}}
            case MapOut():
                named = [(name, self._out(value)) for name, value in out.named]
                others = {"values": self._out(out.values), "keys": self._gate(out.keys), "dropped": out.dropped}
                return {"map": {"named": named, **others, "gate": self._gate(out.gate)}}
            case UnionOut():
                union = {
                    "path": out.source.path,
                    "has_null": any(branch.kind is Kind.NULL for branch in out.source.branches),
                    "branches": [self._out(branch) for branch in out.branches],
                    "invalid": out.invalid,
                }
                return {"union": {**union, "gate": self._gate(out.gate)}}


def _place(node: Node) -> Document:
    return {
        "kind": node.kind,
        "path": node.path,
        "logical": node.logical,
        "size": node.size,
        "precision": int(node.attributes.get("precision", 0)),
        "scale": int(node.attributes.get("scale", 0)),
    }


def _coarser(spec: GeneralizeSpec) -> Document:  # noqa: PLR0911 - one line for each way
    match spec:
        case CellSpec():
            return {"cell": spec.resolution}
        case TimeSpec():
            return {"time": spec.time}
        case RoundSpec():
            return {"round": str(decimal_of(spec.round))}
        case BucketsSpec():
            return {"buckets": [str(decimal_of(bound)) for bound in spec.buckets]}
        case PrefixSpec():
            return {"network" if spec.of == "ip" else "prefix": spec.prefix}
        case UserAgentSpec():
            return {"user_agent": {"rules": user_agent.RULES, "default": user_agent.OTHER}}
        case MapSpec():
            return {"map": {"table": spec.map, "default": spec.else_}}
        case UrlSpec():
            return {"url": {"path": spec.url.path, "query": spec.url.query}}
        case ShiftSpec() | NoiseSpec():
            raise TypeError("a treatment with a key needs its number")


def _keyed(spec: KeyedSpec, prf: int) -> Document:
    if isinstance(spec, ShiftSpec):
        return {"shift": {"days": spec.shift_days, "prf": prf}}
    return {"noise": {"metres": spec.metres, "prf": prf}}
