"""Sees when a topic of a running stream is deleted, or deleted and created again, before that is mistaken for quiet.

Kafka's clients know topics by name. A consumer goes on in a new topic of the same name at the offset that it had in the
old one, and skips what lies before it without a word; a producer waits for a missing topic until its records time out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from tokenweir.adapters.admin import TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.errors import RefusedError
from tokenweir.runtime.clock import Clock
from tokenweir.runtime.offsets import repair

_LOOK_SECONDS: Final = 1.0

#: How long a topic may be missing in the answers of brokers that are only just starting.
_MISSING_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.25


class Questions(Protocol):
    """What is asked of a cluster: a part of :class:`tokenweir.adapters.admin.Admin`."""

    def describe_topics(self, names: Iterable[str]) -> Mapping[str, TopicDescription | KafkaFault]:
        """Return the description of each topic, or what is wrong with it."""


class TopicWatch:
    """Watches the topics of one stream from within the loop of its worker."""

    def __init__(  # noqa: PLR0913 - what it watches, and with what.
        self,
        questions: Questions,
        clock: Clock,
        *,
        stream: str,
        source: str,
        written: Iterable[str],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Put it together; nothing is asked yet.

        Args:
            questions: The cluster.
            clock: The time.
            stream: The stream's name, for what a person is told to do.
            source: The topic that is read; it must stay the one that it is.
            written: The topics that are written; they must exist.
            sleep: Waits.
        """
        self._questions = questions
        self._clock = clock
        self._stream = stream
        self._source = source
        self._topics = (source, *written)
        self._sleep = sleep
        self._next_seconds = 0.0
        self._source_id = ""

    def look(self) -> None:
        """Look, if that was not done within the last second.

        No answer is no news: a broker that cannot be asked does not take or give records either.

        Raises:
            RefusedError: A topic does not exist any more, or the source is another one now.
        """
        if self._seconds() >= self._next_seconds:
            self._look()
            self._next_seconds = self._seconds() + _LOOK_SECONDS

    def _look(self) -> None:
        deadline_seconds = self._seconds() + _MISSING_SECONDS
        while missing := self._missing():
            if self._seconds() > deadline_seconds:
                raise RefusedError(
                    f"{'topic' if len(missing) == 1 else 'topics'} {', '.join(missing)} of stream {self._stream} "
                    "went missing while the gateway was running; it creates none by itself: find out who deleted what, "
                    "create it again ('tokenweir doctor --fix' creates outputs and dead letters), and start again"
                )
            self._sleep(_PAUSE_SECONDS)

    def _missing(self) -> list[str]:
        """Return the topics that the cluster says it does not have."""
        try:
            found = self._questions.describe_topics(self._topics)
        except KafkaFault:
            return []
        source = found[self._source]
        if isinstance(source, TopicDescription):
            self._require_same(source.topic_id)
        return [
            topic
            for topic, answer in found.items()
            if isinstance(answer, KafkaFault) and answer.code == "UNKNOWN_TOPIC_OR_PART"
        ]

    def _require_same(self, source_id: str) -> None:
        known, self._source_id = self._source_id, source_id
        if known not in {"", source_id}:
            raise RefusedError(
                f"the source topic {self._source} was deleted and created again while the gateway was running: its "
                f"offsets are of the old one, and would skip records of the new one; {repair(self._stream)}"
            )

    def _seconds(self) -> float:
        return self._clock.monotonic_ns() / 1e9
