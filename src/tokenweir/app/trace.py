"""Why each field of one record became what it became, for every output: class, treatment, purposes, decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tokenweir.app.plans import rules_by_path, why_never
from tokenweir.core import avro_codec
from tokenweir.core.consent import PurposeRule, SubjectConsent, Verdict, answer, passing
from tokenweir.core.engine import BoundOutput, BoundPlan
from tokenweir.core.explain import describe_action, names_of
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.core.plan import Rules
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import Policy
from tokenweir.core.schema import Kind, Node
from tokenweir.core.subjects import Subject

NOTHING: Final = "-"
"""Stands where no value is."""

RECORD_WITHHELD: Final = "the record is withheld"

_UNITS_PER_SECOND: Final = {"timestamp-millis": 1_000, "timestamp-micros": 1_000_000}


@dataclass(frozen=True, slots=True)
class AudienceTrace:
    """What became of a field for one audience, and why."""

    after: str
    why: str


@dataclass(frozen=True, slots=True)
class FieldTrace:
    """A field that has a value: what it was, and what became of it for each audience."""

    path: str
    class_name: str
    before: str
    audiences: dict[str, AudienceTrace]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision about one record rests on."""

    policy: Policy
    consent: Callable[[Subject], SubjectConsent]
    subject: Subject
    event_time_ms: int
    now_ms: int

    def decision(self, purpose: str) -> str:
        """Return what the person decided about a purpose, in words."""
        found = answer(self.consent(self.subject), purpose, self.now_ms)
        if found.kind is Verdict.UNKNOWN:
            return "no decision"
        if found.kind is Verdict.DENY:
            return "denied"
        late = found.allow_since_ms is not None and self.event_time_ms < found.allow_since_ms
        return "allowed only later" if late else "allowed"

    def passed(self, bound: BoundPlan, output: BoundOutput) -> int:
        """Return which purposes pass, as the engine does."""
        rules = [PurposeRule.of(name, self.policy.purposes[name]) for name in bound.plan.purposes]
        return output.output.served & passing(
            rules,
            self.consent(self.subject),
            (),
            event_time_ms=self.event_time_ms,
            now_ms=self.now_ms,
            recipients=frozenset(output.output.recipients),
        )


def why_withheld(bound: BoundPlan, outputs: Iterable[BoundOutput], facts: Facts) -> str:
    """Say why nothing of a record leaves for some outputs: the purposes that they need, by what was decided of them."""
    mask = 0
    for output in outputs:
        mask |= output.output.requires.mask
    by_decision: dict[str, list[str]] = {}
    for name in names_of(mask, bound.plan.purposes):
        by_decision.setdefault(facts.decision(name), []).append(name)
    if list(by_decision) in (["denied"], ["no decision"]) and mask == (1 << len(bound.plan.purposes)) - 1:
        return "everything denied" if "denied" in by_decision else "nothing decided yet"
    return "; ".join(f"{', '.join(names)} {decision}" for decision, names in by_decision.items())


def trace(
    bound: BoundPlan, classes: Mapping[str, str], value: bytes, outcomes: list[Outcome], facts: Facts
) -> list[FieldTrace]:
    """Return one row for every field of an Avro record that has a value, in the order of the schema.

    ``classes`` gives the class of each path. Unions of several types beside null are not followed.
    """
    before = dict(_values(bound.plan.source.root, bound.read(value), ""))
    after = [_after(output, outcome) for output, outcome in zip(bound.outputs, outcomes, strict=True)]
    explainers = [
        _Explainer(bound, output, outcome, facts) for output, outcome in zip(bound.outputs, outcomes, strict=True)
    ]
    return [
        FieldTrace(
            path,
            classes.get(path, ""),
            _shown(shown),
            {
                explainer.audience: AudienceTrace(
                    _shown(values.get(path, [])), explainer.why(path, classes.get(path, ""))
                )
                for explainer, values in zip(explainers, after, strict=True)
            },
        )
        for path, shown in before.items()
    ]


class _Explainer:
    """Says for one output and one record why a field became what it became."""

    def __init__(self, bound: BoundPlan, output: BoundOutput, outcome: Outcome, facts: Facts) -> None:
        self.audience = output.output.audience
        self._purposes = bound.plan.purposes
        self._rules = rules_by_path(output.output)
        self._facts = facts
        self._table = ClassTable(facts.policy)
        self._passed = facts.passed(bound, output)
        self._withheld = outcome.fate is not Fate.SANITIZED

    def why(self, path: str, class_name: str) -> str:
        """Return treatment, purposes and decision."""
        rules = self._rules.get(path)
        if self._withheld:
            return RECORD_WITHHELD
        if rules is None:
            return why_never(self._facts.policy, self._table, class_name, self.audience)
        for rule in rules.rules:
            if self._passed & rule.when == rule.when:
                return f"{describe_action(rule.action)} · {self._condition(rule.when)}"
        return f"withheld · {self._decisions(rules)}"

    def _condition(self, when: int) -> str:
        names = names_of(when, self._purposes)
        return " · ".join(f"{name} {self._facts.decision(name)}" for name in names) or "no condition"

    def _decisions(self, rules: Rules) -> str:
        """Return what was decided of the purposes that would have let the field out."""
        wanted = dict.fromkeys(name for rule in rules.rules for name in names_of(rule.when, self._purposes))
        return " · ".join(f"{name} {self._facts.decision(name)}" for name in wanted)


def _after(output: BoundOutput, outcome: Outcome) -> dict[str, list[str]]:
    """Return what an output's record says, by path."""
    if outcome.value is None or output.derived is None:
        return {}
    read = avro_codec.reader(output.derived.schema)
    return dict(_values(output.derived.schema.root, read(outcome.value), ""))


def _values(node: Node, value: Any, path: str) -> Iterator[tuple[str, list[str]]]:  # noqa: ANN401 - any decoded value
    """Yield the texts at each path that has a value; elements of an array share one path."""
    match node.kind:
        case Kind.UNION:
            if value is not None:
                index, inner = value
                yield from _values(node.branches[index], inner, path)
        case Kind.RECORD:
            for entry, inner in zip(node.fields, value, strict=True):
                yield from _values(entry.node, inner, f"{path}.{entry.name}" if path else entry.name)
        case Kind.ARRAY if node.items is not None:
            found: dict[str, list[str]] = {}
            for element in value:
                for inner_path, texts in _values(node.items, element, f"{path}[*]"):
                    found.setdefault(inner_path, []).extend(texts)
            yield from found.items()
        case Kind.MAP:
            yield path, [f"{len(value)} entries"]
        case _:
            yield path, [_text(node, value)]


def _text(node: Node, value: Any) -> str:  # noqa: ANN401 - any decoded scalar
    if node.logical in _UNITS_PER_SECOND:
        seconds = value // _UNITS_PER_SECOND[node.logical]
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _shown(texts: list[str]) -> str:
    return ", ".join(texts) if texts else NOTHING
