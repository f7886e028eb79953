"""Plans by schema id for one stream: fetched, compiled, registered, bound, and remembered.

The poll thread never waits for the registry: :meth:`PlanCache.get` answers at once, and a schema id that is not known
yet is fetched by a thread of its own while its partition is paused.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tokenweir.adapters.registry import Kind, RegisteredSchema, Registry
from tokenweir.core import wire
from tokenweir.core.compiler import StreamContext
from tokenweir.core.engineapi import Engine, Ready
from tokenweir.core.outcome import Reason
from tokenweir.core.planning import NO_ID, PlannedSchema, SourceSchema, plan_schema
from tokenweir.errors import RegistryError, SchemaError
from tokenweir.runtime.bucket import TokenBucket
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

COMPATIBILITY: Final = "FULL_TRANSITIVE"

#: How long an id that the registry does not know, or knows for another topic, is rejected without asking again.
FORGET_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 1.0
#: Waits between attempts to register after a conflict; a schema that is incompatible indeed costs all of them once.
_CONFLICT_PAUSES_SECONDS: Final = (0.05, 0.2, 0.5)

# Records can name any of four billion ids, so whatever is kept for an id that the registry does not know is bounded,
# and so are the questions: an id that it does not know costs one request.
_FETCHES_PER_SECOND: Final = 10.0
_FETCHES_AT_ONCE: Final = 16
_MAX_REFUSED_IDS: Final = 10_000
_MAX_WAITING_IDS: Final = 1_000
#: After so many ids in a row were waited for in vain, the next one is rejected at the registry's first "not found":
#: a thousand records with ids that somebody made up would otherwise stop their partition for hours.
_PATIENT_IDS: Final = 3


@dataclass(frozen=True, slots=True)
class ReadyPlan:
    """A plan that runs, and per output the schema id that frames its records (-1 where they are bare)."""

    bound: Ready
    output_ids: tuple[int, ...]
    prefixes: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make the frames once: what each value of an output begins with."""
        prefixes = tuple(b"" if number == NO_ID else wire.frame(number, b"") for number in self.output_ids)
        object.__setattr__(self, "prefixes", prefixes)


@dataclass(frozen=True, slots=True)
class RefusedPlan:
    """A schema id whose records are rejected, and since when, on the monotonic clock."""

    reason: Reason
    since_seconds: float
    forget_after_seconds: float | None = None

    def is_old(self, now_seconds: float) -> bool:
        """Return whether it is time to ask the registry again."""
        return self.forget_after_seconds is not None and now_seconds - self.since_seconds > self.forget_after_seconds


@dataclass(slots=True)
class _Wait:
    """An id that is asked for: since when, and when it may be asked for again."""

    since_seconds: float
    retry_at_seconds: float = 0.0


class PlanCache:
    """The plans of one stream.

    Args:
        context: Policy and stream.
        engine: Binds plans.
        registry: Where schemas come from; None for a stream of bare JSON.
        register: Whether derived schemas are registered, or only looked up.
        monotonic: The clock for what is remembered only for a while, in seconds.
        unknown_schema_seconds: How long an id that the registry does not know is waited for.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        context: StreamContext,
        engine: Engine,
        registry: Registry | None,
        *,
        register: bool,
        monotonic: Callable[[], float],
        unknown_schema_seconds: float = 10.0,
        on_registry_error: Callable[[str], None] = lambda _kind: None,
        on_unclassified: Callable[[int], None] = lambda _fields: None,
    ) -> None:
        self._context = context
        self._engine = engine
        self._registry = registry
        self._register = register
        self._monotonic = monotonic
        self._unknown_schema_seconds = unknown_schema_seconds
        self._on_registry_error = on_registry_error
        self._on_unclassified = on_unclassified
        self._known: dict[int, ReadyPlan | RefusedPlan] = {}
        #: The ids among the known ones that are refused for a while only, the oldest first.
        self._refused: OrderedDict[int, None] = OrderedDict()
        self._waiting: OrderedDict[int, _Wait] = OrderedDict()
        self._fetching: dict[int, Future[ReadyPlan | RefusedPlan]] = {}
        self._bucket = TokenBucket(_FETCHES_PER_SECOND, _FETCHES_AT_ONCE, monotonic)
        self._vain: deque[float] = deque(maxlen=_PATIENT_IDS)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry")
        self._subject = f"{context.stream.source.topic}-value"

    @property
    def any_plan(self) -> ReadyPlan | None:
        """Some plan of the stream; enough for records that have no value."""
        return next((plan for plan in self._known.values() if isinstance(plan, ReadyPlan)), None)

    def planned_ids(self) -> list[int]:
        """Return the schema ids that have a plan; safe to call from any thread."""
        # A list of a dictionary's items is made in one step.
        return sorted(number for number, plan in list(self._known.items()) if isinstance(plan, ReadyPlan))

    def add(self, planned: PlannedSchema) -> ReadyPlan:
        """Bind and register a version that is known at start.

        Raises:
            RegistryError: if a derived schema cannot be registered or found.
            SchemaError: if the plan has problems.
        """
        ready = self._ready(planned)
        self._known[planned.source.id] = ready
        return ready

    def refuse(self, schema_id: int, reason: Reason, field_path: str = "") -> None:
        """Reject the records of a schema id, with an alarm."""
        self._known[schema_id] = RefusedPlan(reason, self._monotonic())
        event = Event.SCHEMA_INCOMPATIBLE if reason is Reason.SCHEMA_INCOMPATIBLE else Event.SCHEMA_REFUSED
        log(event, stream=self._context.name, schema_id=logged_id(schema_id), field_path=field_path or None)

    def get(self, schema_id: int) -> ReadyPlan | RefusedPlan | None:
        """Return the plan for an id, why its records are rejected, or None while it is not known yet.

        Raises:
            RegistryError: ``changed``: the id is another schema than it was.
        """
        found = self._known.get(schema_id)
        if isinstance(found, RefusedPlan) and found.is_old(self._monotonic()):
            # Ask again without holding up the partition: the old answer stands until the new one is there.
            self.request(schema_id)
        elif found is not None:
            return found
        self._collect(schema_id)
        return self._known.get(schema_id)

    def request(self, schema_id: int) -> None:
        """Begin to fetch an id, unless that is under way, was tried a moment ago, or too many are."""
        now = self._monotonic()
        wait = self._waiting.setdefault(schema_id, _Wait(now))
        if len(self._waiting) > _MAX_WAITING_IDS:
            self._waiting.popitem(last=False)
        if schema_id in self._fetching or now < wait.retry_at_seconds:
            return
        if len(self._fetching) >= _FETCHES_AT_ONCE:
            for other in list(self._fetching):  # Nobody may ask for these any more: their partitions have moved away.
                self._collect(other)
        if len(self._fetching) < _FETCHES_AT_ONCE and self._bucket.take():
            self._fetching[schema_id] = self._pool.submit(self._fetch, schema_id)

    def close(self) -> None:
        """Stop the fetching thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _collect(self, schema_id: int) -> None:
        """Take the answer for an id, if it is there."""
        future = self._fetching.get(schema_id)
        if future is None or not future.done():
            return
        del self._fetching[schema_id]
        try:
            self._settle(schema_id, future.result())
        except RegistryError as error:
            if error.kind == "changed":
                raise
            self._unsettled(schema_id, error.kind)
        except Exception as error:  # noqa: BLE001 - a schema that breaks the planner must not stop its stream
            log(Event.EXCEPTION_RAISED, error=error, phase="plan")
            log(Event.SCHEMA_REFUSED, stream=self._context.name, schema_id=schema_id)
            # It may not happen again, so the answer is asked for once more after a while.
            self._settle(schema_id, RefusedPlan(Reason.SCHEMA_REFUSED, self._monotonic(), FORGET_SECONDS))

    def _settle(self, schema_id: int, answer: ReadyPlan | RefusedPlan) -> None:
        wait = self._waiting.pop(schema_id, None)
        if wait is not None and wait.retry_at_seconds and isinstance(answer, ReadyPlan):
            self._vain.clear()  # It was worth while to wait.
        self._known[schema_id] = answer
        self._refused.pop(schema_id, None)
        if isinstance(answer, RefusedPlan) and answer.forget_after_seconds is not None:
            self._refused[schema_id] = None
            if len(self._refused) > _MAX_REFUSED_IDS:
                oldest, _ = self._refused.popitem(last=False)
                del self._known[oldest]

    def _unsettled(self, schema_id: int, kind: str) -> None:
        """Note that the registry gave no schema, and reject the id if that is its last word."""
        self._on_registry_error(kind)
        now = self._monotonic()
        wait = self._waiting.setdefault(schema_id, _Wait(now))
        if kind == "incompatible":
            del self._waiting[schema_id]
            self.refuse(schema_id, Reason.SCHEMA_INCOMPATIBLE)
        elif kind == "not_found" and self._waited_enough(schema_id, now - wait.since_seconds):
            # Of a flood the first ids are told; the metric of rejections has all of its records.
            if schema_id not in self._known and not self._flooded():
                waited_seconds = now - wait.since_seconds
                log(Event.SCHEMA_UNKNOWN, stream=self._context.name, schema_id=schema_id, seconds=waited_seconds)
            self._vain.append(now)
            self._settle(schema_id, RefusedPlan(Reason.SCHEMA_UNKNOWN, now, FORGET_SECONDS))
        else:
            # A registry that does not answer is no fault of the record: its partition stays paused.
            wait.retry_at_seconds = now + _RETRY_SECONDS

    def _waited_enough(self, schema_id: int, waited_seconds: float) -> bool:
        """Whether "not found" is the last word: it was already, or it was waited for long enough, or it is a flood."""
        return schema_id in self._known or waited_seconds >= self._unknown_schema_seconds or self._flooded()

    def _flooded(self) -> bool:
        """Whether the last few ids were all waited for in vain, and not long ago."""
        window_seconds = FORGET_SECONDS + _PATIENT_IDS * self._unknown_schema_seconds
        return len(self._vain) == _PATIENT_IDS and self._monotonic() - self._vain[0] < window_seconds

    def _fetch(self, schema_id: int) -> ReadyPlan | RefusedPlan:
        """Fetch, check, compile and register one schema. Runs in the fetching thread."""
        if self._registry is None:
            raise RegistryError("not_found", "this stream has no registry")
        subjects = {subject for subject, _version in self._registry.subjects_of(schema_id)}
        if not subjects:
            raise RegistryError("not_found", f"schema id {schema_id} belongs to no registry subject")
        if self._subject not in subjects:
            return RefusedPlan(Reason.SCHEMA_FOREIGN, self._monotonic(), FORGET_SECONDS)
        try:
            planned = plan_schema(self._context, source_schema(self._registry.schema_by_id(schema_id), self._subject))
            ready = self._ready(planned)
        except SchemaError as error:
            log(Event.SCHEMA_REFUSED, stream=self._context.name, schema_id=schema_id, field_path=error.path)
            return RefusedPlan(Reason.SCHEMA_REFUSED, self._monotonic())
        log(Event.SCHEMA_PLANNED, stream=self._context.name, schema_id=schema_id)
        if unclassified := planned.compiled.plan.unclassified:
            log(
                Event.FIELDS_UNCLASSIFIED,
                stream=self._context.name,
                schema_id=schema_id,
                fields=len(unclassified),
                field_path=unclassified[0],
            )
        return ready

    def _ready(self, planned: PlannedSchema) -> ReadyPlan:
        # A field without a class is dropped while running: a producer must not stop a topic by adding a field.
        problems = [
            problem
            for problem in planned.compiled.problems
            if problem.severity == "error" and problem.rule != "unclassified-field"
        ]
        if problems:
            raise SchemaError(problems[0].message, problems[0].path)
        if planned.compiled.plan.unclassified:
            self._on_unclassified(len(planned.compiled.plan.unclassified))
        bound = self._engine.bind(planned.compiled.plan)
        ids = []
        for output in bound.outputs:
            if output.derived is None or self._registry is None or self._context.stream.source.format == "json":
                ids.append(NO_ID)
                continue
            subject = f"{output.output.topic}-value"
            kind: Kind = "AVRO" if planned.compiled.plan.format == "avro" else "JSON"
            if self._register:
                ids.append(register_derived(self._registry, subject, output.derived.text, kind))
            else:
                ids.append(self._registry.lookup(subject, output.derived.text, kind))
        return ReadyPlan(bound, tuple(ids))


def register_derived(registry: Registry, subject: str, text: str, kind: Kind) -> int:
    """Register a derived schema at the compatibility level that its shape promises, and return its id.

    It is looked up first: that writes nothing, and it can be answered while the registry is down.

    Raises:
        RegistryError: ``incompatible`` if the registry refuses it as a next version, or another kind.
    """
    for pause_seconds in (*_CONFLICT_PAUSES_SECONDS, None):
        try:
            return registry.lookup(subject, text, kind)
        except RegistryError as error:
            if error.kind != "not_found":
                raise
        try:
            if not registry.versions(subject):
                registry.set_compatibility(subject, COMPATIBILITY)
            return registry.register(subject, text, kind)
        except RegistryError as error:
            # Registries answer a conflict, as for an incompatible schema, also where another worker makes the same
            # registry subject at this moment. Then the schema is there, or is there in a moment.
            if error.kind != "incompatible" or pause_seconds is None:
                raise
        time.sleep(pause_seconds)
    raise AssertionError("the last attempt returns or raises")


def logged_id(schema_id: int) -> int | None:
    """Return the id of a schema for the log; a file has none."""
    return None if schema_id == NO_ID else schema_id


def source_schema(registered: RegisteredSchema, subject: str) -> SourceSchema:
    """Return a registered schema as the planner takes it."""
    return SourceSchema(
        registered.text,
        subject if registered.id == NO_ID else f"{subject} (id {registered.id})",
        registered.id,
        dict(registered.references),
        dict(registered.metadata_tags),
    )
