"""A producer that the broker does not know any more: taken over by another one, or timed out in its own transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException

from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.adapters.producer import EXPIRED, TransactionalProducer

_NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
_STEPS: Sequence[Callable[[TransactionalProducer], None]] = (
    lambda producer: producer.produce("topic", b"value"),
    lambda producer: producer.produce_all("topic", [b"value"], [None], [5], {}),
    lambda producer: producer.send_offsets([], b"metadata"),
    lambda producer: producer.commit(),
    lambda producer: producer.abort(),
)


class _Fenced:
    """Stands in for a librdkafka producer whose epoch the broker refuses."""

    def __init__(self, code: int) -> None:
        self._code = code

    def begin_transaction(self) -> None:
        """Succeed: nothing is asked of the broker."""

    def poll(self, _timeout: float) -> int:
        """Have nothing to say."""
        return 0

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise KafkaException(KafkaError(self._code, fatal=True))

    produce = send_offsets_to_transaction = commit_transaction = abort_transaction = _refuse


@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH])
@pytest.mark.parametrize(("open_seconds", "expired"), [(14.9, False), (15.0, True), (3600.0, True)])
@pytest.mark.parametrize("step", _STEPS)
def test_a_transaction_that_was_open_too_long_is_no_sign_of_another_producer(
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    open_seconds: float,
    expired: bool,  # noqa: FBT001 - a table.
    step: Callable[[TransactionalProducer], None],
) -> None:
    """The broker's own time-out calls for a new producer; a fence before that calls for the end of this worker."""
    producer = TransactionalProducer(_NOBODY, "id")
    monkeypatch.setattr(producer, "_producer", _Fenced(code))
    times = iter([100.0, 100.0 + open_seconds])
    monkeypatch.setattr("tokenweir.adapters.producer._seconds_awake_or_not", lambda: next(times))
    producer.begin()

    with pytest.raises(KafkaFault) as caught:
        step(producer)

    assert caught.value.fatal
    assert (caught.value.code == EXPIRED) is expired
