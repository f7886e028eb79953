"""Give every place of a schema its class: from the policy's rules, the schema's tags and the registry's tags.

The strongest speaks: a rule of the policy, then the tags inside the schema, then the tags that the registry holds
beside it. A class covers what is below its place unless something below has a class of its own. Where anything is in
doubt (an unknown tag, rules that contradict each other) the place has no class at all, not even that of its
surroundings, and nothing below inherits through it: what has no class never leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from tokenweir.core.access import root_name
from tokenweir.core.paths import PathError, Pattern, last_name, parse_path
from tokenweir.core.schema import CONTAINERS, DEFAULT_LIMITS, Field, Kind, Node, Schema, segment
from tokenweir.core.tagging import Given, Problem, Problems, Tags, descends, narrowest, unknown_class
from tokenweir.errors import SchemaError

__all__ = ["Assigned", "Classification", "Override", "Problem", "classify", "name_keys"]


class Override(Protocol):
    """A rule that replaces a class which the schema gives, and says so (``{class, overrides, reason}``)."""

    @property
    def class_(self) -> str:
        """The class."""

    @property
    def overrides(self) -> str:
        """The class that the schema gives."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The class that a place itself has, and what gave it: the rule's path or the tag."""

    class_name: str
    origin: Literal["overlay", "tag", "metadata"]
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """Which class each place of one schema has. Nodes are compared by identity; use those of ``schema``.

    Attributes:
        schema: The schema, in which the keys that rules name are fields of their map.
        own: What places have a class of their own.
        key_class: The class of a map's keys, by the node of the map.
        problems: Everything that is wrong, once each.
        unclassified: Places that hold data and have no class.
        unmatched_rules: Rules of the policy that mean nothing in this schema; another version may have it.
    """

    schema: Schema
    own: Mapping[Node, Assigned]
    key_class: Mapping[Node, str]
    problems: list[Problem]
    unclassified: list[Node]
    unmatched_rules: list[str]
    _effective: Mapping[Node, str | None]

    def class_of(self, node: Node) -> str | None:
        """Return the node's own class or the one that covers it, or None if it has none and must not leave."""
        return self._effective[node]

    def whole(self, node: Node) -> bool:
        """Return whether a container's class covers every place below it alike, so that it can act on it as a whole.

        The keys of maps are no places: they have the class of ``key_class`` or none.
        """
        class_name = self._effective[node]
        is_covered = node.kind in CONTAINERS and class_name is not None
        return is_covered and all(self._effective[below] == class_name for below in node.walk())


def classify(
    schema: Schema,
    *,
    tags: Mapping[str, str],
    overlay: Mapping[str, str | Override],
    metadata_tags: Mapping[str, Sequence[str]],
    class_names: Collection[str],
) -> Classification:
    """Return the class of every place of ``schema``.

    Args:
        schema: The schema as parsed.
        tags: What a tag means: a class, or ``ignore``. A tag that is the name of a class needs no entry.
        overlay: Classes by path rule; they are stronger than tags and may contradict them only as :class:`Override`.
        metadata_tags: Tags by path, in the grammar of the registry or in ours, from the registry.
        class_names: The classes that the policy declares.

    Raises:
        SchemaError: If the keys that rules name make the schema larger than the limit.
    """
    problems = Problems()
    rules = _read_rules(overlay, class_names, problems)
    schema = name_keys(schema, [rule.pattern for rule in rules])
    tagged = Tags(schema, tags, metadata_tags, class_names, problems)
    return _Classifier(schema, rules, tagged, problems).run()


def name_keys(schema: Schema, patterns: Sequence[Pattern]) -> Schema:
    """Return the schema with a field in its map for every key that a pattern names, made of the map's value.

    Raises:
        SchemaError: If that makes the schema larger than the limit of nodes.
    """
    record = root_name(schema)
    renewed: dict[Node, Node] = {}
    size = 0

    def rebuild(node: Node, old: str, new: str, *, copied: bool) -> Node:
        nonlocal size
        size += 1
        if size > DEFAULT_LIMITS.schema_nodes:
            raise SchemaError(f"the map keys that rules name make more than {DEFAULT_LIMITS.schema_nodes} places", new)
        path = new + node.path[len(old) :]
        fields = [replace(entry, node=rebuild(entry.node, old, new, copied=copied)) for entry in node.fields]
        if node.kind is Kind.MAP and node.items is not None:
            for key, naming in _keys_named_in(path, patterns, record).items():
                place = f"{path}{{{segment(key)}}}"
                value = rebuild(node.items, node.items.path, place, copied=True)
                # A rule that leads nowhere below the key does not make the key leave.
                if any(_means_a_place(pattern, value, record) for pattern in naming):
                    fields.append(Field(key, value, required=False))
        items = node.items and rebuild(node.items, old, new, copied=copied)
        branches = tuple(rebuild(branch, old, new, copied=copied) for branch in node.branches)
        result = replace(node, path=path, fields=tuple(fields), items=items, branches=branches)
        if not copied:
            renewed[node] = result
        return result

    if not any(pattern.names_keys for pattern in patterns):
        return schema
    root = rebuild(schema.root, "", "", copied=False)
    return Schema(root, schema.format, {name: renewed.get(node, node) for name, node in schema.types.items()})


def _keys_named_in(map_path: str, patterns: Sequence[Pattern], record: str) -> dict[str, list[Pattern]]:
    named: dict[str, list[Pattern]] = {}
    for pattern in patterns:
        for key in pattern.keys_named_in(map_path, record):
            named.setdefault(key, []).append(pattern)
    return named


def _means_a_place(pattern: Pattern, root: Node, record: str) -> bool:
    return any(
        pattern.matches(node.path, record)
        or (node.kind is Kind.MAP and pattern.matches(f"{node.path}{{@key}}", record))
        for node in root.walk()
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    pattern: Pattern
    class_name: str
    overrides: str | None
    is_known: bool

    @property
    def key(self) -> tuple[str, str]:
        return "fields", self.text


def _read_rules(overlay: Mapping[str, str | Override], class_names: Collection[str], problems: Problems) -> list[_Rule]:
    rules = []
    for text, entry in overlay.items():
        class_name, overrides = (entry, None) if isinstance(entry, str) else (entry.class_, entry.overrides)
        try:
            pattern = Pattern.parse(text)
        except PathError as error:
            problems.add(Problem("bad-path", str(error), "", ("fields", text), error.remedy))
            continue
        rules.append(_Rule(text, pattern, class_name, overrides, class_name in class_names))
        if class_name not in class_names:
            problems.add(unknown_class(class_name, ("fields", text), class_names))
    return rules


@dataclass(slots=True)
class _Classifier:
    """Brings rules and tags together, place by place, and spreads the classes over the tree."""

    schema: Schema
    rules: list[_Rule]
    tagged: Tags
    problems: Problems
    own: dict[Node, Assigned] = field(default_factory=dict)
    key_class: dict[Node, str] = field(default_factory=dict)
    uncertain: set[Node] = field(default_factory=set)
    matched: set[str] = field(default_factory=set)
    effective: dict[Node, str | None] = field(default_factory=dict)
    unclassified: list[Node] = field(default_factory=list)
    #: What the nearest tag at or around a place gives to everything in it.
    inside: dict[Node, Given] = field(default_factory=dict)
    parents: dict[Node, Node] = field(default_factory=dict)
    #: Rules by the name in which they end, None for those that end otherwise: a wide schema has as many rules as
    #: places, and comparing each with each would take seconds.
    by_name: dict[str | None, list[_Rule]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in self.rules:
            self.by_name.setdefault(rule.pattern.last_name, []).append(rule)

    def run(self) -> Classification:
        # An optional field and the union round it have one path: they are one place.
        places: dict[str, list[Node]] = {}
        for node in self.schema.root.walk():
            places.setdefault(node.path, []).append(node)
            self.parents |= dict.fromkeys(node.children(), node)
        for path, nodes in places.items():
            self._decide(path, nodes)
            for node in nodes:
                if node.kind is Kind.MAP:
                    self._decide_keys(node)
        self._spread(self.schema.root, None, in_union=False)
        self.tagged.report_unused()
        return Classification(
            schema=self.schema,
            own=self.own,
            key_class=self.key_class,
            problems=list(self.problems.found.values()),
            unclassified=self.unclassified,
            unmatched_rules=[rule.text for rule in self.rules if rule.text not in self.matched],
            _effective=self.effective,
        )

    def _decide(self, path: str, nodes: Sequence[Node]) -> None:
        """Give the nodes of one place their own class, or note that it cannot be told."""
        given = self.tagged.at(path, nodes)
        covering = given if given.classes else self._around(nodes[0])
        is_clear, rule = self._rule_at(path)
        assigned = None
        if rule is not None:
            is_clear = is_clear and self._may_replace(path, rule, covering)
            if rule.overrides is not None and covering.classes:
                # From here down the tag is replaced; a rule that only refines it leaves it standing.
                covering = Given((rule.class_name,), place=path)
            assigned = Assigned(rule.class_name, "overlay", rule.text)
        elif given.conflict is not None:
            self.problems.add(given.conflict)
            is_clear = False
        elif given.classes:
            assigned = Assigned(given.classes[0], given.origin, given.tag)
        if given.is_uncertain or not is_clear:
            self.uncertain.update(nodes)
        elif assigned is not None:
            self.own |= dict.fromkeys(nodes, assigned)
        self.inside |= dict.fromkeys(nodes, covering)

    def _around(self, node: Node) -> Given:
        parent = self.parents.get(node)
        return Given() if parent is None else self.inside[parent]

    def _decide_keys(self, node: Node) -> None:
        path = f"{node.path}{{@key}}"
        is_clear, rule = self._rule_at(path)
        # A tag on a map gives its keys no class, but it speaks of them as of everything in the map.
        if rule is not None and is_clear and self._may_replace(path, rule, self.inside[node]):
            self.key_class[node] = rule.class_name

    def _rule_at(self, path: str) -> tuple[bool, _Rule | None]:
        """Return whether the rules are clear about a place, and the rule that wins there, if any."""
        record = root_name(self.schema)
        name = last_name(parse_path(path))
        candidates = [*self.by_name.get(name, ()), *self.by_name.get(None, ())] if name else self.by_name.get(None, ())
        matching = [rule for rule in candidates if rule.pattern.matches(path, record)]
        if not matching:
            return True, None
        self.matched.update(rule.text for rule in matching)
        best = max(rule.pattern.rank for rule in matching)
        strongest = [rule for rule in matching if rule.pattern.rank == best]
        winners = narrowest(rule.class_name for rule in strongest)
        # Of rules that give the same class, one that says what it overrides says more.
        chosen = [rule for rule in strongest if rule.class_name == winners[0]]
        rule = next((rule for rule in chosen if rule.overrides is not None), chosen[0])
        if len(winners) > 1:
            texts = ", ".join(f"`{rule.text}`" for rule in strongest if rule.class_name in winners)
            message = f"several rules give it different classes: {texts}"
            self.problems.add(Problem("overlay-conflict", message, path, rule.key, f"add a rule for exactly `{path}`"))
            return False, rule
        return rule.is_known, rule

    def _may_replace(self, path: str, rule: _Rule, given: Given) -> bool:
        """Check a rule against the classes that the schema gives, at its place or at the nearest that has a tag."""
        listed = ", ".join(f"`{name}`" for name in given.classes)
        around = "" if given.place == path else f" at `{given.place or '(root)'}` to everything in it"
        if rule.overrides is None:
            contradicted = [name for name in given.classes if not descends(rule.class_name, name)]
            if contradicted:
                message = f"`{rule.class_name}` contradicts {listed}, which the schema gives{around}"
                remedy = f"write {{class: {rule.class_name}, overrides: {contradicted[0]}, reason: …}}"
                self.problems.add(Problem("overlay-contradicts-tag", message, path, rule.key, remedy))
            return not contradicted
        if not given.classes:
            # Not an error: versions of a schema from before the tag are read by the same rule.
            message = f"the schema gives no class that `{rule.class_name}` would override"
            remedy = "write only the class, unless another version gives one"
            self.problems.add(Problem("override-unused", message, path, rule.key, remedy, severity="warning"))
            return True
        if rule.overrides not in given.classes:
            message = f"`overrides` names `{rule.overrides}`, but the schema gives {listed}{around}"
            self.problems.add(Problem("override-mismatch", message, path, rule.key, "name the class that it gives"))
        return rule.overrides in given.classes

    def _spread(self, node: Node, inherited: str | None, *, in_union: bool) -> None:
        """Give each node its own class or the one that covers it."""
        own = self.own.get(node)
        class_name = None if node in self.uncertain else own.class_name if own else inherited
        self.effective[node] = class_name
        is_null_branch = in_union and node.kind is Kind.NULL
        if class_name is None and node.kind not in CONTAINERS and not is_null_branch:
            self.unclassified.append(node)
        for child in node.children():
            self._spread(child, class_name, in_union=node.kind is Kind.UNION)
