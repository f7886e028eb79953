"""The ``tokenweir`` command with children that some records end: a crash, a hang, or a crash of the Kafka client.

The product has no hook for this. The engine is patched from outside, in the child process alone, and what a record
says decides which way the process really ends.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

from tokenweir.__main__ import main
from tokenweir.adapters.consumer import Batch, GroupConsumer
from tokenweir.core.engine import BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import Record
from tokenweir.runtime import supervisor
from tokenweir.runtime.children import ChildSpec, run_child

CRASH: Final = b"poison:crash"
HANG: Final = b"poison:hang"
CRASH_IN_CLIENT: Final = b"poison:client"

#: Instead of the supervisor's 30 s, so that three hangs do not cost minutes.
_HUNG_RECORD_SECONDS: Final = 2.0


def _crash() -> None:
    ctypes.string_at(0)  # A real SIGSEGV.


def _hang() -> None:
    while True:
        pass


def _end_of(value: bytes) -> None:
    """End the process in the way that a record says, if it says so."""
    if CRASH in value:
        _crash()
    if HANG in value:
        _hang()


def _poison_engine() -> None:
    process = ReferenceEngine.process

    def poisoned(engine: ReferenceEngine, batch: Sequence[tuple[BoundPlan, Record]], *rest: object) -> object:
        return process(engine, [(_Poisoned(bound), record) for bound, record in batch], *rest)  # type: ignore[misc, arg-type]  # it behaves like a plan

    _patch(ReferenceEngine, "process", functools.wraps(process)(poisoned))


def _poison_native_engine() -> None:
    if find_spec("tokenweir._native") is None:
        return
    from tokenweir.adapters import nativeengine  # noqa: PLC0415 - its module may be absent.

    _patch(nativeengine, "CompiledEngine", _PoisonedCompiled)


class _PoisonedCompiled:
    """The compiled engine, whose work on a slice some records end."""

    def __init__(self, *arguments: object) -> None:
        self._engine = importlib.import_module("tokenweir._native").Engine(*arguments)

    def run(self, plans: Sequence[object], values: Sequence[bytes | None], *rest: object) -> object:
        for value in values:
            _end_of(value or b"")
        return self._engine.run(plans, values, *rest)

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


class _Poisoned:
    """A bound plan whose decoder some records end."""

    def __init__(self, bound: BoundPlan) -> None:
        self._bound = bound

    def read(self, value: bytes) -> object:
        _end_of(value)
        return self._bound.read(value)

    def __getattr__(self, name: str) -> object:
        return getattr(self._bound, name)


def _poison_client() -> None:
    read = GroupConsumer.read

    def poisoned(consumer: GroupConsumer, max_records: int, timeout_seconds: float) -> Batch:
        batch = read(consumer, max_records, timeout_seconds)
        if any(CRASH_IN_CLIENT in bytes(message.value() or b"") for message in batch.records):
            _crash()
        return batch

    _patch(GroupConsumer, "read", functools.wraps(read)(poisoned))


def _patch(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def _poisoned_command(spec: ChildSpec) -> list[str]:
    return [sys.executable, "-m", __spec__.name, spec.kind, *([spec.stream, str(spec.slot)] if spec.stream else [])]


if __name__ == "__main__":
    if sys.argv[1] == "run":
        supervisor.command = _poisoned_command
        _patch(supervisor, "_HUNG_RECORD_SECONDS", _HUNG_RECORD_SECONDS)
        main()
    else:
        _poison_engine()
        _poison_native_engine()
        _poison_client()
        code = run_child()
        sys.stderr.flush()
        os._exit(code)
