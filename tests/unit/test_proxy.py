"""The proxy for Kafka's frames, against a broker that only answers, and a client that only asks."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

import pytest
from tests.support.proxy import END_TXN, FETCH, Action, Frame, KafkaProxy

_PATIENCE_SECONDS = 10.0


class Answerer:
    """Answers every request with its correlation id and its API, and remembers what came."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.seen: list[tuple[int, int]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self._server.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while head := connection.recv(4, socket.MSG_WAITALL):
                body = connection.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
                api, _version, correlation = struct.unpack_from(">hhi", body)
                self.seen.append((correlation, api))
                connection.sendall(struct.pack(">iih", 6, correlation, api))

    def close(self) -> None:
        """Answer nobody new."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # Wakes up the thread that would keep the port open.
        self._server.close()


class Client:
    """Sends requests and reads answers."""

    def __init__(self, address: str, client_id: str | None = "me") -> None:
        host, _, port = address.rpartition(":")
        self._client_id = None if client_id is None else client_id.encode()
        self._socket = socket.create_connection((host, int(port)), _PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, correlation: int, api: int = FETCH) -> None:
        """Send a request."""
        name = self._client_id
        header = struct.pack(">hhih", api, 1, correlation, -1 if name is None else len(name)) + (name or b"") + b"body"
        self._socket.sendall(struct.pack(">i", len(header)) + header)

    def hear(self, seconds: float = _PATIENCE_SECONDS) -> int | None:
        """Return the correlation id of the next answer, None if there is none in time, -1 if the connection ended."""
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(10, socket.MSG_WAITALL)
        except TimeoutError:
            return None
        except ConnectionError:
            return -1
        return struct.unpack(">iih", data)[1] if data else -1


@pytest.fixture
def broker() -> Iterator[Answerer]:
    """A broker that answers."""
    answerer = Answerer()
    yield answerer
    answerer.close()


@pytest.fixture
def proxy(broker: Answerer) -> Iterator[KafkaProxy]:
    """A proxy in front of it."""
    with KafkaProxy(broker.address, seed=7) as made:
        yield made


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ends(frame: Frame) -> bool:
    """Whether a frame is a request to end a transaction."""
    return frame.direction == "request" and frame.api == END_TXN


def test_frames_pass_and_are_counted(proxy: KafkaProxy) -> None:
    """Requests by their own names, answers by those of their requests; a client may have no name."""
    with Client(proxy.address) as client, Client(proxy.address, None) as nobody:
        for number in range(3):
            client.ask(number)
            assert client.hear() == number
        nobody.ask(9, END_TXN)
        assert nobody.hear() == 9
    assert proxy.frames["request", "me", FETCH] == proxy.frames["response", "me", FETCH] == 3
    assert proxy.frames["response", "", END_TXN] == 1
    assert not proxy.struck


def test_a_request_is_dropped_and_what_follows_passes(proxy: KafkaProxy, broker: Answerer) -> None:
    """Only frames that match, and only as often as is allowed."""
    rule = proxy.rule(Action.DROP, ends, limit=1)
    with Client(proxy.address) as client:
        for number, api in enumerate((FETCH, END_TXN, END_TXN)):
            client.ask(number, api)
        assert [client.hear(), client.hear()] == [0, 2]
    assert broker.seen == [(0, FETCH), (2, END_TXN)]
    assert (rule.matched, rule.hit) == (2, 1)
    assert proxy.struck == {(Action.DROP, "request", END_TXN): 1}


def test_an_answer_is_dropped_after_the_broker_has_done_its_work(proxy: KafkaProxy, broker: Answerer) -> None:
    """The client cannot tell it from a lost request."""
    rule = proxy.rule(Action.DROP, lambda frame: frame.direction == "response" and frame.client_id == "me")
    with Client(proxy.address) as client, Client(proxy.address, "you") as other:
        client.ask(1)
        other.ask(2)
        assert other.hear() == 2
        assert client.hear(0.2) is None
        rule.lift()
        client.ask(3)
        assert client.hear() == 3
    assert sorted(broker.seen) == [(1, FETCH), (2, FETCH), (3, FETCH)]


def test_what_is_held_keeps_what_is_behind_it(proxy: KafkaProxy, broker: Answerer) -> None:
    """Until the rule is lifted; other connections go on."""
    rule = proxy.rule(Action.HOLD, ends)
    with Client(proxy.address) as client, Client(proxy.address) as other:
        client.ask(1, END_TXN)
        client.ask(2)
        until(lambda: rule.waiting == 1)
        other.ask(3)
        assert other.hear() == 3
        assert client.hear(0.2) is None
        rule.lift()
        assert [client.hear(), client.hear()] == [1, 2]
    assert broker.seen == [(3, FETCH), (1, END_TXN), (2, FETCH)]


@pytest.mark.parametrize("action", [Action.HOLD, Action.HOLD_AND_CUT])
def test_what_is_held_reaches_the_broker_after_its_client_has_gone(
    proxy: KafkaProxy, broker: Answerer, action: Action
) -> None:
    """As a request in a slow network does, whose client has long asked again."""
    rule = proxy.rule(action, ends, limit=1)
    with Client(proxy.address) as client:
        client.ask(1, END_TXN)
        until(lambda: rule.waiting == 1)
        if action is Action.HOLD_AND_CUT:
            assert client.hear() == -1
    with Client(proxy.address) as again:
        again.ask(2, END_TXN)
        assert again.hear() == 2
    assert broker.seen == [(2, END_TXN)]
    rule.lift()
    until(lambda: broker.seen == [(2, END_TXN), (1, END_TXN)])


def test_a_delay_is_a_delay(proxy: KafkaProxy) -> None:
    """The frame passes later."""
    proxy.rule(Action.DELAY, ends, seconds=0.3)
    with Client(proxy.address) as client:
        started = time.monotonic()
        client.ask(1, END_TXN)
        assert client.hear() == 1
        assert 0.3 <= time.monotonic() - started < _PATIENCE_SECONDS


def test_a_doubled_request_has_one_answer(proxy: KafkaProxy, broker: Answerer) -> None:
    """The broker gets it twice."""
    proxy.rule(Action.DOUBLE, ends)
    with Client(proxy.address) as client:
        client.ask(1, END_TXN)
        client.ask(2)
        assert [client.hear(), client.hear()] == [1, 2]
    assert broker.seen == [(1, END_TXN), (1, END_TXN), (2, FETCH)]


def test_connections_are_cut_by_rule_and_at_once(proxy: KafkaProxy, broker: Answerer) -> None:
    """A rule cuts whoever sends what matches; a call cuts those of a client that are there."""
    with Client(proxy.address) as client, Client(proxy.address, "you") as other:
        for each in (client, other):
            each.ask(1)
            assert each.hear() == 1
        assert proxy.cut(lambda client_id: client_id == "you") == 1
        assert other.hear() == -1
        proxy.rule(Action.CUT, ends)
        client.ask(2, END_TXN)
        assert client.hear() == -1
    assert (2, END_TXN) not in broker.seen


def test_a_broker_that_is_away_ends_the_connection(proxy: KafkaProxy, broker: Answerer) -> None:
    """As if nobody listened."""
    broker.close()
    with Client(proxy.address) as client:
        assert client.hear() == -1


def test_the_same_seed_strikes_the_same_frames(broker: Answerer) -> None:
    """By their number among those that match, whatever else passes; another seed strikes others."""

    def struck(seed: int, noise: int) -> list[int]:
        with KafkaProxy(broker.address, seed=seed) as proxy:
            rule = proxy.rule(Action.DROP, ends, chance=0.5)
            hits = []
            with Client(proxy.address) as client:
                for number in range(40):
                    for other in range(noise):
                        client.ask(1_000 + other)
                        assert client.hear() == 1_000 + other
                    before = rule.hit
                    client.ask(number, END_TXN)
                    until(lambda number=number: rule.matched == number + 1)  # type: ignore[misc]  # Bound per round.
                    if rule.hit > before:
                        hits.append(number)
                    else:
                        assert client.hear() == number
            return hits

    first = struck(1, noise=0)
    assert first == struck(1, noise=2) != struck(2, noise=0)
    assert 10 < len(first) < 30
