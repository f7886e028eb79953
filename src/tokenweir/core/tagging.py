"""Understand the tags of a schema, inline and from the registry, as classes of the policy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Final, Literal

from tokenweir.core.access import root_name
from tokenweir.core.globs import Glob
from tokenweir.core.paths import PathError, Pattern, last_name, parse_path
from tokenweir.core.schema import Kind, Node, Schema
from tokenweir.errors import SchemaError

_IGNORE: Final = "ignore"

# The registry's tags come from whoever may write to the registry: they must not stop the planner.
_MAX_METADATA_PATTERNS: Final = 1_000
_MAX_METADATA_CHARACTERS: Final = 512
#: Steps of comparing tags of the registry with places, about 0.3 microseconds each.
_MAX_METADATA_STEPS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault between policy and schema; ``policy_key`` is the place in the stream, empty if the schema is at fault."""

    rule: str
    message: str
    path: str = ""
    policy_key: tuple[str, ...] = ()
    remedy: str = ""
    severity: Literal["error", "warning"] = "error"


class Problems:
    """Collects problems; one that is found at many places is reported at the first."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, ...], Problem] = {}

    def add(self, problem: Problem, *, once_per: tuple[str, ...] = ()) -> None:
        """Keep the problem unless its like is known: the same place, or the same ``once_per``."""
        self.found.setdefault((problem.rule, *(once_per or (problem.path, *problem.policy_key))), problem)


def descends(class_name: str, ancestor: str) -> bool:
    """Return whether a class is ``ancestor`` or below it: dots are a hierarchy."""
    return class_name == ancestor or class_name.startswith(ancestor + ".")


def narrowest(class_names: Iterable[str]) -> list[str]:
    """Return the classes of which no other one given descends; several if they contradict each other."""
    given = list(dict.fromkeys(class_names))
    return [name for name in given if not any(other != name and descends(other, name) for other in given)]


def unknown_class(class_name: str, policy_key: tuple[str, ...], class_names: Collection[str]) -> Problem:
    """Return the problem that a rule or tag gives a class which the policy does not declare."""
    similar = " or ".join(f"`{name}`" for name in get_close_matches(class_name, list(class_names)))
    remedy = f"did you mean {similar}?" if similar else "declare it in `classes`"
    return Problem("unknown-class", f"there is no class `{class_name}`", "", policy_key, remedy)


@dataclass(frozen=True, slots=True)
class Given:
    """What the tags at one place say: no class, one class, or several that contradict each other.

    ``place`` is the path of the place, which may be one around that of which it is asked.
    """

    classes: tuple[str, ...] = ()
    origin: Literal["tag", "metadata"] = "tag"
    tag: str = ""
    conflict: Problem | None = None
    is_uncertain: bool = False  # A tag here is not understood, so no other answer can be trusted either.
    place: str = ""


class Tags:
    """The tags of a schema, inline and from the registry, understood as classes.

    Raises:
        SchemaError: If the registry's tags are too many, too long, or too costly to compare with the places.
    """

    def __init__(
        self,
        schema: Schema,
        tags: Mapping[str, str],
        metadata_tags: Mapping[str, Sequence[str]],
        class_names: Collection[str],
        problems: Problems,
    ) -> None:
        self.tags = tags
        self.class_names = class_names
        self.problems = problems
        self.used: set[str] = set()
        #: What the registry says of a place: the list of tags of each of its patterns that means the place.
        self.metadata: dict[str, list[Sequence[str]]] = {}
        self._read_metadata(schema, metadata_tags)

    def _read_metadata(self, schema: Schema, metadata_tags: Mapping[str, Sequence[str]]) -> None:
        """Find what the registry's tags speak of."""
        if not metadata_tags:
            return
        if len(metadata_tags) > _MAX_METADATA_PATTERNS:
            raise SchemaError(f"the registry tags more than {_MAX_METADATA_PATTERNS} paths")
        if any(len(text) > _MAX_METADATA_CHARACTERS for text in metadata_tags):
            raise SchemaError(f"the registry tags a path of more than {_MAX_METADATA_CHARACTERS} characters")
        places = _MetadataPlaces(schema)
        for text, tags in metadata_tags.items():
            paths = dict.fromkeys(places.meant(text))
            places.spend(len(paths) * len(tags))
            for path in paths:
                self.metadata.setdefault(path, []).append(tags)
            if not paths:
                message = f"the registry tags `{text}`, which is no field of the schema"
                self.problems.add(
                    Problem("unmatched-metadata", message, severity="warning", remedy="correct `metadata.tags`"),
                    once_per=(text,),
                )

    def at(self, path: str, nodes: Sequence[Node]) -> Given:
        """Return what the tags of the nodes at one path say together."""
        inline = self._understand(path, dict.fromkeys(tag for node in nodes for tag in node.tags))
        metadata = self._understand(path, dict.fromkeys(chain.from_iterable(self.metadata.get(path, ()))))
        is_uncertain = None in inline.values() or None in metadata.values()
        by_inline = narrowest(name for name in inline.values() if name)
        by_metadata = narrowest(name for name in metadata.values() if name)
        classes = narrowest([*by_inline, *by_metadata])
        if not classes:
            return Given(is_uncertain=is_uncertain, place=path)
        conflict = None
        if len(classes) > 1:
            disagree = len(by_inline) == len(by_metadata) == 1
            rule = "tags-disagree" if disagree else "tags-conflict"
            where = "the schema and the registry give" if disagree else "its tags give"
            message = f"{where} different classes: {', '.join(f'`{name}`' for name in classes)}"
            remedy = "correct the tags, map one to `ignore`, or give the field a class with `overrides`"
            conflict = Problem(rule, message, path, (), remedy)
        is_inline = classes[0] in by_inline
        sources = inline if is_inline else metadata
        tag = next(tag for tag, name in sources.items() if name == classes[0])
        return Given(tuple(classes), "tag" if is_inline else "metadata", tag, conflict, is_uncertain, path)

    def _understand(self, path: str, tags: Iterable[str]) -> dict[str, str | None]:
        """Return the class of each tag, None for those that are not understood; ignored ones are left out."""
        understood: dict[str, str | None] = {}
        for tag in tags:
            if tag in self.tags:
                self.used.add(tag)
                class_name = self.tags[tag]
                if class_name == _IGNORE:
                    continue
                if class_name not in self.class_names:
                    self.problems.add(unknown_class(class_name, ("tags", tag), self.class_names))
            else:
                class_name = tag
                if class_name not in self.class_names:
                    message = f"the tag `{tag}` means nothing in this policy"
                    remedy = f"add `{tag}` to `tags` with a class or `ignore`"
                    self.problems.add(Problem("unknown-tag", message, path, ("tags", tag), remedy), once_per=(tag,))
            understood[tag] = class_name if class_name in self.class_names else None
        return understood

    def report_unused(self) -> None:
        """Warn of entries in ``tags`` that nothing used; call it after every place was asked for."""
        for tag in self.tags:
            if tag not in self.used:
                message = f"no field has the tag `{tag}`"
                self.problems.add(
                    Problem("unused-tag", message, "", ("tags", tag), "remove the entry", severity="warning")
                )


class _MetadataPlaces:
    """The places of a schema as the registry may name them: by its own names, or by path."""

    def __init__(self, schema: Schema) -> None:
        self._record = root_name(schema)
        self._steps = 0
        #: Paths by the name that the registry has for them.
        self._names: dict[str, list[str]] = {}
        for path, name in _registry_names(schema):
            self._names.setdefault(name, []).append(path)
        self._characters = sum(map(len, self._names))
        #: Paths by the name in which they end, with the steps of all that end so.
        self._by_ending: dict[str | None, dict[str, int]] = {}
        for node in schema.root.walk():
            steps = parse_path(node.path)
            self._by_ending.setdefault(last_name(steps), {})[node.path] = len(steps) + 1

    def spend(self, steps: int) -> None:
        """Count steps of work; raise SchemaError if they become too many."""
        self._steps += steps
        if self._steps > _MAX_METADATA_STEPS:
            raise SchemaError("the registry has too many tags with wildcards for a schema of this size")

    def meant(self, text: str) -> Iterator[str]:
        """Yield the paths of the places that a tag path of the registry means."""
        if any(character in text for character in "*?\\"):
            self.spend(self._characters)
            glob = Glob.of_registry(text)
            for name, paths in self._names.items():
                if glob.matches(name):
                    yield from paths
        else:
            yield from self._names.get(text, ())
        try:
            pattern = Pattern.parse(text)
        except PathError:
            return  # It is well-formed for the registry, which has no brackets.
        ending = pattern.last_name
        groups = self._by_ending.values() if ending is None else [self._by_ending.get(ending, {})]
        for group in groups:
            self.spend(len(pattern.steps) * sum(group.values()))
            for path in group:
                if pattern.matches(path, self._record):
                    yield path


def _registry_names(schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield (path, name) for every field as the registry's rules name it.

    In Avro that is ``{full name of the record}.{field}`` at any depth; in JSON Schema it is the path of properties
    from ``$``, and elements of arrays add nothing to it.
    """

    def visit(node: Node, place: str) -> Iterator[tuple[str, str]]:
        if node.kind is not Kind.RECORD:
            for child in node.children():
                yield from visit(child, place)
            return
        prefix = node.name if schema.format == "avro" else place
        for entry in node.fields:
            name = f"{prefix}.{entry.name}"
            yield entry.node.path, name
            yield from visit(entry.node, name)

    return visit(schema.root, "$")
