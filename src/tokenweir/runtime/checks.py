"""One thing that was looked at before a start, in words, and what is the same in all such looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tokenweir.adapters.kafka_errors import KafkaFault, in_words
from tokenweir.runtime.gateway import Gateway

#: Operations of which one suffices to read.
READ: Final = frozenset({"READ", "ALL"})

#: What a broker answers where a permission is missing.
DENIED: Final = frozenset({"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"})

_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what, whether it is well, and if not, what to do."""

    name: str
    ok: bool
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f" ({self.remedy})" if self.remedy and not self.ok else "")


def unknown(gateway: Gateway, name: str, fault: KafkaFault, permission: str) -> Check:
    """Return the check of what cannot be looked at; ``permission`` is what a denied question needs."""
    if fault.code in DENIED:
        message = f"cannot be looked at: the gateway's principal may not ({fault.code})"
        return Check(name, ok=False, message=message, remedy=f"grant {permission} to it")
    message = in_words(fault, gateway.config.kafka.bootstrap_servers)
    return Check(name, ok=False, message=f"cannot be looked at: {message}", remedy="are all brokers up?")


def patiently(action: Callable[[], _Result]) -> _Result:
    """Do something again while a broker says that it may succeed later: a coordinator may only just be loading."""
    deadline_seconds = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return action()
        except KafkaFault as fault:
            if not fault.retriable or time.monotonic() > deadline_seconds:
                raise
            time.sleep(_PAUSE_SECONDS)
