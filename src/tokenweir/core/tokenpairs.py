"""Finds the tokens in a sanitized record, and leads those of one epoch to those of the next.

A token is known by its place in the plan: where nothing but one token entry can have made a value, it is a token of
that entry. A place at which the purposes decide between keeping and tokenizing, or between two entries, may hold
either, and what is no token has no successor; such places are named and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokenweir.core import avro_codec, json_codec
from tokenweir.core.derive import Derived
from tokenweir.core.keys import Keyset
from tokenweir.core.plan import ArrayOut, Leaf, MapOut, Out, OutputPlan, Plan, RecordOut, Rules, UnionOut, leaves
from tokenweir.core.schema import ABSENT, Kind
from tokenweir.core.tokens import Tokenizer
from tokenweir.core.tokens.specs import TokenSpec
from tokenweir.errors import InvalidValueError

Value = Any


def entry_of(rules: Rules) -> str | None:
    """Return the one token entry that makes every value of a class; "" where none makes any, None where it may vary."""
    actions = list(rules.actions())
    if not any(action.kind == "tokenize" for action in actions):
        return ""
    return actions[0].token if len(actions) == 1 else None


class Successors:
    """Leads tokens of one epoch of a key domain to those of another, as far as their entries can be reversed."""

    def __init__(self, keyset: Keyset, domain: str, epochs: tuple[int, int], entries: Mapping[str, TokenSpec]) -> None:
        """Open the entries in both epochs.

        Args:
            keyset: Has the roots of both.
            domain: The key domain.
            epochs: The epoch of the tokens, and that of their successors.
            entries: The token entries by name.

        Raises:
            KeysError: a root is missing.
        """
        first, second = epochs
        self._pairs: dict[str, tuple[Tokenizer, Tokenizer]] = {}
        self.irreversible: set[str] = set()
        for name, spec in entries.items():
            old = keyset.tokenizer(domain, name, spec, first)
            if old.format.reversible:
                self._pairs[name] = (old, keyset.tokenizer(domain, name, spec, second))
            else:
                self.irreversible.add(name)

    def knows(self, entry: str) -> bool:
        """Whether tokens of an entry have successors."""
        return entry in self._pairs

    def text(self, entry: str, kind: Kind, value: Value) -> str:
        """Return a token as text, as the tokens of all places of its entry are compared; "" for what is none.

        Raises:
            InvalidValueError: it is no token of the entry.
        """
        token_format = self._pairs[entry][0].format
        if kind in {Kind.INT, Kind.LONG, Kind.INTEGER}:
            text = token_format.from_integer(int(value))
        elif kind is Kind.FIXED:
            text = token_format.from_bytes(value)
        else:
            text = value
        return "" if text in token_format.null_values else text

    def successor(self, entry: str, token: str) -> str:
        """Return the token that the same value has in the later epoch.

        Raises:
            InvalidValueError: it is no token of the entry.
        """
        old, new = self._pairs[entry]
        return new.tokenize(old.detokenize(token))


@dataclass(frozen=True, slots=True)
class Found:
    """A token in a record: its entry and its text."""

    entry: str
    token: str


class RecordTokens:
    """The tokens of the records of one output that were made by one plan."""

    def __init__(self, plan: Plan, output: OutputPlan, derived: Derived, successors: Successors) -> None:
        self._successors = successors
        self._avro = plan.format == "avro"
        codec = avro_codec if self._avro else json_codec
        self._read: Callable[[bytes], Value] = codec.reader(derived.schema)
        self._root = output.root
        keys = {entry_of(rules) for rules in output.key_rules} if output.key == "subject" else set()
        #: The entry of the record key; "" where it is no token, or may be one of several entries.
        self._key_entry = (keys.pop() or "") if len(keys) == 1 else ""
        places = [(leaf.source.path, entry_of(leaf.rules)) for leaf in leaves(output.root)]
        #: Paths at which a value may be a token or something else.
        self.varying = tuple(path for path, entry in places if entry is None)
        #: Entries among them whose tokens have no successors.
        self.irreversible = {entry for _, entry in places if entry and not successors.knows(entry)}

    def of(self, value: bytes, key: bytes | None) -> Iterator[Found]:
        """Yield the tokens of a record that have successors.

        Raises:
            DecodeError: the value does not follow the schema.
            InvalidValueError: a token is none.
        """
        if key and self._successors.knows(self._key_entry):
            try:
                yield Found(self._key_entry, key.decode())
            except UnicodeDecodeError:
                raise InvalidValueError("a token is text") from None
        if self._root is not None:
            yield from self._walk(self._root, self._read(value), nullable=False)

    def _walk(self, out: Out, value: Value, *, nullable: bool) -> Iterator[Found]:
        """Walk the places of a plan and a value of its derived schema; ``nullable`` is as in the engine's programs."""
        if value is None or value is ABSENT:
            return
        if isinstance(out, UnionOut):
            index, value = value
            has_null = nullable or any(branch.kind is Kind.NULL for branch in out.source.branches)
            out = [branch for branch in out.branches if branch is not None][index - has_null]
        elif nullable:
            value = value[1]
        if isinstance(out, Leaf):
            yield from self._leaf(out, value)
            return
        for place, item, optional in self._parts(out, value):
            yield from self._walk(place, item, nullable=optional)

    def _parts(self, out: Out, value: Value) -> Iterator[tuple[Out, Value, bool]]:
        """Yield what is in a container: its place, its value, and whether it is the second branch of a union."""
        match out:
            case RecordOut():
                for entry, item in zip(out.fields, value, strict=True):
                    yield entry.value, item, self._avro and not entry.always
            case ArrayOut():
                for item in value:
                    yield out.items, item, False
            case MapOut():
                named = dict(out.named)
                places = ((named.get(name, out.values), item) for name, item in value.items())
                yield from ((place, item, False) for place, item in places if place is not None)

    def _leaf(self, leaf: Leaf, value: Value) -> Iterator[Found]:
        entry = entry_of(leaf.rules)
        if entry and value != "" and self._successors.knows(entry):
            token = self._successors.text(entry, leaf.source.kind, value)
            if token:
                yield Found(entry, token)
