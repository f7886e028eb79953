"""A child process of the gateway that names the steps of its transactions to :mod:`tests.support.faults`.

The product has no hook for this: its methods are wrapped here, from outside, and then it runs as it always does.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.faults import VARIABLE, Trigger

from tokenweir.adapters.consentreader import ConsentSnapshot, ConsentStoreReader
from tokenweir.adapters.producer import TransactionalProducer
from tokenweir.core.outcome import Fate, Outcome
from tokenweir.runtime.batch import Delivery
from tokenweir.runtime.children import run_child
from tokenweir.runtime.worker import Worker

Passage = Callable[[str], None]


def install(passage: Passage) -> None:
    """Wrap the methods between which the points lie, in this process."""
    _wrap(Worker, "_read_batch", _after("after_poll", passage, when=bool))
    _wrap(ConsentStoreReader, "snapshot", _within_snapshot(passage))
    _wrap(Worker, "_decide", _after("after_engine", passage, when=lambda decided: decided is not None))
    _wrap(TransactionalProducer, "begin", _after("after_begin", passage))
    halfway = _Halfway(passage)
    _wrap(TransactionalProducer, "produce", halfway.count)
    _wrap(Delivery, "produce", halfway.deliver)
    _wrap(Delivery, "produce", _after("after_produce", passage))
    _wrap(TransactionalProducer, "send_offsets", _after("after_offsets", passage))
    _wrap(TransactionalProducer, "commit", _before("before_commit", passage))
    _wrap(TransactionalProducer, "commit", _after("after_commit", passage))


Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def _wrap(owner: type, name: str, wrapper: Wrapper) -> None:
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrapper(original)))


def _before(point: str, passage: Passage) -> Wrapper:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: object, **named: object) -> object:
            passage(point)
            return original(*arguments, **named)

        return wrapped

    return wrapper


def _after(point: str, passage: Passage, when: Callable[[object], bool] = lambda _: True) -> Wrapper:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: object, **named: object) -> object:
            result = original(*arguments, **named)
            if when(result):
                passage(point)
            return result

        return wrapped

    return wrapper


def _within_snapshot(passage: Passage) -> Wrapper:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def snapshot(reader: ConsentStoreReader) -> Iterator[ConsentSnapshot]:
            with original(reader) as found:
                passage("after_snapshot")
                yield found

        return snapshot

    return wrapper


class _Halfway:
    """Passes ``mid_produce`` when half of the records of a transaction were handed to librdkafka."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self._left = 0

    def deliver(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method that produces a whole batch."""

        def produce(
            delivery: Delivery, producer: TransactionalProducer, batch: object, outcomes: Sequence[Sequence[Outcome]]
        ) -> None:
            leaving = sum(outcome.fate is not Fate.WITHHELD for entries in outcomes for outcome in entries)
            self._left = (leaving + 1) // 2
            original(delivery, producer, batch, outcomes)

        return produce

    def count(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method that produces one record."""

        def produce(*arguments: object, **named: object) -> None:
            original(*arguments, **named)
            self._left -= 1
            if self._left == 0:
                self._passage("mid_produce")

        return produce


def main() -> None:
    """Run the child that standard input describes."""
    install(Trigger(Path(os.environ[VARIABLE])).passage)
    code = run_child()
    sys.stderr.flush()
    # Without the destructors of the clients, as the product itself ends.
    os._exit(code)


if __name__ == "__main__":
    main()
