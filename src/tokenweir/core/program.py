"""Programs: a plan's output tree made into closures for one combination of purposes that pass.

All choices that depend on the purposes are taken when a program is built, so that running it has none left. A record
goes through a program twice: ``collect`` asks for the tokens that it will need, so that the tokens of a whole batch
are made together, and ``transform`` builds the sanitized value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tokenweir.core.cells import NO_CELL, Mark, PairGeneralizer, Replace, pair_replacements
from tokenweir.core.generalize.build import build as build_generalizer
from tokenweir.core.generalize.cell import CellGeneralizer
from tokenweir.core.generalize.keyed import Person
from tokenweir.core.generalize.noise import NoiseGeneralizer
from tokenweir.core.generalize.shift import PersonalDays
from tokenweir.core.generalize.specs import CellSpec, PairSpec, ShiftSpec
from tokenweir.core.outcome import Reason, Treated
from tokenweir.core.outputkeys import OutputKeys
from tokenweir.core.plan import Action, ArrayOut, Leaf, MapOut, Out, RecordOut, Rules, UnionOut
from tokenweir.core.policy.models import Form
from tokenweir.core.schema import ABSENT, JsonNumber, Kind, Node
from tokenweir.core.subjects import canonical_id
from tokenweir.core.tokentable import TokenTable
from tokenweir.errors import InvalidValueError

Value = Any
Collect = Callable[[Value], None]
Transform = Callable[[Value], Value]


#: What a transform returns for a value that does not leave.
GONE: Final = Mark("gone")


class RejectedValueError(Exception):
    """A value is invalid, and then the record is rejected. Carries the schema path and the reason, never the value."""

    def __init__(self, path: str, reason: Reason = Reason.VALUE_INVALID) -> None:
        super().__init__(path)
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Program:
    """What one output does with the records for which the same purposes pass.

    ``counts`` is a scratch pad, one number per :class:`Treated` in its order; a caller clears it before and reads it
    after each ``transform``. ``person`` is set before it to whom the record is about.
    """

    collect: Collect | None
    transform: Transform
    counts: list[int]
    person: Person


_TREATED: Final = tuple(Treated)
_KEPT, _TOKENIZED, _GENERALIZED, _WITHHELD, _INVALID = range(len(_TREATED))


class ProgramBuilder:
    """Builds the program of one output tree for one set of passing purposes."""

    def __init__(
        self,
        keys: OutputKeys,
        passed: int,
        *,
        anonymous: bool,
        avro: bool,
    ) -> None:
        self._keys = keys
        self._person = Person()
        self._passed = passed
        self._anonymous = anonymous
        #: Avro marks a field that is gone by null, JSON by leaving it out.
        self._gone: Value = None if avro else ABSENT
        self._avro = avro
        self._counts = [0] * len(_TREATED)

    def build(self, root: Out) -> Program:
        """Return the program of the whole tree."""
        collect, transform = self._value(root, nullable=False)
        return Program(collect, transform, self._counts, self._person)

    def _action(self, rules: Rules) -> Action | None:
        return rules.action(self._passed, anonymous=self._anonymous)

    def _value(self, out: Out, *, nullable: bool) -> tuple[Collect | None, Transform]:
        """Return the closures of a place; ``nullable`` wraps what is no union as the second branch of one."""
        if not isinstance(out, Leaf) and out.gate is not None and self._action(out.gate) is None:
            return None, self._withheld
        if isinstance(out, UnionOut):
            return self._union(out, nullable=nullable)
        match out:
            case Leaf():
                collect, transform = self._leaf(out)
            case RecordOut():
                collect, transform = self._record(out)
            case ArrayOut():
                collect, transform = self._array(out)
            case MapOut():
                collect, transform = self._map(out)
        return collect, _nullable(transform) if nullable else transform

    def _withheld(self, value: Value) -> Value:
        # Of a null there is nothing to withhold; the field is gone all the same.
        if value is not None:
            self._counts[_WITHHELD] += 1
        return GONE

    def _leaf(self, out: Leaf) -> tuple[Collect | None, Transform]:
        action = self._action(out.rules)
        if action is None:
            return None, self._withheld
        if action.kind == "keep":
            counts = self._counts

            def keep(value: Value) -> Value:
                counts[_KEPT] += 1
                return value

            return None, keep
        if action.kind == "tokenize":
            return self._token(out, self._keys.table(action.token))
        return None, self._generalize(out, action)

    def _invalid(self, path: str, *, reject: bool) -> Value:
        self._counts[_INVALID] += 1
        if reject:
            raise RejectedValueError(path)
        return GONE

    def _token(self, out: Leaf, table: TokenTable) -> tuple[Collect, Transform]:
        counts, tokens, want = self._counts, table.tokens, table.want
        text_of, value_of = _text_of(out.source, out.form, table), _value_of(out.source, table)
        null_values = table.tokenizer.format.null_values
        path, invalid = out.source.path, self._invalid
        reject, subject = out.rules.reject_invalid, out.subject

        def misfit() -> Value:
            if subject:
                raise RejectedValueError(path, Reason.SUBJECT_INVALID)
            return invalid(path, reject=reject)

        def collect(value: Value) -> None:
            text = text_of(value)
            if text and text not in null_values:
                want(text)

        def transform(value: Value) -> Value:
            text = text_of(value)
            if text is None:
                return misfit()
            if not text or text in null_values:
                counts[_KEPT] += 1
                return value
            token = tokens[text]
            if token is None:
                return misfit()
            counts[_TOKENIZED] += 1
            return value_of(token)

        return collect, transform

    def _generalize(self, out: Leaf, action: Action) -> Transform:
        counts, invalid = self._counts, self._invalid
        path, reject = out.source.path, out.rules.reject_invalid
        if action.generalize is None:
            raise ValueError("a generalize action without a specification")
        if action.pair is not None:
            # The record around has replaced both coordinates already; see pair_replacements.
            def cell(value: Value) -> Value:
                if value is NO_CELL:
                    return invalid(path, reject=reject)
                counts[_GENERALIZED] += 1
                return value

            return cell
        if isinstance(action.generalize, ShiftSpec):
            days = PersonalDays(self._keys.prf(action.generalize), action.generalize.shift_days, self._person)
            apply = build_generalizer(action.generalize, out.source, days).apply
        else:
            apply = build_generalizer(action.generalize, out.source).apply

        def transform(value: Value) -> Value:
            if value == "":
                counts[_KEPT] += 1
                return value
            try:
                coarse = apply(value)
            except InvalidValueError:
                return invalid(path, reject=reject)
            counts[_GENERALIZED] += 1
            return coarse

        return transform

    def _pair(self, spec: PairSpec) -> PairGeneralizer:
        if isinstance(spec, CellSpec):
            return CellGeneralizer(spec.resolution)
        return NoiseGeneralizer(spec.metres, self._keys.prf(spec), self._person)

    def _record(self, out: RecordOut) -> tuple[Collect | None, Transform]:
        steps: list[tuple[int, Transform]] = []
        collects: list[tuple[int, Collect]] = []
        for entry in out.fields:
            collect, transform = self._value(entry.value, nullable=self._avro and not entry.always)
            steps.append((entry.index, transform))
            if collect is not None:
                collects.append((entry.index, collect))
        transform_all = _record_transform(steps, pair_replacements(out, self._action, self._pair), self._gone)
        return _record_collect(collects) if collects else None, transform_all

    def _array(self, out: ArrayOut) -> tuple[Collect | None, Transform]:
        collect_item, transform_item = self._value(out.items, nullable=False)

        def transform(value: Value) -> Value:
            result = [item for item in map(transform_item, value) if item is not GONE]
            return result if result or not value else GONE

        return _each(collect_item), transform

    def _map(self, out: MapOut) -> tuple[Collect | None, Transform]:
        named: dict[str, tuple[Collect | None, Transform] | None] = dict.fromkeys(out.dropped)
        named.update((name, self._value(value, nullable=False)) for name, value in out.named)
        others: tuple[Collect | None, Transform] | None = None
        if out.values is not None and out.keys is not None and self._action(out.keys) is not None:
            others = self._value(out.values, nullable=False)

        def collect(value: Value) -> None:
            for key, item in value.items():
                entry = named.get(key, others)
                if entry is not None and entry[0] is not None and item is not None:
                    entry[0](item)

        def transform(value: Value) -> Value:
            result: dict[str, Value] = {}
            for key, item in value.items():
                entry = named.get(key, others)
                if entry is not None:
                    item = entry[1](item)  # noqa: PLW2901 - the entry is replaced by what may leave of it
                    if item is not GONE:
                        result[key] = item
            return result if result or not value else GONE

        collecting = any(entry is not None and entry[0] is not None for entry in (*named.values(), others))
        return collect if collecting else None, transform

    def _union(self, out: UnionOut, *, nullable: bool) -> tuple[Collect | None, Transform]:
        has_null = nullable or any(branch.kind is Kind.NULL for branch in out.source.branches)
        collects: list[Collect | None] = []
        transforms: list[Transform | None] = []
        positions: list[int] = []
        position = 1 if has_null else 0
        reject = any(isinstance(branch, Leaf) and branch.rules.reject_invalid for branch in out.branches)
        for index, branch in enumerate(out.branches):
            if branch is None:
                collects.append(None)
                transforms.append(self._misfit(out.source.path, reject=reject) if index in out.invalid else None)
                positions.append(-1)
            else:
                collect, transform = self._value(branch, nullable=False)
                collects.append(collect)
                transforms.append(transform)
                positions.append(position)
                position += 1

        def collect_branch(value: Value) -> None:
            if value is not None:
                collect = collects[value[0]]
                if collect is not None:
                    collect(value[1])

        def transform_branch(value: Value) -> Value:
            if value is None:
                return None
            index, inner = value
            transform = transforms[index]
            if transform is None:
                return GONE
            result = transform(inner)
            return GONE if result is GONE else (positions[index], result)

        return collect_branch if any(collects) else None, transform_branch

    def _misfit(self, path: str, *, reject: bool) -> Transform:
        invalid = self._invalid

        def transform(_value: Value) -> Value:
            return invalid(path, reject=reject)

        return transform


def _record_collect(collects: list[tuple[int, Collect]]) -> Collect:
    def collect_all(value: Value) -> None:
        for index, collect in collects:
            item = value[index]
            if item is not None and item is not ABSENT:
                collect(item)

    return collect_all


def _record_transform(steps: list[tuple[int, Transform]], cells: list[Replace], gone: Value) -> Transform:
    def transform_all(value: Value) -> Value:
        if cells:
            value = list(value)
            for cell in cells:
                cell(value)
        left = False
        result: list[Value] = []
        append = result.append
        for index, transform in steps:
            item = value[index]
            if item is ABSENT:
                append(ABSENT)
                continue
            item = transform(item)
            if item is GONE:
                append(gone)
            else:
                left = True
                append(item)
        # An object without any property was empty before, and what is empty passes.
        return result if left or all(item is ABSENT for item in value) else GONE

    return transform_all


def _nullable(transform: Transform) -> Transform:
    def wrapped(value: Value) -> Value:
        result = transform(value)
        return GONE if result is GONE else (1, result)

    return wrapped


def _each(collect_item: Collect | None) -> Collect | None:
    if collect_item is None:
        return None

    def collect(value: Value) -> None:
        for item in value:
            if item is not None:
                collect_item(item)

    return collect


def _text_of(node: Node, form: Form | None, table: TokenTable) -> Callable[[Value], str | None]:
    """Return what makes a value the text that is tokenized, or None for one that does not fit."""
    convert: Callable[[Value], str]
    if form is not None:
        kind = form

        def convert(value: Value) -> str:
            return canonical_id(kind, value)
    elif node.kind in {Kind.INT, Kind.LONG, Kind.INTEGER}:
        from_integer = table.tokenizer.format.from_integer

        def convert(value: Value) -> str:
            return from_integer(int(value))
    elif node.kind is Kind.FIXED:
        convert = table.tokenizer.format.from_bytes
    else:
        return _same

    null_values = table.tokenizer.format.null_values

    def text_of(value: Value) -> str | None:
        if value == "":
            return ""
        if type(value) is str and value in null_values:
            return value
        try:
            return convert(value)
        except ValueError:
            # InvalidValueError is one; so is what int() raises, whose text would hold the value.
            return None

    return text_of


def _same(value: str) -> str:
    return value


def _value_of(node: Node, table: TokenTable) -> Callable[[str], Value]:
    """Return what makes a token the type of its place."""
    if node.kind in {Kind.INT, Kind.LONG}:
        return table.tokenizer.format.to_integer
    if node.kind is Kind.INTEGER:
        to_integer = table.tokenizer.format.to_integer
        return lambda token: JsonNumber(to_integer(token))
    if node.kind is Kind.FIXED:
        return table.tokenizer.format.to_bytes
    return _same
