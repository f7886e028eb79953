"""What one output of a stream gets of one schema: the tree of all that may leave, and when a record leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenweir.core import paths
from tokenweir.core.context import StreamContext, domain_of, topic_of
from tokenweir.core.epochs import FIRST_EPOCH
from tokenweir.core.fields import Classification
from tokenweir.core.generalize.build import build as build_generalizer
from tokenweir.core.generalize.specs import CellSpec, PairSpec, ShiftSpec
from tokenweir.core.places import Places
from tokenweir.core.plan import (
    Action,
    ArrayOut,
    Leaf,
    MapOut,
    Out,
    OutputPlan,
    RecordField,
    RecordOut,
    Requires,
    Rule,
    Rules,
    UnionOut,
)
from tokenweir.core.policy.models import AnyOf, Do, Generalize, Output, Tokenize
from tokenweir.core.schema import CONTAINERS, Kind, Node
from tokenweir.core.tagging import Problem, descends
from tokenweir.core.tokenfit import misfit
from tokenweir.errors import SchemaError


class OutputCompiler:
    """Compiles what one output gets of one schema."""

    def __init__(  # noqa: PLR0913 - it is made in one place
        self,
        *,
        context: StreamContext,
        output: Output,
        index: int,
        classification: Classification,
        places: Places,
        purposes: tuple[str, ...],
        problems: list[Problem],
    ) -> None:
        self._context = context
        self._output = output
        self._index = index
        self._classification = classification
        self._places = places
        self._bits = {name: 1 << position for position, name in enumerate(purposes)}
        self._problems = problems
        self._forms = {kind.class_: kind.form for kind in context.policy.subjects.values()}
        self._rules_cache: dict[str, Rules] = {}

    def compile(self) -> OutputPlan:
        """Return the output's plan in the first epoch."""
        policy = self._context.policy
        audience = policy.audiences[self._output.audience]
        domain = domain_of(policy, self._output.audience)
        served = self._mask(audience.purposes)
        key_rules = tuple(self._rules(subject.class_name) for subject in self._places.subjects)
        if self._output.key == "subject":
            tokenized = any(action.kind == "tokenize" for rules in key_rules for action in rules.actions())
            if not tokenized:
                self._problem(
                    "key-not-tokenized",
                    f"key: subject, but no subject's class is tokenized for audience '{self._output.audience}'",
                    "",
                    ("outputs", str(self._index), "key"),
                    "tokenize the subject's class for this audience, or say key: none",
                )
        self._check_ids()
        headers = self._headers()
        internal = all(recipient.role == "internal" for recipient in audience.recipients)
        return OutputPlan(
            audience=self._output.audience,
            topic=topic_of(self._context.stream, self._output),
            domain=domain,
            epoch=FIRST_EPOCH,
            recipients=tuple(sorted(recipient.id for recipient in audience.recipients)),
            served=served,
            requires=self._requires(served),
            key=self._output.key,
            key_rules=key_rules,
            timestamp=self._output.timestamp or ("keep" if internal else "day"),
            headers=headers,
            person_headers=tuple(name for name in headers if self._rules(self._context.stream.headers[name]).person),
            tombstones=self._output.key == "subject" and self._key_is_first(),
            root=self._compile(self._classification.schema.root, gated=False),
        )

    def _key_is_first(self) -> bool:
        """Return whether the raw key says whom a record is about before anything else can."""
        try:
            return paths.SourcePath.parse(self._context.stream.subjects[0].path).origin == "key"
        except paths.PathError:
            return False

    def _check_ids(self) -> None:
        """Refuse to let out the id of a subject under another class than that of the subject."""
        stream = self._context.stream
        for node, index in self._places.subject_nodes.items():
            self._check_id(index, self._classification.class_of(node), node.path)
        for index, subject in enumerate(self._places.subjects):
            if subject.origin == "header" and subject.path in stream.headers:
                self._check_id(index, stream.headers[subject.path], "")

    def _check_id(self, index: int, class_name: str | None, path: str) -> None:
        subject = self._places.subjects[index]
        if class_name is None or class_name == subject.class_name or not self._rules(class_name).rules:
            return
        self._problem(
            "subject-class",
            f"an id of subject '{subject.type}' has the class '{class_name}', not '{subject.class_name}'",
            path,
            ("subjects",),
            f"give it the class '{subject.class_name}', or one that drops",
        )

    def _mask(self, names: Sequence[str]) -> int:
        return sum(self._bits[name] for name in set(names) if name in self._bits)

    def _requires(self, served: int) -> Requires:
        match self._output.requires:
            case AnyOf(any=names):
                return Requires(all=False, mask=self._mask(names) & served)
            case "any":
                return Requires(all=False, mask=served)
            case names if all(self._bits.get(name, 0) & served for name in names):
                return Requires(all=True, mask=self._mask(names))
            case _:
                # A purpose that is not served can never pass, so that nothing can ever leave.
                return Requires(all=True, mask=0)

    def _headers(self) -> tuple[str, ...]:
        kept = []
        for name, class_name in self._context.stream.headers.items():
            rules = self._rules(class_name)
            if rules.unconditional and rules.rules[0].action.kind == "keep":
                kept.append(name)
        return tuple(kept)

    def _problem(self, rule: str, message: str, path: str, policy_key: tuple[str, ...], remedy: str) -> None:
        self._problems.append(Problem(rule, message, path, policy_key, remedy))

    def _rules(self, class_name: str) -> Rules:
        """Return the rules of a class for this audience, with purposes as bits."""
        cached = self._rules_cache.get(class_name)
        if cached is None:
            table = self._context.table
            resolved = table.rules(class_name, self._output.audience)
            cached = self._rules_cache[class_name] = Rules(
                class_name,
                tuple(Rule(self._mask(tuple(rule.when)), _action(rule.do)) for rule in resolved),
                person=table.links(class_name) == "person" or self._is_id(class_name),
                reject_invalid=table.on_invalid(class_name) == "reject",
            )
        return cached

    def _is_id(self, class_name: str) -> bool:
        """Return whether the class is that of a subject's ids, or below it; such a class always links to a person."""
        return any(descends(class_name, subject_class) for subject_class in self._forms)

    def _compile(self, node: Node, *, gated: bool) -> Out | None:
        """Compile one place; ``gated`` says that a class above already acts on all of it as a whole."""
        class_name = self._classification.class_of(node)
        gate = None
        if node.kind in CONTAINERS and not gated and class_name is not None and self._classification.whole(node):
            gate = self._rules(class_name)
            if not gate.rules:
                return None
            gated = True
        out: Out | None = None
        match node.kind:
            case Kind.NULL:
                pass
            case Kind.RECORD:
                out = self._record(node, gate, gated=gated)
            case Kind.ARRAY:
                items = self._compile(_items(node), gated=gated)
                out = None if items is None else ArrayOut(node, items, gate)
            case Kind.MAP:
                out = self._map(node, gate, gated=gated)
            case Kind.UNION:
                out = self._union(node, gate, gated=gated)
            case _:
                out = self._leaf(node, self._problems.append)
        return out

    def _record(self, node: Node, gate: Rules | None, *, gated: bool) -> Out | None:
        fields = []
        for index, entry in enumerate(node.fields):
            value = self._compile(entry.node, gated=gated)
            if value is not None:
                fields.append(
                    RecordField(index, entry.name, self._always(entry.node, value, required=entry.required), value)
                )
        return RecordOut(node, tuple(fields), gate) if fields else None

    def _always(self, node: Node, value: Out, *, required: bool) -> bool:
        class_name = self._classification.class_of(node)
        if class_name is None or not self._context.table.always(class_name):
            return False
        if not _always_kept(value, anonymous=self._context.stream.no_subject == "anonymous"):
            return False
        if not required:
            self._problem(
                "always-optional",
                f"class '{class_name}' says always, but '{node.path}' is not required by the schema",
                node.path,
                ("fields",),
                "require the property in the schema, or take always away",
            )
        return required

    def _map(self, node: Node, gate: Rules | None, *, gated: bool) -> Out | None:
        named = tuple(
            (entry.name, value)
            for entry in node.fields
            if (value := self._compile(entry.node, gated=gated)) is not None
        )
        keys = values = None
        key_class = self._classification.key_class.get(node)
        if key_class is not None:
            rules = self._rules(key_class)
            if any(action.kind != "keep" for action in rules.actions()):
                self._problem(
                    "map-keys",
                    f"keys of '{node.path}' can only be kept or dropped",
                    node.path,
                    ("fields",),
                    "give m{@key} a class that is kept",
                )
            elif rules.rules:
                values = self._compile(_items(node), gated=gated)
                keys = None if values is None else rules
        if not named and values is None:
            return None
        leaving = {name for name, _ in named}
        dropped = tuple(entry.name for entry in node.fields if entry.name not in leaving)
        return MapOut(node, named, values, keys, gate, dropped)

    def _union(self, node: Node, gate: Rules | None, *, gated: bool) -> Out | None:
        several = node.optional_of is None
        branches_out: list[Out | None] = []
        invalid: list[int] = []
        faults: list[Problem] = []
        for index, branch in enumerate(node.branches):
            found: list[Problem] = []
            if several and branch.kind not in CONTAINERS and branch.kind is not Kind.NULL:
                out = self._leaf(branch, found.append)
            else:
                out = self._compile(branch, gated=gated)
            if found:
                invalid.append(index)
                faults.extend(found)
                out = None
            branches_out.append(out)
        self._check_branches(node)
        if all(branch is None for branch in branches_out):
            # With one good branch the others are merely invalid; with none the class cannot work here at all.
            self._problems.extend(faults)
            return None
        return UnionOut(node, tuple(branches_out), tuple(invalid), gate)

    def _check_branches(self, node: Node) -> None:
        """Refuse branches that a value cannot be told apart by, where one would let out what the other does not."""
        for first, second in self._places.confused.get(node, ()):
            name = self._places.class_at(first)
            if name is not None and name != self._places.class_at(second) and self._rules(name).rules:
                one, other = (
                    f"{place.path}{{@key}}" if place.kind is Kind.MAP else place.path for place in (first, second)
                )
                self._problem(
                    "ambiguous-union",
                    f"a value cannot be told to be '{one}' or '{other}', and they have different classes",
                    node.path,
                    ("fields",),
                    "give both the same class, or tell the branches apart by a required property with an enum",
                )
                return

    def _leaf(self, node: Node, report: Callable[[Problem], None]) -> Out | None:
        class_name = self._classification.class_of(node)
        if class_name is None:
            return None
        rules = self._rules(class_name)
        if not rules.rules:
            return None
        if node.kind in {Kind.REFERENCE, Kind.ANY}:
            self._refuse(node, class_name)
            return None
        pair = self._places.pairs.get(node)
        usable = []
        for rule in rules.rules:
            action = rule.action
            if action.pair is not None and pair is None and node in self._places.beside_pairs:
                # The rest of a record whose coordinates become another point says too much about the place.
                action = Action("drop")
            fault = self._fault(action, node, pair)
            if fault:
                report(
                    Problem(
                        "treatment-type",
                        f"class '{class_name}' at '{node.path}': {fault}",
                        node.path,
                        ("source",),
                        "choose a treatment that fits the type, or another class",
                    )
                )
                return None
            usable.append(Rule(rule.when, action))
        while usable and usable[-1].action.kind == "drop":
            usable.pop()
        if not usable:
            return None
        kept = Rules(class_name, tuple(usable), person=rules.person, reject_invalid=rules.reject_invalid)
        subject = node in self._places.subject_nodes
        return Leaf(node, kept, self._forms.get(class_name), subject, pair)

    def _refuse(self, node: Node, class_name: str) -> None:
        """Report a place that can only be dropped, because what stands there is without end or not described."""
        what = "the schema does not say what stands there"
        if node.kind is Kind.REFERENCE:
            what = f"the type '{node.name}' contains itself"
        lets_out = f"but class '{class_name}' lets it out for audience '{self._output.audience}'"
        message = f"{what}, so '{node.path}' can only be dropped, {lets_out}"
        self._problem("cannot-treat", message, node.path, ("fields",), "give the field a class that drops")

    def _fault(self, action: Action, node: Node, pair: tuple[int, int] | None) -> str:
        """Return why the action cannot work on this type, "" where it can."""
        if action.kind == "tokenize":
            return misfit(self._context.policy.tokens[action.token], node)
        if action.generalize is None:
            return ""
        if action.pair is not None:
            return _pair_fault(action.pair, node, pair)
        if isinstance(action.generalize, ShiftSpec) and node in self._places.event_time_nodes:
            return (
                "at least the day of the record's timestamp leaves, which tells by how many days the event time moved"
            )
        try:
            build_generalizer(action.generalize, node)
        except SchemaError as error:
            return error.message
        return ""


def _pair_fault(spec: PairSpec, node: Node, pair: tuple[int, int] | None) -> str:
    if pair is None:
        what = "a cell" if isinstance(spec, CellSpec) else "noise"
        return f"{what} needs a latitude and a longitude: name both under pairs"
    return "" if node.kind in {Kind.FLOAT, Kind.DOUBLE, Kind.NUMBER} else f"a coordinate cannot be a {node.kind}"


def _action(do: Do) -> Action:
    match do:
        case Tokenize(tokenize=entry):
            return Action("tokenize", token=entry)
        case Generalize(generalize=spec):
            return Action("generalize", generalize=spec)
        case "keep":
            return Action("keep")
        case _:
            return Action("drop")


def _items(node: Node) -> Node:
    if node.items is None:
        raise SchemaError("an array or map without items", node.path)
    return node.items


def _always_kept(out: Out, *, anonymous: bool) -> bool:
    """Return whether nothing of a place can go at run time, so that it can be declared as always there."""
    match out:
        case Leaf():
            kept = out.rules.unconditional and out.rules.rules[0].action.kind == "keep"
            return kept and not (anonymous and out.rules.person)
        case UnionOut():
            return not out.invalid and all(
                source.kind is Kind.NULL if branch is None else _always_kept(branch, anonymous=anonymous)
                for branch, source in zip(out.branches, out.source.branches, strict=True)
            )
        case _:
            return False
