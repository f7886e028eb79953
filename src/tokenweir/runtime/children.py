"""The processes below the supervisor: ``python -m tokenweir.runtime.children KIND``, told what to do on standard input.

A child is started anew and never forked, so that no client or lock of the parent is in it. It dies with its parent,
leaves no core file, and says by its exit code what the supervisor shall do.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenweir import __version__
from tokenweir.adapters.admin import Admin
from tokenweir.adapters.consentreader import ConsentStoreReader
from tokenweir.adapters.consentstore import boot_id, store_directory
from tokenweir.adapters.consumer import GroupConsumer
from tokenweir.adapters.engines import make_engine
from tokenweir.adapters.freshness import FILE_NAME, Freshness
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.adapters.registry import Registry
from tokenweir.core import deadletter
from tokenweir.core.context import EpochOutput, fed_epochs
from tokenweir.core.engineapi import Engine
from tokenweir.core.librdkafka import PropertyValue
from tokenweir.core.outcome import Reason
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.timestamps import parse_date_time
from tokenweir.errors import (
    KekUnreachableError,
    PreflightError,
    RefusedError,
    RegistryError,
    SchemaError,
    TokenweirError,
)
from tokenweir.runtime import preflight
from tokenweir.runtime.advice import warnings
from tokenweir.runtime.applier import Progress
from tokenweir.runtime.applierprocess import ApplierSettings, run_applier
from tokenweir.runtime.assignment import Assignment, AssignmentSettings
from tokenweir.runtime.batch import Delivery, Intake
from tokenweir.runtime.clock import SystemClock
from tokenweir.runtime.endings import ExitCode, of_kafka_fault, of_registry_error
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.hardening import limit_memory, protect_memory
from tokenweir.runtime.plans import PlanCache, logged_id, register_derived
from tokenweir.runtime.quarantine import Suspects
from tokenweir.runtime.reading import WorkerSettings
from tokenweir.runtime.replaychild import ReplayOrder, ReplayParts, new_ledger, run_replay
from tokenweir.runtime.replayintake import ReplayTally
from tokenweir.runtime.schemawatch import SchemaWatch
from tokenweir.runtime.sources import pinned_registry, plan_known, stream_context
from tokenweir.runtime.starts import set_starts
from tokenweir.runtime.status import ChildState, StatusWriter
from tokenweir.runtime.tally import Tally
from tokenweir.runtime.topicwatch import TopicWatch
from tokenweir.runtime.worker import Worker
from tokenweir.telemetry import metrics
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import configure_logging, crash_guard, log
from tokenweir.telemetry.slots import SlotWriter, slot_path
from tokenweir.words import copyable, remember_config

_PR_SET_PDEATHSIG: Final = 1

#: How long a worker waits for an answer about offsets, in which it does nothing else.
_ANSWER_SECONDS: Final = 5.0
#: librdkafka's default of message.max.bytes.
_CLIENT_MAX_BYTES: Final = 1_000_000
#: About ten times what a worker needs under full load, and less than one fetched batch may unpack to.
_MAX_CHILD_BYTES: Final = 1 << 30
#: Kinds of errors that say nothing about the schema that was asked for.
_SAYS_NOTHING: Final = frozenset({"unavailable", "timeout", "denied", "malformed"})
#: Processes of a gateway that has started.
_WAIT_FOR_KEYS: Final = frozenset({"keys", "applier", "worker"})
#: More than the header of a record batch (61 bytes) and the lengths inside of a record (Kafka protocol, version 2).
_BATCH_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What one child is."""

    gateway: Gateway
    kind: str
    stream: str = ""
    slot: int = 0
    parent: int = 0
    replay: ReplayOrder | None = None
    config_named: str = ""
    """The configuration as the command line names it, for the commands that are proposed."""

    @property
    def name(self) -> str:
        """The name in logs and of its files."""
        return f"{self.kind}-{self.stream}-{self.slot}" if self.stream else self.kind

    @property
    def status_file(self) -> Path:
        """Where its life signs are."""
        return self.gateway.slots_directory / f"{self.name}.status"


def main() -> int:
    """Run the child that standard input describes."""
    spec: ChildSpec = pickle.load(sys.stdin.buffer)  # noqa: S301 - it comes through a pipe from our own parent
    remember_config(spec.config_named)
    logging = spec.gateway.config.logging
    configure_logging(logging.level, logging.format, process=spec.name)
    harden(spec.parent)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the whole terminal group; the supervisor passes it on in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bodies: dict[str, Callable[[ChildSpec, threading.Event], None]] = {
        "preflight": _preflight,
        "keys": _keys,
        "applier": _applier,
        "worker": _worker,
        "replay": _replay,
    }
    with crash_guard(ExitCode.CRASHED):
        try:
            bodies[spec.kind](spec, stop)
        except RefusedError as error:
            problems = error.problems if isinstance(error, PreflightError) else [str(error)]
            for problem in problems:
                print(f"error: {copyable(problem)}", file=sys.stderr)  # noqa: T201 - for the person who starts it
            # What ran and has to open its keys anew waits for their provider, which has not said no.
            waits = isinstance(error, KekUnreachableError) and spec.kind in _WAIT_FOR_KEYS
            return ExitCode.UNSERVED if waits else ExitCode.REFUSED
        except KafkaFault as fault:
            return of_kafka_fault(fault, spec.stream, spec.slot)
        except RegistryError as error:
            return of_registry_error(error, spec.stream)
        except (MemoryError, OSError) as error:
            log(Event.EXCEPTION_RAISED, error=error, stream=spec.stream, slot=spec.slot)
            # A full disk, for one, is nothing that the records have done.
            return ExitCode.EXHAUSTED if isinstance(error, MemoryError) else ExitCode.UNSERVED
    return ExitCode.DONE


def harden(parent: int) -> None:
    """Leave no core file, be closed to debuggers, and die with the parent."""
    protect_memory()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        raise SystemExit(ExitCode.CRASHED)


def _preflight(spec: ChildSpec, _stop: threading.Event) -> None:
    gateway = spec.gateway
    admin = Admin(gateway.config.kafka.client_properties())
    registry = pinned_registry(gateway.config)
    preflight.require(preflight.checks(gateway, admin, registry))
    if registry.answered_from_files:
        print(f"warning: {preflight.REGISTRY_SILENT}", file=sys.stderr)  # noqa: T201 - as above
    for found in warnings(gateway.config, admin):
        print(f"warning: {copyable(str(found.check))}", file=sys.stderr)  # noqa: T201 - as above
        log(Event.START_WARNED, check=found.name)
    loaded = gateway.policy()
    for stream in loaded.policy.streams:
        set_starts(gateway, admin, loaded, stream)


def _keys(spec: ChildSpec, _stop: threading.Event) -> None:
    """Open the keyset and end; the supervisor learns from how this ends whether the KEK may still be used."""
    limit_memory(_MAX_CHILD_BYTES)
    spec.gateway.keyset()


def _applier(spec: ChildSpec, stop: threading.Event) -> None:
    limit_memory(_MAX_CHILD_BYTES)
    gateway = spec.gateway
    id_key, mac_key = gateway.keyset().consent_store_keys()
    status = StatusWriter(spec.status_file)
    slot = SlotWriter(slot_path(gateway.slots_directory, "applier", 0), metrics.applier_series([]))
    staleness = slot.index(metrics.CONSENT_STALENESS)

    def report(progress: Progress) -> None:
        status.beat()
        status.state(ChildState.RUNNING if progress.restored else ChildState.WAITING)
        slot.ensure(metrics.applier_series(range(len(progress.position))))
        slot.set(staleness, progress.staleness_seconds)
        for partition, offset in enumerate(progress.position):
            slot.set(slot.index(metrics.CONSENT_POSITION, str(partition)), offset)
            slot.set(slot.index(metrics.CONSENT_UNREADABLE_KEYS, str(partition)), partition in progress.blocked)

    settings = ApplierSettings(
        properties=gateway.config.kafka.client_properties(),
        topic=gateway.config.consent.topic,
        state_directory=gateway.config.state.directory,
        id_key=id_key.reveal(),
        mac_key=mac_key.reveal(),
        boot_id=boot_id(),
        purposes=frozenset(gateway.policy().policy.purposes),
        engine=gateway.engine,
    )
    run_applier(settings, stop, report)


def _worker(spec: ChildSpec, stop: threading.Event) -> None:
    limit_memory(_MAX_CHILD_BYTES)
    gateway, stream = spec.gateway, spec.stream
    config = gateway.config
    loaded = gateway.policy()
    keyset = gateway.keyset()
    found = loaded.policy.streams[stream]
    registry = pinned_registry(config, stream, found.source.topic)
    outputs = stream_context(loaded, stream, keyset, retiring=True).outputs()
    audiences = [output.audience for output in found.outputs]
    status = StatusWriter(spec.status_file)
    slot = SlotWriter(
        slot_path(gateway.slots_directory, f"worker-{stream}", spec.slot),
        metrics.worker_series(stream, audiences, [(output.audience, output.epoch) for output in outputs]),
    )
    tally = Tally(slot, status, stream, outputs, keys_made_at_ms=_keys_made_at_ms(gateway, outputs))
    log(Event.KEYS_OPENED, count=len(keyset.domains))
    properties = config.kafka.client_properties()
    admin = Admin(properties, timeout_seconds=_ANSWER_SECONDS)
    written = [*(output.topic for output in outputs), gateway.dead_letter_topic(found.source.topic)]
    max_bytes = _max_bytes(admin, properties, written)
    engine = make_engine(
        gateway.engine,
        loaded.policy,
        keyset,
        max_output_bytes=max_bytes,
        on_fault=lambda error: log(Event.ENGINE_FAILED, error=error, stream=stream),
    )
    plans = _plans(gateway, loaded, registry, engine=engine, stream=stream, tally=tally)
    id_key, mac_key = keyset.consent_store_keys()
    transactional_id = gateway.transactional_id(stream, spec.slot)
    clock = SystemClock()
    store = ConsentStoreReader(
        store_directory(config.state.directory, gateway.engine),
        id_key.reveal(),
        mac_key.reveal(),
        engine=gateway.engine,
    )
    assignment = Assignment(
        AssignmentSettings(
            stream=stream,
            slot=spec.slot,
            group=gateway.group(stream),
            policy_digest=loaded.digest,
            consent_topic=config.consent.topic,
            max_staleness_seconds=config.consent.max_staleness_seconds,
            epochs=fed_epochs(outputs),
        ),
        admin=admin,
        store=store,
        freshness=Freshness(config.state.directory / FILE_NAME, boot_id()),
        clock=clock,
        topics=TopicWatch(
            admin,
            clock,
            stream=stream,
            source=found.source.topic,
            written=written,
        ),
    )
    worker = Worker(
        WorkerSettings(
            topic=found.source.topic,
            interval_seconds=config.gateway.commit.interval_ms / 1000,
            max_records=config.gateway.commit.records,
            max_bytes=config.gateway.commit.bytes,
        ),
        consumer=lambda owner: GroupConsumer(properties, gateway.group(stream), transactional_id, owner),
        producer=lambda: TransactionalProducer(properties, transactional_id, max_batch_bytes=max_bytes),
        assignment=assignment,
        store=store,
        engine=engine,
        plans=plans,
        intake=Intake(plans, clock, framed=found.source.format != "json"),
        delivery=Delivery(
            outputs=tuple(output.topic for output in outputs),
            dead_letter_topic=gateway.dead_letter_topic(found.source.topic),
            dead_letter_schema_id=_dead_letter_id(gateway, registry, found.source.topic),
            policy_digest=loaded.digest,
            version=__version__,
        ),
        suspects=Suspects(config.state.directory, stream, spec.slot),
        tally=tally,
        clock=clock,
    )
    watch = SchemaWatch(registry, plans.planned_ids, stop)
    watch.start()
    _calm_collector()
    worker.run(stop.is_set)
    watch.raise_if_changed()


def _replay(spec: ChildSpec, stop: threading.Event) -> None:
    """Replay dead letters; everything that a worker of the stream needs must be fit for it too."""
    limit_memory(_MAX_CHILD_BYTES)
    if spec.replay is None:
        raise ValueError("a replay needs an order")
    gateway, stream = spec.gateway, spec.stream
    loaded, keyset = gateway.policy(), gateway.keyset()
    source_topic = loaded.policy.streams[stream].source.topic
    status = StatusWriter(spec.status_file)
    tally = ReplayTally(status, new_ledger(stream, source_topic, spec.replay))
    properties = gateway.config.kafka.client_properties()
    admin = Admin(properties)
    preflight.require(preflight.checks(gateway, admin, pinned_registry(gateway.config)))
    tally.heartbeat()
    registry = pinned_registry(gateway.config, stream, source_topic)
    outputs = stream_context(loaded, stream, keyset, retiring=True).outputs()
    written = [*(output.topic for output in outputs), gateway.dead_letter_topic(source_topic)]
    max_bytes = _max_bytes(admin, properties, written)
    engine = make_engine(
        gateway.engine,
        loaded.policy,
        keyset,
        max_output_bytes=max_bytes,
        on_fault=lambda error: log(Event.ENGINE_FAILED, error=error, stream=stream),
    )
    plans = _plans(gateway, loaded, registry, engine=engine, stream=stream, tally=tally)
    parts = ReplayParts(
        gateway=gateway,
        loaded=loaded,
        stream=stream,
        keyset=keyset,
        properties=properties,
        max_bytes=max_bytes,
        admin=admin,
        engine=engine,
        plans=plans,
        outputs=outputs,
        dead_letter_schema_id=_dead_letter_id(gateway, registry, source_topic),
        tally=tally,
    )
    _calm_collector()
    run_replay(parts, spec.replay, stop.is_set)


def _max_bytes(admin: Admin, properties: Mapping[str, PropertyValue], topics: Iterable[str]) -> int:
    """Return how large a sanitized record, or a batch of them, may be: what the client and every topic take.

    A larger one would fail its whole transaction, and that again at every retry.
    """
    client = int(properties.get("message.max.bytes", _CLIENT_MAX_BYTES))
    limits = (admin.topic_config(topic).get("max.message.bytes") for topic in topics)
    return min([client, *(int(limit) for limit in limits if limit is not None)]) - _BATCH_BYTES


def _calm_collector() -> None:
    """Let the cycle collector run seldom: a batch makes many objects and no cycles.

    With the defaults a fifth of a worker's time went into walking objects that reference counts free anyway.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def _keys_made_at_ms(gateway: Gateway, outputs: Iterable[EpochOutput]) -> int | None:
    """Return when the oldest active key epoch of these outputs began."""
    domains = {output.domain for output in outputs}
    rows = gateway.key_rows()
    made = [parse_date_time(row.created_at) for row in rows if row.domain in domains and row.status == "active"]
    return min(made, default=None)


def _plans(  # noqa: PLR0913 - what plans are made from
    gateway: Gateway, loaded: LoadedPolicy, registry: Registry, *, engine: Engine, stream: str, tally: Tally
) -> PlanCache:
    """Return the plans of every known schema version.

    The preflight has refused to start with a version that cannot be planned. One that came since then is treated as if
    it were first seen now: a worker that is started again must not end the whole gateway for it.
    """
    planned = plan_known(loaded, stream, gateway.keyset(), registry, gateway.policy_directory)
    plans = PlanCache(
        planned.context,
        engine,
        registry,
        register=gateway.config.registry.register_ == "auto",
        monotonic=time.monotonic,
        unknown_schema_seconds=gateway.config.registry.unknown_schema_seconds,
        on_registry_error=tally.registry_error,
        on_unclassified=tally.unclassified,
    )
    for version in planned.versions:
        try:
            plans.add(version)
        except SchemaError as error:
            plans.refuse(version.source.id, Reason.SCHEMA_REFUSED, error.path)
        except RegistryError as error:
            if error.kind in _SAYS_NOTHING:
                continue  # Its records pause their partition until the registry answers; those of others flow.
            if error.kind != "incompatible":
                raise
            plans.refuse(version.source.id, Reason.SCHEMA_INCOMPATIBLE)
        else:
            log(Event.SCHEMA_PLANNED, stream=stream, schema_id=logged_id(version.source.id))
    return plans


def _dead_letter_id(gateway: Gateway, registry: Registry, source_topic: str) -> int:
    subject = f"{gateway.dead_letter_topic(source_topic)}-value"
    if gateway.config.registry.register_ == "auto":
        return register_derived(registry, subject, deadletter.SCHEMA, "AVRO")
    return registry.lookup(subject, deadletter.SCHEMA, "AVRO")


def run_child() -> int:
    """Run :func:`main` and turn whatever else ends it into exit codes."""
    try:
        return main()
    except TokenweirError:
        return ExitCode.CRASHED
    except SystemExit as end:
        # The guard's; it must not end the process either, with the destructors that the caller goes round.
        return end.code if isinstance(end.code, int) else ExitCode.CRASHED


if __name__ == "__main__":
    # Exit without the destructors of the clients: what is not committed by now must not become so.
    code = run_child()
    sys.stderr.flush()
    os._exit(code)
