"""The demo: the built-in story goes through the engine, and what became of every field is written down."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tokenweir.app import demodata
from tokenweir.app.consentlines import ConsentLines, read_lines
from tokenweir.app.plans import fields
from tokenweir.app.trace import Facts, FieldTrace, trace, why_withheld
from tokenweir.app.workspace import Workspace
from tokenweir.core.engine import BoundOutput, BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import Record
from tokenweir.core.explain import names_of
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.core.planning import PlannedSchema, SourceSchema
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.subjects import Subject
from tokenweir.errors import FindingsError
from tokenweir.runtime.sources import key_domains

_HANDLING_MS: Final = 1_000
"""How long after it happened an event is handled in the story."""

#: The events of which every field is shown.
SHOWN: Final = (1, 4)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the story: a decision, or an event with what became of it for each audience."""

    at_ms: int
    who: str
    what: str
    event: demodata.Event | None = None
    fates: dict[str, str] = field(default_factory=dict)
    why: str = ""
    because: dict[str, str] = field(default_factory=dict)
    fields: list[FieldTrace] = field(default_factory=list)


@dataclass(slots=True)
class Played:
    """The whole story, and how many records had which fate for each audience."""

    audiences: dict[str, str]
    steps: list[Step]
    counts: dict[str, Counter[Fate]]
    rejections: Counter[str]


class Stage:
    """Everything that the story needs: policy, plan, fresh keys, and decisions as they come in."""

    def __init__(self) -> None:
        """Load the built-in policy and plan its schema; keys are made for this run only."""
        loaded, _ = load_and_check(demodata.text(demodata.POLICY), demodata.POLICY)
        self.workspace = Workspace(loaded, Path())
        self.policy = loaded.policy
        self.consent = ConsentLines()
        self.keyset = Keyset.ephemeral(key_domains(loaded), os.urandom)
        schema = SourceSchema(demodata.text(demodata.SCHEMA), "customer.interactions-value")
        planned = self.workspace.plan(demodata.STREAM, [schema])
        if planned.errors:
            raise FindingsError(planned.errors)
        self.version: PlannedSchema = planned.versions[0]
        self._engine = ReferenceEngine(self.policy, self.keyset)
        self.bound: BoundPlan = self._engine.bind(self.version.compiled.plan)
        self.classes = {row.path: row.class_name for row in fields(self.workspace, self.version.compiled)}

    @property
    def audiences(self) -> dict[str, str]:
        """The audiences with their titles."""
        outputs = self.version.compiled.plan.outputs
        return {output.audience: self.policy.audiences[output.audience].title for output in outputs}

    def decide(self, decisions: demodata.Decisions) -> None:
        """Take in what a person decided."""
        for line in read_lines(decisions.line, "the story", decisions.at_ms):
            self.consent.add(line)

    def handle(self, event: demodata.Event, value: bytes) -> list[Outcome]:
        """Sanitize an event's record a moment after it happened."""
        record = Record(value, None, event.at_ms)
        return self._engine.process([(self.bound, record)], self.consent.lookup, event.at_ms + _HANDLING_MS)[0]

    def facts(self, event: demodata.Event) -> Facts:
        """Return what the decision about an event rests on."""
        subject = Subject("customer", str(event.record["customer_id"]))
        return Facts(self.policy, self.consent.lookup, subject, event.at_ms, event.at_ms + _HANDLING_MS)


def play(stage: Stage, now_ms: int, handle: Callable[[demodata.Event], list[Outcome]] | None = None) -> Played:
    """Tell the story.

    Args:
        stage: Where it plays.
        now_ms: When it ends, in milliseconds since 1970.
        handle: Sanitizes an event; the default gives its record straight to the engine.
    """
    audiences = stage.audiences
    played = Played(audiences, [], {audience: Counter() for audience in audiences}, Counter())
    for step in demodata.story(now_ms):
        if isinstance(step, demodata.Decisions):
            stage.decide(step)
            played.steps.append(Step(step.at_ms, step.who, step.says))
            continue
        outcomes = stage.handle(step, step.value) if handle is None else handle(step)
        for audience, outcome in zip(audiences, outcomes, strict=True):
            played.counts[audience][outcome.fate] += 1
            if outcome.reason is not None:
                played.rejections[outcome.reason.value] += 1
        played.steps.append(_told(stage, step, outcomes))
    return played


def _told(stage: Stage, event: demodata.Event, outcomes: list[Outcome]) -> Step:
    facts = stage.facts(event)
    pairs = list(zip(stage.bound.outputs, outcomes, strict=True))
    withheld = [output for output, outcome in pairs if outcome.fate is Fate.WITHHELD]
    reasons = [why_withheld(stage.bound, withheld, facts)] if withheld else []
    reasons += {f"{outcome.reason} at {outcome.field_path}": None for _, outcome in pairs if outcome.reason is not None}
    return Step(
        event.at_ms,
        event.who,
        event.does,
        event,
        {output.output.audience: outcome.fate.value for output, outcome in pairs},
        "; ".join(reasons),
        {output.output.audience: _why_leaves(stage, output, outcome, facts) for output, outcome in pairs},
        trace(stage.bound, stage.classes, event.value, outcomes, facts) if event.number in SHOWN else [],
    )


def _why_leaves(stage: Stage, output: BoundOutput, outcome: Outcome, facts: Facts) -> str:
    """Say why a record leaves for an output, or why it does not."""
    if outcome.fate is Fate.WITHHELD:
        return f"is withheld, because {why_withheld(stage.bound, [output], facts)}"
    if outcome.fate is Fate.REJECTED:
        return f"is rejected: {outcome.reason} at {outcome.field_path}"
    mask = output.output.requires.mask & facts.passed(stage.bound, output)
    return f"leaves, because {', '.join(names_of(mask, stage.bound.plan.purposes))} allowed"
