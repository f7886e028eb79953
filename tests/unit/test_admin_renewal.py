"""When an administrator's client is made anew."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tokenweir.adapters import admin as module
from tokenweir.adapters.admin import Admin
from tokenweir.adapters.kafka_errors import KafkaFault

_STALE = KafkaError.FENCED_LEADER_EPOCH
_TIMED_OUT = KafkaError._TIMED_OUT


class _Result:
    """Where a partition begins."""

    offset = 7


class _Client:
    """A client of librdkafka that answers with what the test has put there."""

    made: list[_Client]
    answers: list[int | None]
    """Codes of errors to come, None for a result."""

    def __init__(self, _configuration: object, logger: object) -> None:
        self.made.append(self)
        assert logger is not None

    def poll(self, _timeout: float) -> None:
        """Do nothing."""

    def list_offsets(self, places: dict[TopicPartition, object], **_options: object) -> dict[TopicPartition, Any]:
        """Answer."""
        code = self.answers.pop(0)
        future: Future[_Result] = Future()
        if code is None:
            future.set_result(_Result())
        else:
            future.set_exception(KafkaException(KafkaError(code)))
        return dict.fromkeys(places, future)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[_Client]:
    """Clients that count themselves."""
    _Client.made, _Client.answers = [], []
    monkeypatch.setattr(module, "AdminClient", _Client)
    return _Client


def _ask(admin: Admin) -> dict[int, int] | str:
    try:
        return admin.low_watermarks("raw", [0])
    except KafkaFault as fault:
        return fault.code if fault.retriable else "nobody would ask again"


@pytest.mark.parametrize("code", [_STALE, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION])
def test_an_out_of_date_picture_of_the_cluster_is_thrown_away(client: type[_Client], code: int) -> None:
    """The fault is told, and the next question goes through another client."""
    client.answers = [code, None]
    admin = Admin({})
    assert _ask(admin) == KafkaError(code).name()
    assert _ask(admin) == {0: 7}
    assert len(client.made) == 2


@pytest.mark.parametrize("code", [_TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError.REQUEST_TIMED_OUT])
def test_a_client_that_does_not_answer_is_thrown_away(client: type[_Client], code: int) -> None:
    """Each time, whatever it answers to other questions."""
    client.answers = [code, None, code, None]
    admin = Admin({})
    for _ in range(4):
        _ask(admin)
    assert len(client.made) == 3


def test_a_client_is_kept_as_long_as_it_answers(client: type[_Client]) -> None:
    """A fault that the broker reports is an answer."""
    client.answers = [None, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, None]
    admin = Admin({})
    for _ in range(3):
        _ask(admin)
    assert len(client.made) == 1
