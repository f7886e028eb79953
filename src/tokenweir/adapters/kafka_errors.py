"""What Kafka clients report: typed faults instead of foreign exceptions, and the logger that takes their own messages.

The tree::

    KafkaFault                     any answer of a broker or of librdkafka that is not success
    ├── UnstableOffsetsError       a transaction that sent these offsets is not decided yet: ask again
    └── ClientConfigurationError   librdkafka refused a property; names it and never its value
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from confluent_kafka import KafkaError, KafkaException

from tokenweir.core.librdkafka import PROPERTIES
from tokenweir.errors import TokenweirError

KAFKA_LOGGER = logging.getLogger("tokenweir.kafka")
"""Takes what librdkafka would print on standard error."""

# Without any handler Python prints warnings on standard error; a library leaves that choice to the application.
KAFKA_LOGGER.addHandler(logging.NullHandler())

_RETRIABLE_CODES = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka's own codes begin with an underscore.
        KafkaError._TRANSPORT,  # noqa: SLF001 - as above.
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - as above.
        KafkaError._RESOLVE,  # noqa: SLF001 - as above.
        KafkaError._WAIT_COORD,  # noqa: SLF001 - as above.
        KafkaError._WAIT_CACHE,  # noqa: SLF001 - as above.
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001 - as above.
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_CONTROLLER,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)
"""Codes that may pass by themselves, for the calls whose errors carry no flags (all but the transactional ones)."""


_FENCED: Final = frozenset({"_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"})
_DENIED: Final = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    }
)


class KafkaFault(TokenweirError):  # noqa: N818 - an error is what confluent_kafka calls its own class.
    """An operation on Kafka that did not succeed.

    Attributes:
        operation: What was tried, in words of this project.
        code: The name of the code in librdkafka or in the Kafka protocol, such as ``_TIMED_OUT``.
        retriable: The same call may succeed later.
        abortable: The transaction must be aborted; the producer stays usable.
        fatal: The client is unusable and must be made anew.
    """

    exit_code: ClassVar[int] = 3

    def __init__(  # noqa: PLR0913 - librdkafka has three flags that do not exclude each other.
        self,
        operation: str,
        code: str,
        detail: str = "",
        *,
        retriable: bool = False,
        abortable: bool = False,
        fatal: bool = False,
    ) -> None:
        super().__init__(f"{operation}: {code}" + (f" ({detail})" if detail else ""))
        self.operation = operation
        self.code = code
        self.retriable = retriable
        self.abortable = abortable
        self.fatal = fatal

    @property
    def fenced(self) -> bool:
        """Whether the broker does not know this producer as the holder of its transactional id any more."""
        return self.code in _FENCED

    @property
    def denied(self) -> bool:
        """Whether the broker does not permit this; no flag says so, and asking again does not help."""
        return self.code in _DENIED


_UNREACHABLE: Final = frozenset({"_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT"})
_NO_TOPIC: Final = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"})


def in_words(fault: KafkaFault, servers: str) -> str:
    """Return what a fault means for a person; ``servers`` are the addresses that were tried."""
    if _unreachable(fault):
        return f"no broker answers at {servers} ({fault.operation}: {fault.code})"
    if fault.code in _NO_TOPIC and " topic " in fault.operation:
        return f"topic {fault.operation.rpartition(' topic ')[2]} does not exist"
    return str(fault)


def remedy_for(fault: KafkaFault) -> str:
    """Return what a person can do about a fault, "" where nothing is known."""
    return "is the broker up, and kafka.bootstrap_servers right?" if _unreachable(fault) else ""


def _unreachable(fault: KafkaFault) -> bool:
    """Whether no broker answers at all; the end of a topic can be out of reach for another reason."""
    return fault.code in _UNREACHABLE and not fault.operation.startswith("read topic ")


class UnstableOffsetsError(KafkaFault):
    """Committed offsets hang on a transaction that is not decided; the only right answer is to ask again."""


class ClientConfigurationError(KafkaFault):
    """librdkafka refused the configuration of a client."""


def fault(operation: str, error: KafkaError) -> KafkaFault:
    """Return the fault for an error of a call that is not transactional."""
    kind = UnstableOffsetsError if error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT else KafkaFault
    retriable = error.retriable() or error.code() in _RETRIABLE_CODES
    return kind(operation, error.name(), error.str(), retriable=retriable, fatal=error.fatal())


def transaction_fault(operation: str, error: KafkaError) -> KafkaFault:
    """Return the fault for an error of a transactional call.

    librdkafka flags every error that a producer survives. An error without a flag has been seen after an abort that
    only seemed to succeed, so it counts as fatal: the producer is made anew and starts from what is committed.
    """
    retriable, abortable = error.retriable(), error.txn_requires_abort()
    fatal = error.fatal() or not (retriable or abortable)
    return KafkaFault(operation, error.name(), error.str(), retriable=retriable, abortable=abortable, fatal=fatal)


@contextmanager
def faults(operation: str) -> Iterator[None]:
    """Turn foreign exceptions of a call that is not transactional into :class:`KafkaFault`."""
    try:
        yield
    except KafkaException as error:
        raise fault(operation, error_of(error)) from error


@contextmanager
def transaction_faults(operation: str) -> Iterator[None]:
    """Turn foreign exceptions of a transactional call into :class:`KafkaFault`."""
    try:
        yield
    except KafkaException as error:
        raise transaction_fault(operation, error_of(error)) from error


@contextmanager
def configuration_faults(client: str) -> Iterator[None]:
    """Turn a refusal to create a client into :class:`ClientConfigurationError`, without the value it quotes."""
    try:
        yield
    except KafkaException as error:
        foreign = error_of(error)
        named = [word for word in re.findall(r"[\w.]+", foreign.str()) if word.rstrip(".") in PROPERTIES]
        detail = f"property {named[0].rstrip('.')}" if named else "librdkafka gives no property"
        raise ClientConfigurationError(f"create the {client}", foreign.name(), detail, fatal=True) from None


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error inside a foreign exception."""
    error = exception.args[0] if exception.args else None
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError.UNKNOWN)
