"""Plans made ready to run: with readers, writers, accessors, and programs for each set of purposes that passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenweir.core import access, avro_codec, json_codec, timestamps
from tokenweir.core.derive import Derived, derive
from tokenweir.core.engineapi import Record
from tokenweir.core.generalize.keyed import Prf
from tokenweir.core.generalize.specs import KeyedSpec
from tokenweir.core.outputkeys import OutputKeys
from tokenweir.core.plan import OutputPlan, Plan, SubjectSource, leaves
from tokenweir.core.program import Program, ProgramBuilder
from tokenweir.core.schema import Limits
from tokenweir.core.tokens.specs import TokenSpec
from tokenweir.core.tokentable import TokenTable
from tokenweir.errors import InvalidValueError

Value = Any
#: Gives the table of a key domain, epoch and token entry.
Tables = Callable[[str, int, str, TokenSpec], TokenTable]
#: Gives the keyed function of a key domain, epoch and treatment.
Prfs = Callable[[str, int, KeyedSpec], Prf]


#: Combinations of purposes for which programs are kept per output; more would be a policy nobody could read.
_MAX_PROGRAMS = 256


class BoundOutput:
    """One output of a plan with its writer and its programs."""

    def __init__(self, plan: Plan, output: OutputPlan, keys: OutputKeys) -> None:
        self.output = output
        self.derived: Derived | None = derive(plan, output)
        self._avro = plan.format == "avro"
        self._keys = keys
        self._programs: dict[tuple[int, bool], Program] = {}
        self.write: Callable[[Value], bytes] | None = None
        if self.derived is not None:
            codec = avro_codec if self._avro else json_codec
            self.write = codec.writer(self.derived.schema)
        for rules in (*(leaf.rules for leaf in leaves(output.root)), *output.key_rules):
            for action in rules.actions():
                # A key that is missing must show now and not with the first record that needs it.
                if action.kind == "tokenize":
                    keys.table(action.token)
                elif action.keyed is not None:
                    keys.prf(action.keyed)

    def program(self, passed: int, *, anonymous: bool) -> Program | None:
        """Return the program for the records for which these purposes pass."""
        if self.output.root is None:
            return None
        program = self._programs.get((passed, anonymous))
        if program is None:
            if len(self._programs) >= _MAX_PROGRAMS:
                self._programs.clear()
            builder = ProgramBuilder(self._keys, passed, anonymous=anonymous, avro=self._avro)
            program = self._programs[passed, anonymous] = builder.build(self.output.root)
        return program

    def key_table(self, subject_index: int, passed: int) -> TokenTable | None:
        """Return the table whose token of the subject is the record key, or None for a null key."""
        if self.output.key != "subject":
            return None
        action = self.output.key_rules[subject_index].action(passed, anonymous=False)
        return self._keys.table(action.token) if action is not None and action.kind == "tokenize" else None


class BoundPlan:
    """A plan that is ready to run: reader, accessors, writers and token tables."""

    def __init__(self, plan: Plan, tables: Tables, prfs: Prfs, limits: Limits) -> None:
        self.plan = plan
        codec = avro_codec if plan.format == "avro" else json_codec
        self._reader: avro_codec.Reader | json_codec.Reader = codec.reader(plan.source, limits)
        self.read: Callable[[bytes], Value] = self._reader
        self.outputs = [BoundOutput(plan, output, _keys_of(plan, output, tables, prfs)) for output in plan.outputs]
        self.subject_readers = [_subject_reader(plan, source) for source in plan.subjects]
        self.event_time: Callable[[Value], int | None] | None = None
        if plan.event_time:
            # Where a path goes through several branches, all of them hold the time in one type.
            node = access.locate_all(plan.source, plan.event_time)[0]
            read_time = timestamps.event_time_reader(node.optional_of or node)
            get = access.accessor(plan.source, plan.event_time)
            self.event_time = lambda value: None if (raw := get(value)) is None or raw == "" else read_time(raw)

    def elements_read(self) -> int:
        """Return how many values of the record that was read last may have no byte of their own."""
        return self._reader.elements


def _keys_of(plan: Plan, output: OutputPlan, tables: Tables, prfs: Prfs) -> OutputKeys:
    return OutputKeys(
        lambda entry: tables(output.domain, output.epoch, entry, plan.tokens[entry]),
        lambda spec: prfs(output.domain, output.epoch, spec),
    )


def _subject_reader(plan: Plan, source: SubjectSource) -> Callable[[Value, Record], Value]:
    """Return what reads the raw id of a subject from a decoded value and its record."""
    if source.origin == "key":
        return lambda _value, record: _text(record.key)
    if source.origin == "header":
        name = source.path
        return lambda _value, record: _header_id(record, name)
    get = access.accessor(plan.source, source.path)
    return lambda value, _record: None if value is None else get(value)


def _header_id(record: Record, name: str) -> str | None:
    """Return the id in a header; a header that stands there twice must say the same."""
    found = {value for key, value in record.headers if key == name}
    if len(found) > 1:
        raise InvalidValueError("two headers give two ids")
    return _text(found.pop()) if found else None


def _text(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidValueError("an id must be UTF-8") from None
