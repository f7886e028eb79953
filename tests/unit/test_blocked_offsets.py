"""A takeover that waits for a transaction which hangs raises an alarm, and goes on by itself once it is decided."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.runtime.assignment import Assignment, AssignmentSettings
from tokenweir.telemetry.events import Event


class _Clock:
    seconds = 0.0

    def now_ms(self) -> int:
        return 0

    def monotonic_ns(self) -> int:
        return int(self.seconds * 1e9)


class _Consumer:
    """Answers the question for committed offsets with a fault, until there is none."""

    def __init__(self, fault: KafkaFault) -> None:
        self.fault: KafkaFault | None = fault

    def committed(self, *_: object, **__: object) -> dict[object, object]:
        if self.fault is not None:
            raise self.fault
        return {}

    def read(self, *_: object) -> None:
        pass

    begin = read


@pytest.mark.parametrize(
    "fault",
    [UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT"), KafkaFault("read", "_TIMED_OUT", retriable=True)],
)
def test_it_is_blocked_after_twice_the_transaction_timeout(fault: KafkaFault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both answers say that a transaction is pending; the alarm is raised once, and taken back."""
    logged: list[Event] = []
    monkeypatch.setattr(Assignment, "log", lambda _self, event, **_fields: logged.append(event))
    clock, consumer = _Clock(), _Consumer(fault)
    settings = AssignmentSettings("clicks", 0, "group", "digest", "consent", 5.0)
    nothing = cast("Any", None)
    assignment = Assignment(settings, admin=nothing, store=nothing, freshness=nothing, clock=clock)
    assignment.attach(cast("Any", consumer))
    assignment.assigned([("raw", 0)])
    blocked = []
    for seconds in (0, 29, 31, 60):
        clock.seconds = seconds
        assert not assignment.take_over()
        blocked.append(assignment.blocked)

    consumer.fault = None
    monkeypatch.setattr(assignment, "_starts", lambda _partitions: {("raw", 0): 5})
    monkeypatch.setattr(assignment, "_consent_covers", lambda _partitions: True)
    assert assignment.take_over()

    assert (blocked, assignment.blocked) == ([False, False, True, True], False)
    assert logged == [
        Event.PARTITIONS_ASSIGNED,
        Event.OFFSETS_BLOCKED,
        Event.OFFSETS_DECIDED,
        Event.PARTITION_RESUMED,
    ]
