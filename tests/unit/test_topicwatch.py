"""Topics that go missing or are replaced while a stream runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pytest

from tokenweir.adapters.admin import TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault
from tokenweir.errors import RefusedError
from tokenweir.runtime.topicwatch import TopicWatch


class _World:
    """A cluster and a clock: the time moves when somebody sleeps."""

    def __init__(self) -> None:
        self.ids: dict[str, str | None] = {"raw": "id-1", "raw.crm": "id-2"}
        self.fault: KafkaFault | None = None
        self.now_seconds = 100.0
        self.asked = 0
        self.on_sleep: Callable[[], None] = lambda: None

    def describe_topics(self, names: Iterable[str]) -> Mapping[str, TopicDescription | KafkaFault]:
        """Return what is there."""
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return {name: self._describe(name, self.ids[name]) for name in names}

    @staticmethod
    def _describe(name: str, topic_id: str | None) -> TopicDescription | KafkaFault:
        if topic_id is None:
            return KafkaFault("describe", "UNKNOWN_TOPIC_OR_PART")
        return TopicDescription(name, topic_id, 1, None)

    def monotonic_ns(self) -> int:
        """Return the time."""
        return int(self.now_seconds * 1e9)

    def now_ms(self) -> int:
        """Return the time."""
        return int(self.now_seconds * 1e3)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_seconds += seconds
        self.on_sleep()


@pytest.fixture
def world() -> _World:
    """A world in which all is well."""
    return _World()


@pytest.fixture
def watch(world: _World) -> TopicWatch:
    """A watch that has looked once."""
    made = TopicWatch(world, world, stream="s", source="raw", written=["raw.crm"], sleep=world.sleep)
    made.look()
    return made


def test_it_looks_once_a_second(world: _World, watch: TopicWatch) -> None:
    """The loop of a worker turns a hundred times as often."""
    for _ in range(100):
        watch.look()
    assert world.asked == 1
    world.now_seconds += 1
    watch.look()
    assert world.asked == 2


def test_a_source_that_was_created_again_is_refused(world: _World, watch: TopicWatch) -> None:
    """At once, and with what to do."""
    world.ids["raw"] = "id-9"
    world.now_seconds += 1
    with pytest.raises(RefusedError, match=r"created again while.*tokenweir offsets set s --all --to"):
        watch.look()


def test_an_output_that_was_created_again_is_as_good_as_before(world: _World, watch: TopicWatch) -> None:
    """Nothing that is written now gets lost."""
    world.ids["raw.crm"] = "id-9"
    world.now_seconds += 1
    watch.look()


@pytest.mark.parametrize("topic", ["raw", "raw.crm"])
def test_a_missing_topic_is_refused_after_some_seconds(world: _World, watch: TopicWatch, topic: str) -> None:
    """A producer would wait until its records time out, and a consumer for ever."""
    world.ids[topic] = None
    world.now_seconds += 1
    begun = world.now_seconds
    with pytest.raises(RefusedError, match=f"topic {topic} of stream s went missing"):
        watch.look()
    assert 5 <= world.now_seconds - begun < 6


def test_a_topic_that_is_back_soon_is_no_reason(world: _World, watch: TopicWatch) -> None:
    """A broker that is only just starting may not know it yet."""

    def come_back() -> None:
        world.ids["raw.crm"] = "id-2"

    world.ids["raw.crm"] = None
    world.on_sleep = come_back
    world.now_seconds += 1
    watch.look()


def test_no_answer_is_no_news(world: _World, watch: TopicWatch) -> None:
    """The same for a permission that is lost: reading and writing will tell."""
    world.fault = KafkaFault("describe", "_TIMED_OUT", retriable=True)
    world.now_seconds += 1
    watch.look()
    world.fault = None
    world.ids["raw"] = "id-9"
    world.now_seconds += 1
    with pytest.raises(RefusedError):
        watch.look()
