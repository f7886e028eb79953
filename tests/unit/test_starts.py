"""Where a stream begins, and what is refused instead: before a worker starts, and when it takes partitions over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from tokenweir.adapters.admin import Admin, Isolation, TopicDescription
from tokenweir.adapters.consentreader import ConsentStoreReader
from tokenweir.adapters.consumer import Committed, GroupConsumer, Partition
from tokenweir.adapters.engines import EngineName
from tokenweir.adapters.freshness import Freshness
from tokenweir.adapters.kafka_errors import KafkaFault, UnstableOffsetsError
from tokenweir.adapters.keychanges import rotate
from tokenweir.adapters.keysource import init_keyset
from tokenweir.config import load_config
from tokenweir.core.context import domain_of, fed_epochs
from tokenweir.errors import PreflightError, RefusedError
from tokenweir.runtime import checks, starts
from tokenweir.runtime.assignment import Assignment, AssignmentSettings
from tokenweir.runtime.checks import Check
from tokenweir.runtime.clock import SystemClock
from tokenweir.runtime.gateway import Gateway, keyset_path
from tokenweir.runtime.keyrows import outputs_of as stream_outputs
from tokenweir.runtime.keyrows import read_rows
from tokenweir.runtime.position import ConsentPosition, Source
from tokenweir.runtime.sources import read_text
from tokenweir.runtime.topicwatch import TopicWatch

_POLICY = Path(__file__).parents[2] / "deploy" / "config" / "minimal-policy.yaml"
_NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
_NONE = Committed(None, "")
_LOADING = KafkaFault("read", "COORDINATOR_LOAD_IN_PROGRESS", retriable=True)
_DENIED = KafkaFault("read", "GROUP_AUTHORIZATION_FAILED")


class _Cluster:
    """A source of two partitions with the offsets 10 to 49, and a consent topic of one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.group: dict[int, Committed | KafkaFault] = {0: _committed(20), 1: _committed(20)}
        self.consent_id = "id-consent"
        self.faults: list[KafkaFault] = []
        self.consent_faults: list[KafkaFault] = []
        self.set_faults: list[KafkaFault] = []
        self.has_members = False
        self.stored: Mapping[int, tuple[int, str]] = {}

    @property
    def description(self) -> TopicDescription:
        """The source."""
        return TopicDescription(self._source, "id-source", 2, None)

    def describe_topic(self, name: str) -> TopicDescription:
        """Return the topic."""
        if name == self._source:
            return self.description
        if self.consent_faults:
            raise self.consent_faults.pop(0)
        return TopicDescription(name, self.consent_id, 1, None)

    def describe_topics(self, names: Iterable[str]) -> Mapping[str, TopicDescription | KafkaFault]:
        """Return the source."""
        return dict.fromkeys(names, self.description)

    def group_operations(self, _group: str) -> frozenset[str] | None:
        """Return that it is not said, or a fault."""
        if self.faults:
            raise self.faults.pop(0)
        return None

    def groups(self, prefix: str = "") -> dict[str, bool]:
        """Return whether the group has members."""
        return {prefix: self.has_members}

    def committed_each(
        self, _group: str, _topic: str, partitions: Iterable[int]
    ) -> Mapping[int, Committed | KafkaFault]:
        """Return what is committed."""
        return {number: self.group[number] for number in partitions}

    def low_watermarks(self, _topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return 10."""
        return dict.fromkeys(partitions, 10)

    def high_watermarks(
        self, topic: str, partitions: Iterable[int], _isolation: Isolation = "read_uncommitted"
    ) -> Mapping[int, int]:
        """Return 50, or 7 for the consent topic."""
        return dict.fromkeys(partitions, 50 if topic == self._source else 7)

    def set_committed(self, _group: str, _topic: str, stored: Mapping[int, tuple[int, str]]) -> None:
        """Take offsets."""
        if self.set_faults:
            raise self.set_faults.pop(0)
        self.stored = stored


def _committed(
    offset: int, source_id: str = "id-source", partitions: int = 2, consent_id: str = "id-consent"
) -> Committed:
    return Committed(offset, ConsentPosition(consent_id, "policy", {0: 7}, Source(source_id, partitions)).encode())


@pytest.fixture
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Gateway:
    """A gateway whose ``gateway.start`` is the parameter of the test."""
    (tmp_path / "policy.yaml").write_text(_POLICY.read_text())
    path = tmp_path / "tokenweir.yaml"
    start = getattr(request, "param", "earliest")
    path.write_text(f"version: 1\nkafka: {{bootstrap_servers: 'nowhere:1'}}\ngateway: {{start: {start}}}\n")
    config = load_config(path, {})
    return Gateway(config, read_text(config.policy.file), str(config.policy.file), "", EngineName.REFERENCE)


@pytest.fixture
def cluster(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> _Cluster:
    """A cluster in which all is well; nobody waits in earnest."""
    monkeypatch.setattr(checks, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(checks, "_PATIENCE_SECONDS", 0.05)
    return _Cluster(gateway.policy().policy.streams["interactions"].source.topic)


def _check(gateway: Gateway, cluster: _Cluster) -> list[Check]:
    admin = cast("Admin", cluster)
    return list(starts.offset_checks(gateway, admin, gateway.policy(), "interactions", cluster.description))


def _set(gateway: Gateway, cluster: _Cluster) -> list[int]:
    starts.set_starts(gateway, cast("Admin", cluster), gateway.policy(), "interactions")
    return [offset for offset, _ in cluster.stored.values()]


# Before a worker starts


def test_a_fit_group_passes(gateway: Gateway, cluster: _Cluster) -> None:
    """Nothing is written for it."""
    assert [check.ok for check in _check(gateway, cluster)] == [True]
    assert _set(gateway, cluster) == []


def test_a_keyset_that_is_older_than_what_was_committed_is_refused(gateway: Gateway, cluster: _Cluster) -> None:
    """After a rollback of the file an epoch that was fed would be made a second time, with another root."""
    kept = keyset_path(gateway.config)
    kek = kept.with_name("kek.key")
    loaded = gateway.policy()
    domains = {domain_of(loaded.policy, each.audience) for each in loaded.policy.streams["interactions"].outputs}
    init_keyset(kept, kek, domains, _NOW)
    old = kept.read_bytes()
    (domain, *_) = domains
    rotate(kept, kek, domain, _NOW)
    outputs = stream_outputs(loaded.policy, "interactions", read_rows(gateway.config))
    position = ConsentPosition("id-consent", loaded.digest, {0: 7}, Source("id-source", 2), epochs=fed_epochs(outputs))
    cluster.group[1] = Committed(20, position.encode())

    assert all(check.ok for check in _check(gateway, cluster))
    kept.write_bytes(old)
    (refused,) = [check for check in _check(gateway, cluster) if not check.ok]

    assert "keyset.json is older than what was committed" in str(refused)
    assert ".e2 was fed" in str(refused)
    assert "restore the newer copy" in str(refused)
    other = ConsentPosition("id-consent", "another", {0: 7}, Source("id-source", 2), epochs=position.epochs)
    cluster.group[1] = Committed(20, other.encode())
    assert all(check.ok for check in _check(gateway, cluster)), "the outputs of another policy may be others"


def test_a_coordinator_that_is_only_just_loading_is_asked_again(gateway: Gateway, cluster: _Cluster) -> None:
    """For the offsets, for the consent topic and for writing."""
    cluster.faults = [_LOADING, _LOADING]
    cluster.consent_faults = [_LOADING]
    assert [check.ok for check in _check(gateway, cluster)] == [True]
    cluster.group = {0: _NONE, 1: _NONE}
    cluster.set_faults = [_LOADING]
    assert _set(gateway, cluster) == [10, 10]


def test_what_cannot_be_read_is_refused_in_words(gateway: Gateway, cluster: _Cluster) -> None:
    """A check that could not be made has not passed."""
    cluster.faults = [_DENIED]
    (denied,) = _check(gateway, cluster)
    cluster.consent_faults = [_LOADING] * 1_000_000
    told = _check(gateway, cluster)
    assert (denied.ok, denied.remedy) == (False, "grant READ on the group to it")
    assert [check.ok for check in told] == [True, False]
    assert told[1].name == "consent of group tokenweir.interactions"


def test_an_undecided_transaction_is_waited_for_by_the_worker(gateway: Gateway, cluster: _Cluster) -> None:
    """It is no reason to refuse: another instance may be running."""
    cluster.group[0] = UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT")
    (check,) = _check(gateway, cluster)
    assert check.ok
    assert "1 waiting for a transaction that is not decided" in check.message
    assert _set(gateway, cluster) == []


@pytest.mark.parametrize(("gateway", "offsets"), [("earliest", [10, 10]), ("latest", [50, 50])], indirect=["gateway"])
def test_a_group_begins_where_the_setting_says(gateway: Gateway, cluster: _Cluster, offsets: list[int]) -> None:
    """With all consent that there is, and for all partitions."""
    cluster.group = {0: _NONE, 1: _NONE}
    assert [check.ok for check in _check(gateway, cluster)] == [True]
    assert _set(gateway, cluster) == offsets
    position = ConsentPosition.parse(cluster.stored[0][1])
    assert position is not None
    assert (position.offsets, position.source) == ({0: 7}, Source("id-source", 2))


@pytest.mark.parametrize("gateway", ["refuse"], indirect=True)
def test_a_group_may_be_told_not_to_begin_by_itself(gateway: Gateway, cluster: _Cluster) -> None:
    """The remedy is in the check, and nothing is written by what comes after it."""
    cluster.group = {0: _NONE, 1: _NONE}
    (check,) = _check(gateway, cluster)
    assert (check.ok, "tokenweir offsets set interactions --all --to" in check.remedy) == (False, True)
    with pytest.raises(PreflightError, match=r"gateway\.start is 'refuse'"):
        _set(gateway, cluster)
    assert not cluster.stored


def test_another_instance_may_be_faster(gateway: Gateway, cluster: _Cluster) -> None:
    """A group with members cannot be given offsets; it has them."""
    cluster.group = {0: _NONE, 1: _NONE}
    cluster.set_faults = [KafkaFault("set", "UNKNOWN_MEMBER_ID")] * 2
    with pytest.raises(PreflightError, match=r"cannot be written to group tokenweir\.interactions"):
        _set(gateway, cluster)
    cluster.has_members = True
    assert _set(gateway, cluster) == []


def test_another_instance_may_have_come_and_gone(
    gateway: Gateway, cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has processed since the first look is not processed again."""

    def describe_topic(name: str) -> TopicDescription:
        if name != cluster.description.name:
            cluster.group = {0: _committed(30), 1: _committed(30)}
        return described(name)

    described = cluster.describe_topic
    monkeypatch.setattr(cluster, "describe_topic", describe_topic)
    cluster.group = {0: _NONE, 1: _NONE}
    assert _set(gateway, cluster) == []


def test_a_start_that_may_not_be_written_names_the_permission(gateway: Gateway, cluster: _Cluster) -> None:
    """In words."""
    cluster.group = {0: _NONE, 1: _NONE}
    cluster.set_faults = [_DENIED]
    with pytest.raises(PreflightError, match="grant READ on the group and on its topic"):
        _set(gateway, cluster)


def test_another_consent_topic_is_refused_once(gateway: Gateway, cluster: _Cluster) -> None:
    """However many partitions were decided with it."""
    cluster.consent_id = "id-other"
    fit, strange = _check(gateway, cluster)
    assert (fit.ok, strange.ok) == (True, False)
    assert "tokenweir offsets set interactions --all --to committed" in strange.remedy


# When a worker takes partitions over


class _Consumer:
    """Says what the group has committed."""

    def __init__(self, cluster: _Cluster, topic: str) -> None:
        self._cluster, self._topic = cluster, topic
        self.asked = 0

    def read(self, _max_records: int, _timeout_seconds: float) -> None:
        """Give nothing."""

    def committed(self, partitions: Iterable[Partition], timeout_seconds: float) -> dict[Partition, Committed]:
        """Return it; what is not decided looks like a time-out."""
        assert timeout_seconds > 0
        self.asked += 1
        answers = {place: self._cluster.group[place[1]] for place in partitions}
        if any(isinstance(answer, KafkaFault) for answer in answers.values()):
            raise KafkaFault("read", "_TIMED_OUT", retriable=True)
        return cast("dict[Partition, Committed]", answers)


class _NotRestored:
    """The freshness of a gateway whose consent is not there yet."""

    restored = False


def _assignment(cluster: _Cluster, consumer: _Consumer, *, watched: bool = True) -> Assignment:
    topic = cluster.description.name
    watch = TopicWatch(cluster, SystemClock(), stream="interactions", source=topic, written=[])
    assignment = Assignment(
        AssignmentSettings("interactions", 0, "tokenweir.interactions", "policy", "consent", 5),
        admin=cast("Admin", cluster),
        store=cast("ConsentStoreReader", None),
        freshness=cast("Freshness", _NotRestored()),
        clock=SystemClock(),
        topics=watch if watched else None,
    )
    assignment.attach(cast("GroupConsumer", consumer))
    return assignment


def _take(cluster: _Cluster, *numbers: int, watched: bool = True) -> dict[int, int]:
    topic = cluster.description.name
    assignment = _assignment(cluster, _Consumer(cluster, topic), watched=watched)
    found = assignment._starts([(topic, number) for number in numbers])
    return {number: offset for (_, number), offset in found.items()}


def test_a_worker_goes_on_where_the_group_was(cluster: _Cluster) -> None:
    """Or at the beginning of a partition that is new to it."""
    assert _take(cluster, 0, 1) == {0: 20, 1: 20}
    cluster.group = {0: _committed(20, partitions=1), 1: _NONE}
    assert _take(cluster, 0, 1) == {0: 20, 1: 10}


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({0: _NONE, 1: _committed(20)}, "-0 has no committed offset in group tokenweir.interactions"),
        ({0: _committed(20), 1: _NONE}, "-1 has no committed offset in group tokenweir.interactions"),
        ({0: _NONE, 1: _NONE}, "has no committed offset in group tokenweir.interactions"),
        ({0: _committed(5), 1: _committed(20)}, "lies before its first record"),
        ({0: _committed(55), 1: _committed(20)}, "lies beyond its end"),
        ({0: _committed(20, "id-old"), 1: _committed(20)}, "is of a topic that was deleted and created again"),
    ],
)
def test_a_worker_never_guesses(cluster: _Cluster, group: dict[int, Committed | KafkaFault], said: str) -> None:
    """It stops the gateway, and says what to do."""
    cluster.group = group
    with pytest.raises(RefusedError) as refused:
        _take(cluster, 0, 1)
    assert said in str(refused.value)
    assert "'tokenweir offsets set interactions " in str(refused.value)


def test_a_worker_waits_while_it_cannot_tell(cluster: _Cluster) -> None:
    """The undecided offset of another worker's partition may say that this one is not new."""
    cluster.group = {0: _NONE, 1: UnstableOffsetsError("read", "UNSTABLE_OFFSET_COMMIT")}
    with pytest.raises(KafkaFault) as waits:
        _take(cluster, 0)
    assert waits.value.retriable


def test_a_group_without_a_preflight_begins_at_the_beginning(cluster: _Cluster) -> None:
    """Nobody has committed its starts for it."""
    cluster.group = {0: _NONE, 1: _NONE}
    assert _take(cluster, 0, 1, watched=False) == {0: 10, 1: 10}


def test_the_coordinator_is_asked_once_for_each_takeover(cluster: _Cluster) -> None:
    """Waiting for consent may take long, and a member's offsets do not change meanwhile; after a rebalance they may."""
    topic = cluster.description.name
    consumer = _Consumer(cluster, topic)
    assignment = _assignment(cluster, consumer)
    assignment.assigned([(topic, 0)])
    assert [assignment.take_over() for _ in range(5)] == [False] * 5
    assert consumer.asked == 1
    assignment.assigned([(topic, 0), (topic, 1)])
    assert not assignment.take_over()
    assert consumer.asked == 2
