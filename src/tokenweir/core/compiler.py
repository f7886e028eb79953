"""The plan compiler: one schema, one stream and the policy become one plan, or a list of problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tokenweir.core.compiler_output import OutputCompiler
from tokenweir.core.context import StreamContext, domain_of, topic_of
from tokenweir.core.fields import Classification, classify
from tokenweir.core.places import Places
from tokenweir.core.plan import OutputPlan, Plan, Rules, leaves
from tokenweir.core.schema import CONTAINERS, Kind, Node, Schema
from tokenweir.core.tagging import Problem

__all__ = ["Compiled", "StreamContext", "compile_plan", "domain_of", "topic_of"]


@dataclass(slots=True)
class Compiled:
    """A plan with what was found on the way; it may be run only where no problem is an error.

    ``unmatched`` are the path rules that match nothing in this schema; that is an error only if they match in no
    known version of the stream's schema.
    """

    plan: Plan
    classification: Classification
    problems: list[Problem]
    unmatched: list[str] = field(default_factory=list)


def compile_plan(
    context: StreamContext,
    schema: Schema,
    schema_id: int,
    metadata_tags: Mapping[str, Sequence[str]] | None = None,
) -> Compiled:
    """Compile one schema of a stream.

    Nothing is raised for what is wrong between policy and schema: all of it is in :attr:`Compiled.problems`.
    """
    stream = context.stream
    classification = classify(
        schema,
        tags=stream.tags,
        overlay=stream.fields,
        metadata_tags=metadata_tags or {},
        class_names=set(context.policy.classes),
    )
    problems = list(classification.problems)
    if context.policy.unclassified == "refuse":
        problems.extend(
            Problem(
                "unclassified-field",
                f"{_shown(node)} has no class",
                node.path,
                ("source",),
                f"tag it in the schema (confluent:tags) or name it under fields of stream '{context.name}'",
            )
            for node in classification.unclassified
        )
    places = Places(context.policy, context.table, stream, classification, problems)
    purposes = context.purposes()
    compiled = [
        OutputCompiler(
            context=context,
            output=output,
            index=index,
            classification=classification,
            places=places,
            purposes=purposes,
            problems=problems,
        ).compile()
        for index, output in enumerate(stream.outputs)
    ]
    # What leaves, and when, is the same in every epoch; only topic and keys differ.
    outputs = tuple(
        replace(compiled[each.index], topic=each.topic, epoch=each.epoch, active=each.active)
        for each in context.outputs()
    )
    leaving = {leaf.source.path for output in outputs for leaf in leaves(output.root)}
    scalars = [node for node in classification.schema.root.walk() if node.kind not in CONTAINERS]
    named = {action.token for output in outputs for rules in _all_rules(output) for action in rules.actions()}
    plan = Plan(
        stream=context.name,
        topic=stream.source.topic,
        format=stream.source.format,
        schema_id=schema_id,
        policy_digest=context.digest,
        source=classification.schema,
        purposes=purposes,
        subjects=places.subjects,
        anonymous=stream.no_subject == "anonymous",
        event_time=places.event_time,
        tokens={name: spec for name, spec in context.policy.tokens.items() if name in named},
        outputs=outputs,
        dropped=tuple(node.path for node in scalars if node.kind is not Kind.NULL and node.path not in leaving),
        unclassified=tuple(node.path for node in classification.unclassified),
    )
    return Compiled(plan, classification, _once(problems), unmatched=list(classification.unmatched_rules))


def _once(problems: list[Problem]) -> list[Problem]:
    """Drop repetitions: a fault that every audience meets is one fault."""
    return list(dict.fromkeys(problems))


def _all_rules(output: OutputPlan) -> list[Rules]:
    return [leaf.rules for leaf in leaves(output.root)] + list(output.key_rules)


def _shown(node: Node) -> str:
    return f"'{node.path}'" if node.path else "the value, which is no record,"
