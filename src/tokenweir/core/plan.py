"""The compiled plan: what happens to every place of one schema, for every output of one stream.

A plan is made once per (topic, schema id, policy digest, epochs) and is plain data: trees of frozen dataclasses that
:meth:`Plan.plain` turns into lists, dicts, numbers and texts, so that any engine can run it. Purpose limitation is
decided here; what is left for run time is one bit mask of the purposes that pass for a record.

A place that has no rule which could let it out is not in the tree at all: nothing leaves by being forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from tokenweir.core.generalize.specs import GeneralizeSpec, KeyedSpec, PairSpec
from tokenweir.core.policy.models import Form
from tokenweir.core.schema import Node, Schema
from tokenweir.core.tokens.specs import TokenSpec

ActionKind = Literal["keep", "tokenize", "generalize", "drop"]


@dataclass(frozen=True, slots=True)
class Action:
    """What is done to a value. ``token`` names the entry of a tokenize, ``generalize`` is its specification."""

    kind: ActionKind
    token: str = ""
    generalize: GeneralizeSpec | None = None

    @property
    def pair(self) -> PairSpec | None:
        """The specification, where it works on both members of a pair of coordinates at once."""
        return self.generalize if isinstance(self.generalize, PairSpec) else None

    @property
    def keyed(self) -> KeyedSpec | None:
        """The specification, where it depends on a key and on whom the record is about."""
        return self.generalize if isinstance(self.generalize, KeyedSpec) else None


@dataclass(frozen=True, slots=True)
class Rule:
    """An action, and the purposes that must all pass for it: bits in the order of :attr:`Plan.purposes`."""

    when: int
    action: Action


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one class for one audience, as far as they can match there; the first that matches wins.

    ``person`` marks what links to a person, which a record without a subject never shows.
    """

    class_name: str
    rules: tuple[Rule, ...]
    person: bool
    reject_invalid: bool = False

    def action(self, passed: int, *, anonymous: bool) -> Action | None:
        """Return the action for a record for which the purposes ``passed`` pass, or None where it is withheld.

        What depends on a person is withheld from a record about nobody; a later rule does not take its place.
        """
        if anonymous and self.person:
            return None
        for rule in self.rules:
            if passed & rule.when == rule.when:
                withheld = rule.action.kind == "drop" or (anonymous and rule.action.keyed is not None)
                return None if withheld else rule.action
        return None

    @property
    def unconditional(self) -> bool:
        """Whether the first rule always matches."""
        return bool(self.rules) and self.rules[0].when == 0

    def actions(self) -> Iterator[Action]:
        """Yield each action that lets something out, once, in the order of the rules."""
        seen: list[Action] = []
        for rule in self.rules:
            if rule.action.kind != "drop" and rule.action not in seen:
                seen.append(rule.action)
                yield rule.action


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A scalar place. ``form`` is set where its class is the id of a subject type.

    ``subject`` marks where the record says whom it is about: an id there that has no token rejects the record.
    """

    source: Node
    rules: Rules
    form: Form | None = None
    subject: bool = False
    #: Indexes of latitude and longitude among the fields of the record around, where this leaf is one of them.
    pair: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RecordField:
    """A field of a record that may leave. ``always`` fields are never null or absent."""

    index: int
    name: str
    always: bool
    value: Out


@dataclass(frozen=True, slots=True, eq=False)
class RecordOut:
    """A record of which at least one field may leave. ``gate`` is set where a class acts on it as a whole."""

    source: Node
    fields: tuple[RecordField, ...]
    gate: Rules | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ArrayOut:
    """An array whose elements may leave."""

    source: Node
    items: Out
    gate: Rules | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MapOut:
    """A map: entries that are named, and all others where the keys themselves have a class that is kept.

    ``dropped`` has the named entries of which nothing leaves, so that they do not pass for others.
    """

    source: Node
    named: tuple[tuple[str, Out], ...]
    values: Out | None
    keys: Rules | None
    gate: Rules | None = None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class UnionOut:
    """A union: per branch of the source what becomes of it, None for null and for branches that never leave.

    ``invalid`` has the branches on which no treatment of their class can work; their values are invalid.
    """

    source: Node
    branches: tuple[Out | None, ...]
    invalid: tuple[int, ...] = ()
    gate: Rules | None = None


Out = Leaf | RecordOut | ArrayOut | MapOut | UnionOut


@dataclass(frozen=True, slots=True)
class SubjectSource:
    """Where a record says whom it is about: a path in the value, the text key, or a header.

    ``null_values`` are ids that mean nobody.
    """

    type: str
    origin: Literal["value", "key", "header"]
    path: str
    form: Form
    class_name: str
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Requires:
    """Without these purposes nothing of a record leaves: all of ``mask``, or one of it."""

    all: bool
    mask: int

    def met(self, passed: int) -> bool:
        """Return whether the purposes ``passed`` suffice; without any purpose to require, nothing does."""
        met = passed & self.mask
        return bool(met) and (not self.all or met == self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class OutputPlan:
    """One output: who gets it, when a record leaves, and what of it.

    Attributes:
        audience: Name of the audience.
        topic: Name of the sanitized topic, which belongs to the epoch.
        domain: Key domain of its tokens.
        epoch: Epoch of that domain's root.
        recipients: Ids of who reads it, for denials that name a recipient.
        served: Mask of the audience's purposes.
        requires: Which purposes a record needs.
        key: ``subject`` or ``none``.
        key_rules: Per entry of :attr:`Plan.subjects` the rules of that subject's class, for the record key.
        timestamp: What stays of the record's timestamp.
        headers: Exact names of the headers that leave.
        person_headers: Those of them that link to a person, which a record without a subject never shows.
        tombstones: Whether the record key follows from the raw key alone, so that a null value can be forwarded.
        root: What leaves of the value, None where nothing can.
        active: Whether the epoch is the newest; an output of an older one is fed beside it.
    """

    audience: str
    topic: str
    domain: str
    epoch: int
    recipients: tuple[str, ...]
    served: int
    requires: Requires
    key: Literal["subject", "none"]
    key_rules: tuple[Rules, ...]
    timestamp: Literal["keep", "hour", "day"]
    headers: tuple[str, ...]
    root: Out | None
    person_headers: tuple[str, ...] = ()
    tombstones: bool = False
    active: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything that an engine needs to sanitize the records of one schema of one stream.

    ``tokens`` holds the entries that its actions name. ``anonymous`` says that records without a subject may leave.
    ``event_time`` is the path of the event's own time, "" for none.
    """

    stream: str
    topic: str
    format: Literal["avro", "json_schema", "json"]
    schema_id: int
    policy_digest: str
    source: Schema
    purposes: tuple[str, ...]
    subjects: tuple[SubjectSource, ...]
    anonymous: bool
    event_time: str
    tokens: Mapping[str, TokenSpec]
    outputs: tuple[OutputPlan, ...]
    dropped: tuple[str, ...] = ()
    unclassified: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the whole plan as lists, dicts, numbers, texts and None, ready for JSON."""
        plain: dict[str, Any] = {"version": PLAN_VERSION, **to_plain(self)}
        return plain


#: Version of the plan's plain form; an engine refuses one that it does not know.
PLAN_VERSION: Final = 1

_TYPE_NAMES: Final[dict[type, str]] = {
    Leaf: "leaf",
    RecordOut: "record",
    ArrayOut: "array",
    MapOut: "map",
    UnionOut: "union",
}


def to_plain(value: Any) -> Any:  # noqa: ANN401 - it walks a tree of many types
    """Turn dataclasses, models, mappings and tuples into what JSON can hold; tree nodes get their type as ``op``."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if is_dataclass(value) and not isinstance(value, type):
        plain = {entry.name: to_plain(getattr(value, entry.name)) for entry in fields(value)}
        name = _TYPE_NAMES.get(type(value))
        return {"op": name, **plain} if name else plain
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def leaves(out: Out | None) -> Iterator[Leaf]:
    """Yield all leaves of a tree, in the order of the schema."""
    match out:
        case None:
            return
        case Leaf():
            yield out
        case RecordOut():
            for entry in out.fields:
                yield from leaves(entry.value)
        case ArrayOut():
            yield from leaves(out.items)
        case MapOut():
            for _, value in out.named:
                yield from leaves(value)
            yield from leaves(out.values)
        case UnionOut():
            for branch in out.branches:
                yield from leaves(branch)
