"""What a committed offset is worth, which partitions are new, and the metadata that both follow from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenweir.adapters.admin import Isolation, TopicDescription
from tokenweir.adapters.consumer import Committed
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.runtime.offsets import (
    OffsetState,
    PartitionOffset,
    begun,
    consent_remedy,
    other_consent,
    problems,
    read_offsets,
    repair,
)
from tokenweir.runtime.position import ConsentPosition, Source

_UNSTABLE = UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT")
_NONE = Committed(None, "")


class _Cluster:
    """Answers for partitions whose records have the offsets 10 to 49."""

    def __init__(self, answers: Mapping[int, Committed | KafkaFault], low: int = 10) -> None:
        self._answers = answers
        self._low = low
        self.asked: list[str] = []

    def committed_each(
        self, _group: str, _topic: str, partitions: Iterable[int]
    ) -> Mapping[int, Committed | KafkaFault]:
        """Return the answers."""
        self.asked.append("committed")
        return {number: self._answers[number] for number in partitions}

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the same for all."""
        self.asked.append("low")
        return dict.fromkeys(partitions, self._low)

    def high_watermarks(
        self, _topic: str, partitions: Iterable[int], _isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Return the same for all."""
        self.asked.append("high")
        return dict.fromkeys(partitions, 50)


def _read(*answers: Committed | KafkaFault) -> list[PartitionOffset]:
    source = TopicDescription("raw", "id-2", len(answers), None)
    return read_offsets(_Cluster(dict(enumerate(answers))), "gw.s", source)


def _of(source_id: str, partitions: int, offset: int = 20) -> Committed:
    """Return an offset that a worker committed which knew so many partitions."""
    return Committed(offset, ConsentPosition("consent", "policy", {0: 1}, Source(source_id, partitions)).encode())


@pytest.mark.parametrize(
    ("offset", "state"),
    [
        (9, OffsetState.LOST),
        (10, OffsetState.OK),
        (50, OffsetState.OK),
        (51, OffsetState.LOST),
    ],
)
def test_an_offset_is_worth_something_within_the_topic_only(offset: int, state: OffsetState) -> None:
    """The first record that is left and the end are the last good places on either side."""
    (place,) = _read(Committed(offset, ""))
    assert place.state is state
    assert bool(place.problem) is (state is OffsetState.LOST)
    assert place.lag == (50 - offset if state is OffsetState.OK else None)


def test_an_offset_of_a_former_topic_is_lost_though_it_lies_within_the_present_one() -> None:
    """The name is the same, the records are not."""
    (former,) = _read(_of("id-1", 1))
    (present,) = _read(_of("id-2", 1))
    assert (former.state, present.state) == (OffsetState.LOST, OffsetState.OK)
    assert "deleted and created again" in former.problem


def test_problems_name_the_partition_the_offsets_and_what_is_gone() -> None:
    """A person who reads nothing else knows what happened."""
    before, beyond = _read(Committed(3, ""), Committed(90, ""))
    assert before.problem == (
        "the committed offset 3 of raw-0 lies before its first record (10): "
        "up to 7 records were deleted before anyone read them"
    )
    assert beyond.problem.startswith("the committed offset 90 of raw-1 lies beyond its end (50)")
    assert problems([before] * 7).endswith("; and 2 more partitions")


def test_offsets_are_read_between_both_ends() -> None:
    """A gateway and a topic's retention at work make no offset look lost: low is older, high is newer than it."""
    cluster = _Cluster({0: Committed(20, "")})
    read_offsets(cluster, "gw.s", TopicDescription("raw", "id-2", 1, None))
    assert cluster.asked == ["low", "committed", "high"]


# Which partitions are new


def _states(*answers: Committed | KafkaFault) -> str:
    return " ".join(place.state for place in _read(*answers))


def test_a_group_without_any_offset_has_not_begun() -> None:
    """All are new; where it begins is a setting."""
    assert _states(_NONE, _NONE) == "new new"


def test_a_partition_behind_those_that_were_begun_is_new_and_one_among_them_is_missing() -> None:
    """Also with the metadata of other tools, where the highest offset tells."""
    assert _states(Committed(20, ""), _NONE) == "ok new"
    assert _states(_NONE, Committed(20, "")) == "missing ok"
    assert _states(_of("id-2", 2), _NONE, _NONE) == "ok missing new"


def test_partitions_that_are_added_together_are_new_in_whatever_order_workers_take_them_over() -> None:
    """The worker of partition 3 committed first; it had taken it over when the group had begun two."""
    assert _states(_of("id-2", 2), _of("id-2", 2), _NONE, _of("id-2", 2)) == "ok ok new ok"


def test_a_partition_that_loses_its_offset_later_is_missing() -> None:
    """Once a worker has taken over with all four begun, it says so."""
    assert _states(_of("id-2", 2), _of("id-2", 2), _NONE, _of("id-2", 4)) == "ok ok missing ok"
    assert begun(_read(_of("id-2", 2), _of("id-2", 2), _of("id-2", 2), _of("id-2", 2))) == 4


def test_nothing_is_told_of_a_missing_offset_while_another_is_undecided() -> None:
    """The undecided one's metadata may say either."""
    assert _states(_of("id-2", 1), _NONE, _UNSTABLE) == "ok unstable unstable"


def test_a_partition_that_cannot_be_read_is_no_state() -> None:
    """It is a fault, and nobody goes on."""
    with pytest.raises(KafkaFault, match="denied"):
        _read(KafkaFault("read", "denied"))


# What to do


def test_remedies_are_commands() -> None:
    """They name the stream and the partitions, or all."""
    assert "tokenweir offsets set s 0 3 --to" in repair("s", [0, 3])
    assert "tokenweir offsets set s --all --to" in repair("s")
    assert "tokenweir offsets set s PARTITION... --to" in repair("s", range(50))


def test_another_consent_topic_is_told_from_one_with_more_partitions() -> None:
    """Both need every decision again, the second in a new topic."""
    now = ConsentPosition("id-1", "policy", {0: 3, 1: 4})
    other = ConsentPosition("id-0", "policy", {0: 3, 1: 4})
    grown = ConsentPosition("id-1", "policy", {0: 3})
    assert other_consent(None, now) == ""
    assert other_consent(ConsentPosition("id-1", "old", {0: 1, 1: 1}), now) == ""
    assert "deleted and created again" in other_consent(other, now)
    assert "had 1 partition, and now has 2" in other_consent(grown, now)
    assert consent_remedy("s", "consent", other, now).startswith("write every decision and withdrawal to consent again")
    assert "to a new topic" in consent_remedy("s", "consent", grown, now)


# The metadata


@given(
    st.dictionaries(st.integers(0, 127), st.integers(0, 2**63 - 1)),
    st.none() | st.builds(Source, st.text("ABCxyz_-019", min_size=22, max_size=22), st.integers(0, 10_000)),
)
def test_metadata_are_read_as_they_were_written(offsets: dict[int, int], source: Source | None) -> None:
    """With and without the source, which earlier versions did not write."""
    position = ConsentPosition("x" * 22, "0" * 64, offsets, source)
    assert ConsentPosition.parse(position.encode()) == position


def test_the_longest_metadata_fit_a_broker() -> None:
    """128 partitions at offsets that no topic reaches in practice, and every id at its length."""
    offsets = dict.fromkeys(range(128), 10**18)
    text = ConsentPosition("x" * 22, "0" * 64, offsets, Source("y" * 22, 100_000)).encode()
    assert len(text) < 4096


@pytest.mark.parametrize("text", ["", "mine", "tw1;id;policy;0:x", "tw1;id;policy;0:1;id", "tw1;id;policy;0:1;id:-1"])
def test_other_metadata_are_none(text: str) -> None:
    """What nobody of this project wrote says nothing."""
    assert ConsentPosition.parse(text) is None
