"""Where a stream begins: offsets that must be fit for it, and those that are committed before the first start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenweir.adapters.admin import Admin, TopicDescription
from tokenweir.adapters.kafka_errors import KafkaFault, in_words
from tokenweir.core.epochs import read_epochs
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.errors import KeysError, PreflightError
from tokenweir.runtime.checks import DENIED, READ, Check, patiently, unknown
from tokenweir.runtime.gateway import Gateway
from tokenweir.runtime.keyrows import newer_than, read_rows
from tokenweir.runtime.offsets import (
    REFUSED,
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
from tokenweir.words import counted


def offset_checks(
    gateway: Gateway, admin: Admin, loaded: LoadedPolicy, stream: str, source: TopicDescription
) -> Iterator[Check]:
    """Whether every partition has a place to begin at, decided under the consent topic that is there now."""
    group = gateway.group(stream)
    name = f"offsets of group {group}"
    permission = "READ on the group"
    try:
        operations = patiently(lambda: admin.group_operations(group))
        found = patiently(lambda: read_offsets(admin, group, source))
    except KafkaFault as fault:
        yield unknown(gateway, name, fault, permission)
        return
    if operations is not None and not operations & READ:
        yield Check(name, ok=False, message="may not be used", remedy=f"grant {permission} to the gateway's principal")
        return
    start = gateway.config.gateway.start
    if _never_began(found):
        begins = f"none yet; the group begins at the {start} record of each partition"
        yield _refused_start(group, stream) if start == "refuse" else Check(name, ok=True, message=begins)
        return
    unfit = [place for place in found if place.state in REFUSED]
    if unfit:
        yield Check(
            name, ok=False, message=problems(unfit), remedy=repair(stream, [place.partition for place in unfit])
        )
    else:
        pending = sum(place.state is OffsetState.UNSTABLE for place in found)
        waits = f", {pending} waiting for a transaction that is not decided" if pending else ""
        yield Check(name, ok=True, message=f"{counted(len(found), 'partition')} inside of the topic{waits}")
    yield from _epoch_checks(gateway, loaded, stream, found)
    yield from _position_checks(gateway, admin, loaded, stream, source, found)


def _epoch_checks(
    gateway: Gateway, loaded: LoadedPolicy, stream: str, found: Sequence[PartitionOffset]
) -> Iterator[Check]:
    """Whether the keyset knows every epoch that the group has fed; an older copy of it makes those a second time.

    Positions of another policy say nothing here: their outputs may be others.
    """
    try:
        rows = read_rows(gateway.config)
    except KeysError:
        return  # Said already, by the check of the keyset.
    outputs = len(loaded.policy.streams[stream].outputs)
    for place in found:
        position = place.position
        if position is None or position.policy_digest != loaded.digest:
            continue
        fed = read_epochs(position.epochs, outputs)
        newer = newer_than(loaded.policy, stream, rows, fed) if rows and fed is not None else []
        if newer:
            yield Check(
                f"keyset of group {gateway.group(stream)}",
                ok=False,
                message=f"keyset.json is older than what was committed: {', '.join(newer)} was fed, in an epoch that "
                "it does not have",
                remedy="restore the newer copy; another root would make other tokens in the same topic",
            )
            return


def _refused_start(group: str, stream: str) -> Check:
    return Check(
        f"offsets of group {group}",
        ok=False,
        message="the group has no committed offsets, and gateway.start is 'refuse'",
        remedy=f"say where to begin: 'tokenweir offsets set {stream} --all --to earliest|latest|OFFSET|TIME'",
    )


def _position_checks(  # noqa: PLR0913, PLR0917 - what is compared, and what it is called.
    gateway: Gateway,
    admin: Admin,
    loaded: LoadedPolicy,
    stream: str,
    source: TopicDescription,
    found: Sequence[PartitionOffset],
) -> Iterator[Check]:
    """Whether the consent topic is still the one that the group was reading when it last decided anything."""
    topic = gateway.config.consent.topic
    name = f"consent of group {gateway.group(stream)}"
    try:
        now = patiently(lambda: consent_now(topic, admin, loaded, Source(source.topic_id, begun(found))))
    except KafkaFault as fault:
        if fault.code != "UNKNOWN_TOPIC_OR_PART":  # Said already, by the check of the consent topic.
            yield unknown(gateway, name, fault, f"DESCRIBE on topic {topic}")
        return
    for place in found:
        reason = other_consent(place.position, now)
        if reason:
            yield Check(name, ok=False, message=reason, remedy=consent_remedy(stream, topic, place.position, now))
            return  # One is enough: the remedy is for all partitions.


def set_starts(gateway: Gateway, admin: Admin, loaded: LoadedPolicy, stream: str) -> None:
    """Commit where a stream begins that has no committed offset at all, as ``gateway.start`` says.

    It is done before any worker joins: a group without members can be given all its offsets at once. If another
    instance is faster, the group has members or offsets, and those count.

    Raises:
        PreflightError: if ``gateway.start`` is ``refuse``, or the broker does not do it.
    """
    try:
        patiently(lambda: _set_starts(gateway, admin, loaded, stream))
    except KafkaFault as fault:
        problem = f"where stream {stream} begins cannot be written to group {gateway.group(stream)}"
        if fault.code in DENIED:
            raise PreflightError([f"{problem}: grant READ on the group and on its topic ({fault.code})"]) from fault
        raise PreflightError([f"{problem}: {in_words(fault, gateway.config.kafka.bootstrap_servers)}"]) from fault


def _set_starts(gateway: Gateway, admin: Admin, loaded: LoadedPolicy, stream: str) -> None:
    source = admin.describe_topic(loaded.policy.streams[stream].source.topic)
    group = gateway.group(stream)
    start = gateway.config.gateway.start
    if not _never_began(read_offsets(admin, group, source)):
        return
    if start == "refuse":
        raise PreflightError([str(_refused_start(group, stream))])
    metadata = consent_now(
        gateway.config.consent.topic, admin, loaded, Source(source.topic_id, source.partitions)
    ).encode()
    # Kafka has no request that sets offsets only if there are none, so that another instance that starts, commits and
    # leaves the group between this read and the write would have its records processed again. Nothing but one answer
    # may therefore lie between the two; while that instance is a member, the broker refuses the write.
    found = read_offsets(admin, group, source)
    if not _never_began(found):
        return
    offsets = {place.partition: place.low if start == "earliest" else place.high for place in found}
    try:
        admin.set_committed(group, source.name, {number: (offset, metadata) for number, offset in offsets.items()})
    except KafkaFault:
        if not admin.groups(group).get(group, False):
            raise


def _never_began(found: Sequence[PartitionOffset]) -> bool:
    return all(place.state is OffsetState.NEW for place in found)


def consent_now(topic: str, admin: Admin, loaded: LoadedPolicy, source: Source) -> ConsentPosition:
    """Return what is committed beside an offset of a source that no worker chose: all consent that there is.

    A worker that takes the partition over waits until it has applied that much (rule B2).

    Raises:
        KafkaFault: The consent topic cannot be read.
    """
    consent = admin.describe_topic(topic)
    ends = admin.high_watermarks(topic, range(consent.partitions))
    return ConsentPosition(consent.topic_id, loaded.digest, ends, source)
