"""A TCP proxy that understands Kafka's frames and can lose, hold, delay, double and cut what it chooses among them.

A broker that advertises the proxy's port on a listener is reached through it by clients that know nothing of it. Every
frame of a request names its API and its client; an answer is matched to its request by the correlation id. TLS and SASL
are not understood.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple, Self

from tests.support.processes import free_port

#: Numbers of APIs (https://kafka.apache.org/protocol#protocol_api_keys).
PRODUCE, FETCH, LIST_OFFSETS, INIT_PRODUCER_ID = 0, 1, 2, 22
ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 24, 25, 26, 28

_LENGTH: Final = struct.Struct(">i")
#: API key, API version, correlation id, length of the client id (-1 for none).
_REQUEST: Final = struct.Struct(">hhih")
_CORRELATION: Final = struct.Struct(">i")
#: How long an answer to a frame that was held is waited for, after its client has gone.
_ANSWER_SECONDS: Final = 10.0

Direction = Literal["request", "response"]


class Frame(NamedTuple):
    """One request, or one answer with the names of its request."""

    direction: Direction
    connection: int
    client_id: str
    api: int
    data: bytes


class Action(Enum):
    """What can happen to a frame. What lies behind it on its connection waits with it, as TCP would have it."""

    CUT = "cut"
    """It is lost, and the connection with it."""
    DROP = "drop"
    """It is lost; where that goes for every frame of a connection, the connection is a black hole."""
    DELAY = "delay"
    """It passes after some time."""
    HOLD = "hold"
    """It passes when the rule is lifted, even if the client has given up the connection meanwhile."""
    HOLD_AND_CUT = "hold and cut"
    """As before, and the client loses the connection at once, so that it goes on over another one."""
    DOUBLE = "double"
    """A request reaches the broker twice; the client sees one answer."""


@dataclass(eq=False)
class Rule:
    """What happens to some frames, until it is lifted.

    Whether the nth frame of those that match is hit depends on the seed and on n alone.

    Attributes:
        matched: Frames to which it might have happened.
        hit: Those to which it happened.
        waiting: Those that are held at the moment.
    """

    action: Action
    matches: Callable[[Frame], bool]
    chance: float
    limit: float
    seconds: float
    dice: random.Random
    matched: int = 0
    hit: int = 0
    waiting: int = 0

    def __post_init__(self) -> None:
        self._lifted = threading.Event()

    @property
    def lifted(self) -> bool:
        """Whether it holds no more."""
        return self._lifted.is_set()

    def lift(self) -> None:
        """Let everything pass from now on, and what is held."""
        self._lifted.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it is lifted, or the time is up."""
        self._lifted.wait(seconds)

    def strikes(self, frame: Frame) -> bool:
        """Decide about a frame; the proxy's lock is held."""
        if self.lifted or not self.matches(frame):
            return False
        self.matched += 1
        if self.dice.random() >= self.chance or self.hit >= self.limit:
            return False
        self.hit += 1
        return True


class _Connection:
    """A client's connection and the one to the broker that belongs to it."""

    def __init__(self, number: int, client: socket.socket, broker: socket.socket) -> None:
        self.number, self.client, self.broker = number, client, broker
        self.client_id = ""
        self.requests: dict[int, int] = {}
        """API by correlation id of each request that has no answer yet."""
        self.has_held = False

    def close(self) -> None:
        """End both sides at once."""
        for end in (self.client, self.broker):
            _shut(end)


class KafkaProxy:
    """Listens on a port of 127.0.0.1 and passes frames to a broker and back, as its rules allow.

    Args:
        broker: Host and port of the broker's listener.
        port: The port that the broker advertises for it.
        seed: Decides which frames are hit by rules with a chance below 1.
    """

    def __init__(self, broker: str, port: int | None = None, seed: int = 0) -> None:
        host, _, number = broker.rpartition(":")
        self._broker = (host, int(number))
        self._seed = seed
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._connections: dict[int, _Connection] = {}
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self.port = port or free_port()
        self.frames: Counter[tuple[Direction, str, int]] = Counter()
        """How many frames came, by direction, client id and API."""
        self.struck: Counter[tuple[Action, Direction, int]] = Counter()
        """How many were hit, by action, direction and API."""
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._start(self._accept)

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rule(
        self,
        action: Action,
        matches: Callable[[Frame], bool],
        *,
        chance: float = 1.0,
        limit: float = float("inf"),
        seconds: float = 0.0,
    ) -> Rule:
        """Let something happen to the frames that match, from now on; of several rules the first that strikes counts.

        Args:
            action: What happens.
            matches: To which frames.
            chance: To which part of those.
            limit: To how many of them at most.
            seconds: For how long :attr:`Action.DELAY` delays.
        """
        with self._lock:
            # A sequence of its own for each rule: its decisions do not depend on what else happens.
            dice = random.Random(f"{self._seed}/{len(self._rules)}")
            made = Rule(action, matches, chance, limit, seconds, dice)
            self._rules.append(made)
        return made

    def cut(self, matches: Callable[[str], bool] = lambda _client_id: True) -> int:
        """End the connections of the clients that match, once; return how many."""
        with self._lock:
            found = [each for each in self._connections.values() if matches(each.client_id)]
        for each in found:
            each.close()
        return len(found)

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        for rule in self._rules:
            rule.lift()
        _shut(self._server)
        self._server.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(30)

    # Threads: one takes connections in, and two for each of them pump frames, one for each direction.

    def _start(self, body: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=body, args=arguments, name="kafka-proxy", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        for number in range(1, 1 << 30):
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self._broker, 10)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(number, client, broker)
            with self._lock:
                self._connections[number] = connection
            self._start(self._pump, connection, "request")
            self._start(self._pump, connection, "response")

    def _pump(self, connection: _Connection, direction: Direction) -> None:
        source, target = connection.client, connection.broker
        if direction == "response":
            source, target = target, source
        with suppress(OSError):
            for data in _frames(source):
                frame = self._read(connection, direction, data)
                if frame is not None and not self._pass(connection, frame, target):
                    break
            else:
                self._let_broker_finish(connection)
        connection.close()
        source.close()
        with self._lock:
            self._connections.pop(connection.number, None)

    def _let_broker_finish(self, connection: _Connection) -> None:
        """After a client's end, keep the broker's side for a held frame: a reset would take it back."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while connection.has_held and connection.requests and time.monotonic() < deadline:
            self._closed.wait(0.01)

    def _read(self, connection: _Connection, direction: Direction, data: bytes) -> Frame | None:
        """Return a frame with its names, None for an answer that nobody waits for."""
        with self._lock:
            if direction == "request":
                api, _version, correlation, length = _REQUEST.unpack_from(data, _LENGTH.size)
                start = _LENGTH.size + _REQUEST.size
                connection.client_id = data[start : start + max(length, 0)].decode()
                connection.requests[correlation] = api
            else:
                (correlation,) = _CORRELATION.unpack_from(data, _LENGTH.size)
                found = connection.requests.pop(correlation, None)
                if found is None:
                    return None
                api = found
            self.frames[direction, connection.client_id, api] += 1
            return Frame(direction, connection.number, connection.client_id, api, data)

    def _pass(self, connection: _Connection, frame: Frame, target: socket.socket) -> bool:
        """Let a frame pass as the rules allow; return whether the connection goes on."""
        rule = self._judge(frame)
        action = None if rule is None else rule.action
        if action is Action.CUT:
            return False
        if action is Action.DROP:
            return True
        if rule is not None and action is Action.DELAY:
            rule.wait(rule.seconds)
        elif rule is not None and action in {Action.HOLD, Action.HOLD_AND_CUT}:
            self._hold(rule, connection)
        copies = 2 if action is Action.DOUBLE and frame.direction == "request" else 1
        # A client that has gone does not end what the broker was sent before.
        with suppress(OSError) if frame.direction == "response" else nullcontext():
            target.sendall(frame.data * copies)
        return True

    def _judge(self, frame: Frame) -> Rule | None:
        with self._lock:
            rule = next((rule for rule in self._rules if rule.strikes(frame)), None)
            if rule is not None:
                self.struck[rule.action, frame.direction, frame.api] += 1
            return rule

    def _hold(self, rule: Rule, connection: _Connection) -> None:
        connection.has_held = True
        if rule.action is Action.HOLD_AND_CUT:
            # Only the client's side: the broker still waits for what is held.
            _shut(connection.client)
        with self._lock:
            rule.waiting += 1
        rule.wait()
        with self._lock:
            rule.waiting -= 1


def _frames(source: socket.socket) -> Iterator[bytes]:
    """Yield whole frames, lengths included, until the other side has ended."""
    while (head := _exactly(source, _LENGTH.size)) is not None:
        body = _exactly(source, _LENGTH.unpack(head)[0])
        if body is None:
            return
        yield head + body


def _exactly(source: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = source.recv(min(count - len(data), 1 << 16))
        if not part:
            return None
        data += part
    return bytes(data)


def _shut(end: socket.socket) -> None:
    """Wake up whoever waits on this side, and let the other side see an end."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
