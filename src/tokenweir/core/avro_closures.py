"""Schema trees as closures: what the compilers of the Avro reader and the Avro writer share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from tokenweir.core.schema import Kind, Node
from tokenweir.errors import SchemaError

#: A decoded value; see the table in :mod:`tokenweir.core.schema`.
Value: TypeAlias = Any

Closure = TypeVar("Closure")


class Compiler(ABC, Generic[Closure]):
    """Makes one closure for every node, out of those of the nodes below it."""

    def __init__(self, types: Mapping[str, Node]) -> None:
        self._types = types
        self._pending: list[Node] = []
        #: The closures of the types that repeat inside themselves, by name.
        self.repeated: dict[str, Closure] = {}

    def compile(self, root: Node) -> Closure:
        """Return the closure of a whole schema, with the types that repeat inside themselves ready.

        These are compiled one after the other and looked up by name when a closure runs: compiling them where they
        are met would recurse through all of them at once.

        Raises:
            SchemaError: The tree holds what is not Avro, or a reference to a type that is not known.
        """
        closure = self._compile(root, 0)
        while self._pending:
            node = self._pending.pop()
            if node.name not in self.repeated:
                self.repeated[node.name] = self._compile(self.named(node), 0)
        return closure

    def _compile(self, node: Node, level: int) -> Closure:
        match node.kind:
            case Kind.RECORD:
                return self.record(node, tuple([self._compile(entry.node, level + 1) for entry in node.fields]))
            case Kind.ARRAY | Kind.MAP:
                if node.items is None:
                    raise SchemaError(f"{node.kind} without a type for what it holds", node.path)
                return self.collection(node, self._compile(node.items, level + 1))
            case Kind.UNION:
                return self.union(node, tuple([self._compile(branch, level) for branch in node.branches]))
            case Kind.REFERENCE:
                self._pending.append(node)
                return self.reference(node, level)
            case Kind.INTEGER | Kind.NUMBER:
                raise SchemaError(f"{node.kind} is not an Avro type", node.path)
            case _:
                return self.scalar(node)

    def named(self, node: Node) -> Node:
        """Return the type that a reference names.

        Raises:
            SchemaError: It is not known.
        """
        named = self._types.get(node.name)
        if named is None or named.kind is Kind.REFERENCE:
            raise SchemaError("a recursive type is not among the types of the schema", node.path)
        return named

    @abstractmethod
    def scalar(self, node: Node) -> Closure:
        """Return the closure of a node without nodes below it."""

    @abstractmethod
    def record(self, node: Node, fields: tuple[Closure, ...]) -> Closure:
        """Return the closure of a record."""

    @abstractmethod
    def collection(self, node: Node, item: Closure) -> Closure:
        """Return the closure of an array or map."""

    @abstractmethod
    def union(self, node: Node, branches: tuple[Closure, ...]) -> Closure:
        """Return the closure of a union."""

    @abstractmethod
    def reference(self, node: Node, level: int) -> Closure:
        """Return the closure of a type's return into itself, with ``level`` records, arrays and maps around it.

        The levels count from the root or from the last return into a type.
        """
