"""When a transactional producer takes a new client, and with it a new epoch, before its next transaction."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tokenweir.adapters import producer as module
from tokenweir.adapters.kafka_errors import KAFKA_LOGGER
from tokenweir.adapters.producer import TransactionalProducer, _Disturbances


class _Client:
    """Stands in for librdkafka's client: remembers what it is asked, and says what it is told to at the next poll."""

    made: list[_Client]

    def __init__(self, configuration: dict[str, Any], logger: _Disturbances) -> None:
        self.configuration, self._logger = configuration, logger
        self.calls: list[str] = []
        self.messages: list[str] = []
        self.made.append(self)

    def say(self, message: str) -> None:
        """Have something to say."""
        self.messages.append(message)

    def poll(self, _seconds: float) -> int:
        while self.messages:
            fac, _, text = self.messages.pop(0).partition(" ")
            self._logger.log(logging.INFO, "%s [%s] %s", fac, "rdkafka#producer-1", text)
        return 0

    def init_transactions(self, _seconds: float) -> None:
        self.calls.append("init")

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def commit_transaction(self, _seconds: float) -> None:
        self.calls.append("commit")

    def purge(self, **_options: bool) -> None:
        self.calls.append("purge")


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[_Client]:
    """The clients that were made."""
    made: list[_Client] = []
    monkeypatch.setattr(_Client, "made", made, raising=False)
    monkeypatch.setattr(module, "Producer", _Client)
    return made


@pytest.mark.parametrize(
    "message",
    [
        "FAIL [thrd:TxnCoordinator]: TxnCoordinator: 127.0.0.1:9092: Disconnected: connection closed by peer",
        "REQTMOUT [thrd:TxnCoordinator]: Timed out EndTxnRequest in flight (after 2001ms, timeout #0)",
    ],
)
def test_after_a_lost_connection_the_next_transaction_has_a_new_client(clients: list[_Client], message: str) -> None:
    """Once, and not in the midst of the present one; what librdkafka says is passed on."""
    producer = TransactionalProducer({}, "id")
    producer.init_transactions()
    producer.begin()
    clients[0].say(message)
    producer.commit()
    assert len(clients) == 1
    for _ in range(2):
        producer.begin()
        producer.commit()
    assert [client.calls for client in clients] == [
        ["init", "begin", "commit", "purge"],
        ["init", "begin", "commit", "begin", "commit"],
    ]


def test_what_was_lost_before_the_epoch_was_given_does_not_matter(clients: list[_Client]) -> None:
    """A broker that refused a connection at the start costs no second client; nor does any other message."""
    producer = TransactionalProducer({}, "id")
    clients[0].say("FAIL [thrd:127.0.0.1:9092/bootstrap]: Connect to ipv4#127.0.0.1:9092 failed: Connection refused")
    producer.init_transactions()
    producer.begin()
    clients[0].say("GETPID [thrd:main]: Failed to acquire transactional PID from broker: retrying")
    producer.commit()
    producer.begin()
    assert len(clients) == 1


def test_librdkafka_says_enough(
    clients: list[_Client], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the configuration asks for, lost connections are told, and each message reaches the gateway's log."""
    monkeypatch.setattr(KAFKA_LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, KAFKA_LOGGER.name)
    producer = TransactionalProducer({"log_level": 3}, "id")
    TransactionalProducer({"log_level": 7}, "id")
    producer.begin()
    clients[0].say("FAIL lost")
    producer.commit()
    assert [client.configuration["log_level"] for client in clients] == [6, 7]
    assert {client.configuration["log.connection.close"] for client in clients} == {"true"}
    assert "FAIL [rdkafka#producer-1] lost" in caplog.text
