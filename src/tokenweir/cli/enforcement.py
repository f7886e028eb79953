"""``tokenweir consent revoke`` and ``status``: withdrawals, and the proof that nothing leaves against them any more."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption
from tokenweir.cli.subjects import (
    SourceOption,
    SubjectArgument,
    key_of,
    key_text,
    open_policy,
    plain_blocks,
    plain_state,
    shown_time,
    tell_blocks,
)
from tokenweir.errors import UsageError

if TYPE_CHECKING:
    from tokenweir.app.enforcement import Positions
    from tokenweir.runtime.barrier import Holdup, Report
    from tokenweir.runtime.survey import GroupReading, PartitionReading

_PENDING: Final = 1
_TELL_EVERY_SECONDS: Final = 1.0


def register(group: typer.Typer) -> None:
    """Add the verbs to the group ``consent``."""
    verbs.add(
        group,
        revoke,
        "tokenweir consent revoke customer:0000012345 --wait 30",
        "tokenweir consent revoke customer:0000012345 email_marketing --source web --wait 30 --format json",
    )
    verbs.add(
        group,
        status,
        "tokenweir consent status",
        "tokenweir consent status --partition 3 --offset 17 --wait 30",
    )


def revoke(
    subject: SubjectArgument,
    purposes: Annotated[
        list[str] | None,
        typer.Argument(metavar="PURPOSE...", help="What is withdrawn; PURPOSE@RECIPIENT for one. Default: everything."),
    ] = None,
    *,
    config: ConfigOption = None,
    source: SourceOption = "",
    wait: Annotated[
        float | None,
        typer.Option("--wait", metavar="SECONDS", min=0, help="Wait until it is enforced in every output."),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Withdraw, and with --wait prove that it is enforced.

    ENFORCED means: every record in an output at or past the offsets that are shown was decided with the withdrawal.
    Exit codes with --wait: 0 ENFORCED, 1 PENDING when the time is up, or NOT_RUNNING where a gateway has no workers,
    each with the reasons. The withdrawal is written in any case.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.consentlines import unknown_name  # noqa: PLC0415 - as above.
    from tokenweir.app.consentwriter import ConsentTopic  # noqa: PLC0415 - as above.
    from tokenweir.app.enforcement import await_enforcement  # noqa: PLC0415 - as above.
    from tokenweir.runtime.barrier import Withdrawal  # noqa: PLC0415 - as above.

    found, loaded = open_policy(config)
    key = key_of(subject, source, loaded.policy)
    names = purposes or []
    for problem in filter(None, (unknown_name(name, loaded.policy) for name in names)):
        raise UsageError(problem)
    with cluster_faults(found):
        topic = ConsentTopic(found)
        state, place = topic.withdraw(key, names, time.time_ns() // 1_000_000)
    withdrawal = Withdrawal(topic.name, topic.topic_id, place.partition, place.offset)
    # It is told at once: whoever loses patience can go on with `consent status --partition … --offset …`.
    told = f"{key_text(key)}: withdrawal written to {topic.name}, partition {place.partition}, offset {place.offset}"
    (talk if format_ is Format.JSON else out)(told)
    begun = time.monotonic()
    report = None if wait is None else await_enforcement(found, loaded, withdrawal, wait, Teller())
    if format_ is Format.JSON:
        out_json(
            {
                "subject": key_text(key),
                "topic": topic.name,
                "topic_id": topic.topic_id,
                "partition": place.partition,
                "offset": place.offset,
                "state": plain_state(state),
                "enforcement": None if report is None else _plain_report(report, withdrawal.partition, begun),
            }
        )
    elif report is not None:
        _show_report(report, withdrawal.partition, begun)
    _end(report)


def status(
    config: ConfigOption = None,
    partition: Annotated[
        int | None, typer.Option("--partition", metavar="K", min=0, help="Consent partition of a withdrawal.")
    ] = None,
    offset: Annotated[
        int | None, typer.Option("--offset", metavar="R", min=0, help="Its offset: is it enforced?")
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for that withdrawal.")
    ] = 2.0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show with which consent each partition was decided.

    With --partition and --offset also whether the withdrawal at that place of the consent topic is enforced; then the
    exit codes are those of `revoke --wait`.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.enforcement import await_enforcement, read_positions  # noqa: PLC0415 - as above.

    if (partition is None) != (offset is None):
        raise UsageError("--partition and --offset name one place: give both")
    found, loaded = open_policy(config)
    with cluster_faults(found):
        positions = read_positions(found, loaded.policy)
    begun = time.monotonic()
    report = None
    if partition is not None and offset is not None:
        withdrawal = positions.withdrawal(partition, offset)
        report = await_enforcement(found, loaded, withdrawal, wait, Teller())
    if format_ is Format.JSON:
        enforcement = None if report is None or partition is None else _plain_report(report, partition, begun)
        out_json({**_plain_positions(positions), "enforcement": enforcement})
    else:
        _show_positions(positions)
        if report is not None and partition is not None:
            out()
            _show_report(report, partition, begun)
    _end(report)


def _end(report: Report | None) -> None:
    """End with the exit code of a report; NOT_RUNNING and PENDING are equal to a script."""
    if report is not None and report.state != "ENFORCED":
        raise typer.Exit(_PENDING)


class Teller:
    """Says on standard error why a withdrawal is held up, whenever that changes, at most once a second.

    The places are in the report at the end; twice the same list would hide what has changed.
    """

    def __init__(self) -> None:
        self._told: Counter[str] = Counter()
        self._alarms: set[object] = set()
        self._told_at = time.monotonic()

    def __call__(self, report: Report) -> None:
        """Look at one more answer."""
        now = time.monotonic()
        present = Counter(holdup.cause.value for holdup in report.holdups)
        alarms = {holdup.place: holdup for holdup in report.holdups if holdup.alarm}
        new = [alarms[place] for place in alarms.keys() - self._alarms]
        if (present == self._told and not new) or now - self._told_at < _TELL_EVERY_SECONDS:
            return
        self._told, self._told_at = present, now
        self._alarms |= alarms.keys()
        causes = ", ".join(f"{number} {cause}" for cause, number in sorted(present.items()))
        talk(f"waiting for {len(report.holdups)}: {causes}" if causes else "waiting for the outputs")
        for holdup in new:
            talk(f"  alarm: {holdup}: {holdup.remedy}", style="yellow")


# As text.


def _show_report(report: Report, partition: int, begun: float) -> None:
    out(f"{report.state.value} after {time.monotonic() - begun:.2f} s, at {_instant(report.at_ms)}")
    if report.state == "ENFORCED":
        out("every record at or past these offsets was decided with the withdrawal:")
        table(
            ["output", "partition", "offset", "read at", "stable to", "read at"],
            [
                [
                    output.topic,
                    str(output.partition),
                    str(output.high_watermark),
                    _instant(output.high_watermark_at_ms),
                    str(output.last_stable_offset),
                    _instant(output.last_stable_offset_at_ms),
                ]
                for output in report.outputs
            ],
        )
        out()
        table(
            ["group", "source", "partition", f"consent partition {partition}", "read at", "worker"],
            [
                [
                    group.group,
                    reading.topic,
                    str(reading.partition),
                    "no replay runs"
                    if group.replay and not group.members
                    else f"applied to {_applied(reading, partition)}",
                    _instant(reading.read_at_ms),
                    reading.worker,
                ]
                for group in report.groups
                for reading in group.partitions
            ],
        )
    else:
        table(
            ["group", "topic", "partition", "worker", "reason"],
            [
                [
                    holdup.group,
                    holdup.topic,
                    "" if holdup.partition is None else str(holdup.partition),
                    holdup.worker,
                    holdup.text,
                ]
                for holdup in report.holdups
            ],
        )
        for remedy in dict.fromkeys(_remedy(holdup) for holdup in report.holdups):
            talk(remedy, style="yellow")
    for words in report.not_known:
        talk(f"not known: {words}", style="yellow")


def _remedy(holdup: Holdup) -> str:
    return f"{'alarm: ' if holdup.alarm else ''}{holdup.cause.value}: {holdup.remedy}"


def _show_positions(positions: Positions) -> None:
    rows = []
    for group in positions.groups:
        if not group.partitions:
            rows.append([group.group, "", "", _said_of(group), "", ""])
        rows += [
            [
                group.group,
                reading.topic,
                str(reading.partition),
                reading.worker or "(nobody)",
                _position(reading),
                _behind(positions.behind(reading)),
            ]
            for reading in group.partitions
        ]
    table(["group", "source", "partition", "worker", "consent position", "behind"], rows)
    ends = ",".join(f"{number}:{end}" for number, end in sorted(positions.ends.items()))
    talk(f"the consent topic {positions.topic} ends at {ends}")
    for group in positions.groups:
        if group.exists and group.fault is None and not group.members and not group.replay:
            talk(f"group {group.group} has no members: it is not running", style="yellow")
    if positions.blocks.gateway_heard:
        tell_blocks(positions.blocks)
    else:
        talk("whether unreadable keys deny every subject is not known here: ask where the gateway runs")


def _said_of(group: GroupReading) -> str:
    if not group.exists:
        return "(does not exist)"
    return "(nothing committed)" if group.fault is None else f"({group.fault})"


def _position(reading: PartitionReading) -> str:
    if reading.position is not None:
        return ",".join(f"{number}:{offset}" for number, offset in sorted(reading.position.offsets.items()))
    return f"({_fault(reading) or ('none' if reading.committed_offset is not None else 'nothing committed')})"


def _behind(offsets: int | None) -> str:
    return "not known" if offsets is None else f"{offsets:,}"


def _applied(reading: PartitionReading, partition: int) -> int | None:
    return None if reading.position is None else reading.position.offsets.get(partition)


def _fault(reading: PartitionReading) -> str:
    return "" if reading.fault is None else str(reading.fault)


# As JSON.


def _plain_report(report: Report, partition: int, begun: float) -> dict[str, object]:
    return {
        "state": report.state.value,
        "at": _instant(report.at_ms),
        "waited_seconds": round(time.monotonic() - begun, 3),
        "holdups": [
            {
                "cause": holdup.cause.value,
                "text": holdup.text,
                "group": holdup.group or None,
                "topic": holdup.topic or None,
                "partition": holdup.partition,
                "worker": holdup.worker or None,
                "alarm": holdup.alarm,
                "remedy": holdup.remedy,
            }
            for holdup in report.holdups
        ],
        "groups": [_plain_group(group, partition) for group in report.groups],
        "outputs": [
            {
                "topic": output.topic,
                "partition": output.partition,
                "high_watermark": output.high_watermark,
                "high_watermark_read_at": _instant(output.high_watermark_at_ms),
                "last_stable_offset": output.last_stable_offset,
                "last_stable_offset_read_at": _instant(output.last_stable_offset_at_ms),
            }
            for output in report.outputs
        ],
        "not_known": list(report.not_known),
    }


def _plain_group(group: GroupReading, partition: int) -> dict[str, object]:
    return {
        "group": group.group,
        "stream": group.stream,
        "replay": group.replay,
        "members": group.members,
        "partitions": [
            {**_plain_reading(reading), "applied_to": _applied(reading, partition)} for reading in group.partitions
        ],
    }


def _plain_positions(positions: Positions) -> dict[str, object]:
    return {
        "topic": positions.topic,
        "topic_id": positions.topic_id,
        "ends": {str(number): end for number, end in sorted(positions.ends.items())},
        "read_at": _instant(positions.read_at_ms),
        **plain_blocks(positions.blocks),
        "unreadable_keys_known": positions.blocks.gateway_heard,
        "groups": [
            {
                "group": group.group,
                "stream": group.stream,
                "exists": group.exists,
                "members": group.members,
                "fault": None if group.fault is None else str(group.fault),
                "partitions": [
                    {**_plain_reading(reading), "behind": positions.behind(reading)} for reading in group.partitions
                ],
            }
            for group in positions.groups
        ],
    }


def _plain_reading(reading: PartitionReading) -> dict[str, object]:
    position = reading.position
    return {
        "topic": reading.topic,
        "partition": reading.partition,
        "worker": reading.worker or None,
        "committed_offset": reading.committed_offset,
        "topic_id": None if position is None else position.topic_id,
        "policy_digest": None if position is None else position.policy_digest,
        "position": None
        if position is None
        else {str(number): offset for number, offset in sorted(position.offsets.items())},
        "fault": _fault(reading) or None,
        "read_at": _instant(reading.read_at_ms),
    }


def _instant(time_ms: int) -> str:
    """Return a time with milliseconds, as RFC 3339."""
    return f"{shown_time(time_ms).removesuffix('Z')}.{time_ms % 1000:03}Z"
