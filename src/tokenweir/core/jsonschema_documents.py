"""The texts that make up one JSON Schema: the schema, the references given with it, and what a ``$ref`` means there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote, urljoin

from tokenweir.core import strictjson
from tokenweir.core.schema import Limits
from tokenweir.errors import DecodeError, SchemaError

#: A record that is one level deeper takes two levels more in its schema, and ``allOf`` or ``anyOf`` two more.
_SCHEMA_LEVELS_PER_LEVEL: Final = 4

_SHOWN_CHARACTERS: Final = 80

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One text. ``name`` is "" for the schema itself, otherwise the name of the reference."""

    name: str
    base: str
    root: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """What a ``$ref`` points at: a place in a text, and the name under which the tree speaks of it."""

    document: str
    pointer: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A schema in the text where it stands, which decides what a ``$ref`` inside of it means.

    ``rebased`` is set below an ``$id``: a ``$ref`` there would be relative to it and not to the text.
    """

    schema: Any
    document: Document
    rebased: bool = False

    def child(self, schema: object) -> Part:
        """Return a schema inside of this one."""
        return Part(schema, self.document, self.rebased or bool(identifier(schema)))


def identifier(schema: object) -> str:
    """Return the ``$id`` of a schema, or ``id`` as draft 4 has it, where it changes the base of references."""
    if isinstance(schema, dict):
        for keyword in ("$id", "id"):
            value = schema.get(keyword)
            if isinstance(value, str) and not value.startswith("#"):
                return value.removesuffix("#")
    return ""


def shown(text: str) -> str:
    """Return a text of the schema as messages quote it, which is not at any length."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


class Documents:
    """All texts of a schema. Nothing outside of them is ever looked for.

    Raises:
        SchemaError: if a text is not strict JSON or not an object, or if together they are larger than the limit.
    """

    def __init__(self, text: str, references: Mapping[str, str], limits: Limits) -> None:
        # Counting characters first keeps a huge text from being copied only to be measured.
        if len(text) + sum(map(len, references.values())) > limits.schema_bytes:
            raise SchemaError(f"the schema and its references are larger than {limits.schema_bytes} bytes")
        if "" in references:
            raise SchemaError("a reference needs a name")
        self._root = _document("", text, limits)
        documents = [_document(name, referenced, limits) for name, referenced in references.items()]
        #: A given name wins over what a text calls itself.
        self._by_name = {document.name: document for document in documents}
        for document in (self._root, *documents):
            if document.base:
                self._by_name.setdefault(document.base, document)
        self._resolved: dict[tuple[str, str], tuple[Target, Part]] = {}
        self._names: dict[str, tuple[str, str]] = {}

    def root(self) -> tuple[Target, Part]:
        """Return the schema itself."""
        return self._lookup(self._root, "", "", "#")

    def resolve(self, reference: object, part: Part, path: str) -> tuple[Target, Part]:
        """Return what a ``$ref`` that stands in ``part`` points at.

        Raises:
            SchemaError: if it does not point at a schema in one of the texts.
        """
        if not isinstance(reference, str):
            raise SchemaError("$ref must be a text", path)
        location, _, fragment = reference.partition("#")
        return self._lookup(self._locate(location, part, path, reference), fragment, path, reference)

    def _locate(self, location: str, part: Part, path: str, reference: str) -> Document:
        if location in self._by_name:
            return self._by_name[location]
        if part.rebased:
            raise SchemaError(f"$ref {shown(reference)} stands below an $id that changes its meaning", path)
        if not location:
            return part.document
        try:
            absolute = urljoin(part.document.base, location)
        except ValueError:
            absolute = ""
        if absolute not in self._by_name:
            raise SchemaError(f"$ref {shown(reference)} is not among the references; nothing is retrieved", path)
        return self._by_name[absolute]

    def _lookup(self, document: Document, pointer: str, path: str, reference: str) -> tuple[Target, Part]:
        key = (document.name, pointer)
        if key not in self._resolved:
            part = _follow(document, pointer)
            if part is None:
                raise SchemaError(f"$ref {shown(reference)} does not point at a schema", path)
            self._resolved[key] = (Target(*key, self._name(document, pointer)), part)
        return self._resolved[key]

    def _name(self, document: Document, pointer: str) -> str:
        """Return a short name for a target, or its whole address where another target has that name already."""
        title = document.root.get("title")
        whole = title if isinstance(title, str) and title else document.name or "root"
        name = _token(pointer.rpartition("/")[2]) if pointer else whole
        key = (document.name, pointer)
        if self._names.setdefault(name, key) == key:
            return name
        return f"{document.name}#{pointer}"


def _document(name: str, text: str, limits: Limits) -> Document:
    what = f"the reference {shown(name)}" if name else "the schema"
    allowed = replace(limits, depth=limits.depth * _SCHEMA_LEVELS_PER_LEVEL, bytes=limits.schema_bytes)
    try:
        root = strictjson.parse(text.encode("utf-8", "surrogatepass"), limits=allowed, numbers="python")
    except DecodeError as error:
        place = f", byte {error.position}" if error.position >= 0 else ""
        raise SchemaError(f"{what} is not strict JSON: {error.reason}{place}") from None
    if not isinstance(root, dict):
        raise SchemaError(f"{what} is not an object")
    return Document(name, identifier(root), root)


def _token(text: str) -> str:
    """Return one step of a JSON pointer in a URI fragment (RFC 6901, sections 4 and 6)."""
    return unquote(text).replace("~1", "/").replace("~0", "~")


def _follow(document: Document, pointer: str) -> Part | None:
    """Return what a pointer leads to, or None where it leads nowhere, is an anchor, or leads to no schema."""
    part = Part(document.root, document)
    if pointer and not pointer.startswith("/"):
        return None
    for token in map(_token, pointer.split("/")[1:]):
        inside = part.schema
        if isinstance(inside, dict) and token in inside:
            part = part.child(inside[token])
        elif isinstance(inside, list) and _INDEX.fullmatch(token) and int(token) < len(inside):
            part = part.child(inside[int(token)])
        else:
            return None
    return part if isinstance(part.schema, dict | bool) else None
