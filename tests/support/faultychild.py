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
from tokenweir.core.batches import OutputBatch
from tokenweir.runtime.batch import Delivery
from tokenweir.runtime.children import run_child
from tokenweir.runtime.reading import Reading
from tokenweir.runtime.worker import Worker

Passage = Callable[[str], None]


def install(passage: Passage) -> None:
    """Wrap the methods between which the points lie, in this process."""
    _wrap(Reading, "read", _after("after_poll", passage, when=bool))
    _wrap(ConsentStoreReader, "snapshot", _within_snapshot(passage))
    _wrap(Worker, "_decide", _after("after_engine", passage, when=lambda decided: decided is not None))
    _wrap(TransactionalProducer, "begin", _after("after_begin", passage))
    halfway = _Halfway(passage)
    _wrap(TransactionalProducer, "produce", halfway.one)
    _wrap(TransactionalProducer, "produce_all", halfway.all)
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
            delivery: Delivery, producer: TransactionalProducer, batch: object, outcomes: Sequence[OutputBatch]
        ) -> None:
            leaving = sum(len(output.values) + len(output.rejected) for output in outcomes)
            self._left = (leaving + 1) // 2
            original(delivery, producer, batch, outcomes)

        return produce

    def one(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method that produces one record."""

        def produce(*arguments: object, **named: object) -> None:
            original(*arguments, **named)
            self._count(1)

        return produce

    def all(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method that produces the records of an output: what comes after the half is produced by itself."""

        def produce_all(producer: TransactionalProducer, topic: str, *columns: Sequence[Any]) -> None:
            *lists, headers = columns
            end = max(self._left, 0)
            first = {place: kept for place, kept in dict(headers).items() if place < end}
            rest = {place - end: kept for place, kept in dict(headers).items() if place >= end}
            original(producer, topic, *(column[:end] for column in lists), first)
            self._count(min(end, len(lists[0])))
            original(producer, topic, *(column[end:] for column in lists), rest)

        return produce_all

    def _count(self, records: int) -> None:
        before, self._left = self._left, self._left - records
        if before > 0 >= self._left:
            self._passage("mid_produce")


def main() -> None:
    """Run the child that standard input describes."""
    install(Trigger(Path(os.environ[VARIABLE])).passage)
    code = run_child()
    sys.stderr.flush()
    # Without the destructors of the clients, as the product itself ends.
    os._exit(code)


if __name__ == "__main__":
    main()
