"""What every engine is to its callers: it makes plans ready to run, and sanitizes batches of records with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tokenweir.core.batches import OutputBatch, Record, RecordBatch
from tokenweir.core.consent import SubjectConsent
from tokenweir.core.derive import Derived
from tokenweir.core.outcome import Outcome
from tokenweir.core.plan import OutputPlan, Plan
from tokenweir.core.subjects import Subject

__all__ = ["UNWATCHED", "ConsentLookup", "Engine", "Ready", "ReadyOutput", "Record", "Watch"]

ConsentLookup = Callable[[Subject], SubjectConsent]


class Watch(Protocol):
    """Sees on which records of a batch the engine works, and says when it is to stop.

    Positions count the records of the batch from zero. What is noted before a record ends the process, or never ends
    itself, tells which record that was.
    """

    def alone(self, position: int) -> None:
        """Note that the work from now on is on this record alone."""

    def together(self, first: int, count: int) -> None:
        """Note that the work from now on is on these records at once."""

    def enough(self) -> bool:
        """Whether to begin no further record; asked after each, or after several that are worked on together."""


class _Unwatched:
    """Nobody looks, and every record of a batch is worked on."""

    def alone(self, position: int) -> None:
        pass

    def together(self, first: int, count: int) -> None:
        pass

    def enough(self) -> bool:
        return False


UNWATCHED: Final[Watch] = _Unwatched()


class ReadyOutput(Protocol):
    """One output of a plan that is ready to run."""

    @property
    def output(self) -> OutputPlan:
        """Its plan."""

    @property
    def derived(self) -> Derived | None:
        """The schema of what leaves; None where no value does."""


class Ready(Protocol):
    """A plan that is ready to run, by the engine that bound it."""

    @property
    def plan(self) -> Plan:
        """The plan."""

    @property
    def outputs(self) -> Sequence[ReadyOutput]:
        """Its outputs, in the plan's order."""


class Engine(Protocol):
    """Sanitizes batches for one stream.

    An engine runs only the plans that it has bound itself; as two engines may stand in one place, types cannot say so.
    """

    @property
    def name(self) -> str:
        """What it is called in the configuration."""

    def bind(self, plan: Plan) -> Ready:
        """Make a plan ready to run.

        Raises:
            SchemaError: if a derived schema cannot be made, or the plan has something that the engine cannot do.
            KeysError: if the keyset lacks a root that the plan needs.
        """

    def run(
        self, batch: RecordBatch, consent: ConsentLookup, now_ms: int, watch: Watch = UNWATCHED
    ) -> list[OutputBatch]:
        """Return for each output, in the plan's order, what becomes of the first records; nothing for an empty batch.

        ``consent`` answers from one snapshot, and what it raises comes out as it is; ``now_ms`` is the gateway's clock
        in milliseconds of the epoch. All records are decided, unless ``watch`` says that it is enough; at least one is.
        """

    def process(
        self, batch: Sequence[tuple[Any, Record]], consent: ConsentLookup, now_ms: int, watch: Watch = UNWATCHED
    ) -> list[list[Outcome]]:
        """Return the same record by record: for each, in order, its outcomes in the order of the plan's outputs."""
