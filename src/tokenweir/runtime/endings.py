"""What the end of a child means to its supervisor, and what the child says before it."""

from __future__ import annotations

import sys
from enum import IntEnum

from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.schemacache import SchemaChangedError
from tokenweir.errors import RegistryError
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log


class ExitCode(IntEnum):
    """What a child's end means to its supervisor."""

    DONE = 0
    CRASHED = 1
    REFUSED = 3  # the whole gateway stops: it would not be safe, or cannot help, to start again
    FENCED = 4  # another process has this slot: it is not started again
    EXHAUSTED = 5  # it had no memory left
    UNSERVED = 6  # a broker, the registry or the disk failed it: it is started again for as long as that takes


def of_kafka_fault(fault: KafkaFault, stream: str, slot: int) -> ExitCode:
    """Tell of a fault that ends this child; what the broker does not permit stops the gateway."""
    if fault.fenced:
        return ExitCode.FENCED
    log(Event.KAFKA_FAULT, error=fault, code=fault.code, stream=stream, slot=slot)
    if not fault.denied:
        return ExitCode.UNSERVED
    print(f"error: {fault}; 'tokenweir doctor' names what is not permitted", file=sys.stderr)  # noqa: T201 - for the person who starts it
    return ExitCode.REFUSED


def of_registry_error(error: RegistryError, stream: str) -> ExitCode:
    """Tell of an error that ends this child; only a schema that has changed stops the gateway."""
    if not isinstance(error, SchemaChangedError):
        log(Event.REGISTRY_FAILED, error=error, kind=error.kind, stream=stream)
        return ExitCode.UNSERVED
    log(Event.SCHEMA_CHANGED, stream=stream or None, schema_id=error.schema_id)
    print(f"error: {error}", file=sys.stderr)  # noqa: T201 - for the person who starts it
    return ExitCode.REFUSED
