"""``tokenweir offsets``: where each stream goes on, and how to repair that while the gateway is down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.asking import have_typed
from tokenweir.cli.console import out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption
from tokenweir.cli.subjects import open_policy
from tokenweir.errors import UsageError

if TYPE_CHECKING:
    from tokenweir.app.offsetplan import Change, Move
    from tokenweir.app.offsets import Row, StreamOffsets

_REFUSED: Final = 3
_DIGEST_CHARACTERS: Final = 12


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    verbs.add(
        group,
        show,
        "tokenweir offsets show --config tokenweir.yaml",
        "tokenweir offsets show --stream interactions --format json",
    )
    verbs.add(
        group,
        set_,
        "tokenweir offsets set interactions 0 3 --to earliest",
        "tokenweir offsets set interactions --all --to 2026-11-22T10:00:00Z",
        "tokenweir offsets set interactions 3 --to 1200 --yes",
        name="set",
    )
    app.add_typer(group, name="offsets", help="Show and set where each stream goes on.")


def show(
    config: ConfigOption = None,
    stream: Annotated[str | None, typer.Option("--stream", metavar="STREAM", help="One stream. Default: all.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the committed offset of every source partition.

    With what the topic still has, the lag, and the consent and the policy under which the last record was decided.

    States: ok; new: nothing is committed and nothing need be; lost: the offset is outside of the topic, or of a former
    topic of this name; missing: it is gone; unstable: a transaction with it is not decided yet. Exit codes: 0, or 3
    where a gateway would refuse to start from there.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.offsets import OffsetTool  # noqa: PLC0415 - as above.
    from tokenweir.app.workspace import unknown_stream  # noqa: PLC0415 - as above.

    found, loaded = open_policy(config)
    streams = list(loaded.policy.streams)
    if stream is not None and stream not in streams:
        raise unknown_stream(stream, streams)
    with cluster_faults(found):
        shown = OffsetTool(found, loaded).show(streams if stream is None else [stream])
    if format_ is Format.JSON:
        out_json({"policy_digest": loaded.digest, "streams": [_plain_stream(each) for each in shown]})
    else:
        _show(shown, loaded.digest)
    if any(each.remedies for each in shown):
        raise typer.Exit(_REFUSED)


def set_(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="A stream of the policy.")],
    partitions: Annotated[
        list[int] | None, typer.Argument(metavar="PARTITION...", min=0, help="Partitions of its source.")
    ] = None,
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="earliest, latest, an offset, an RFC 3339 time (the first record from then on), or committed: keep "
            "the offset, and accept the consent topic that is there now.",
        ),
    ],
    all_: Annotated[bool, typer.Option("--all", help="All partitions.")] = False,
    config: ConfigOption = None,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Set where a stream goes on, while its gateway is down.

    What it would skip or process again is shown first. Offsets are written in one request, with the consent position
    of now, so that the next worker waits until it has applied all consent that there is. Everything is read again
    directly before that: if a gateway has run since it was shown, nothing is written. Exit codes: 0 done, 2 wrong
    usage, or nobody to ask and no --yes, 3 refused: the group has members or undecided transactions, something else
    uses the state directory, what was shown is no longer so, or another name was typed.
    """
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.offsetplan import target_of  # noqa: PLC0415 - as above.
    from tokenweir.app.offsets import OffsetTool  # noqa: PLC0415 - as above.
    from tokenweir.app.workspace import unknown_stream  # noqa: PLC0415 - as above.

    target = target_of(to)
    if partitions and all_:
        raise UsageError("partitions and --all exclude each other: name some, or say --all")
    if not partitions and not all_:
        raise UsageError("name partitions, or say --all")
    found, loaded = open_policy(config)
    if stream not in loaded.policy.streams:
        raise unknown_stream(stream, loaded.policy.streams)
    tool = OffsetTool(found, loaded)
    with cluster_faults(found):
        change = tool.plan(stream, None if all_ else set(partitions or ()), target)
    _show_change(change)
    if not yes:
        have_typed("stream", stream)
    with cluster_faults(found):
        change = tool.carry_out(change)
    if format_ is Format.JSON:
        out_json(_plain_change(change))
    else:
        talk(f"set and read back: the offsets of {len(change.moves)} partitions of group {change.group}", style="green")


# As text.


def _show(shown: list[StreamOffsets], policy_digest: str) -> None:
    table(
        ["stream", "partition", "committed", "first", "end", "lag", "state", "consent", "policy"],
        [
            [
                each.stream,
                str(row.place.partition),
                _number(row.place.committed),
                f"{row.place.low}",
                f"{row.place.high}",
                _number(row.place.lag),
                row.place.state.value,
                row.consent,
                _policy(row, policy_digest),
            ]
            for each in shown
            for row in each.rows
        ],
    )
    for each in shown:
        for remedy in each.remedies:
            talk(f"{each.stream}: {remedy}", style="red")
        for note in each.notes:
            talk(f"{each.stream}: {note}", style="yellow")


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _policy(row: Row, policy_digest: str) -> str:
    return "this one" if row.policy_digest == policy_digest else row.policy_digest[:_DIGEST_CHARACTERS] or "-"


def _show_change(change: Change) -> None:
    """Say what setting the offsets does; to the person, so that data on standard output is only what was done."""
    talk(f"group {change.group}, topic {change.topic}:")
    for move in change.moves:
        talk(f"  partition {move.place.partition}: {_number(move.place.committed)} -> {move.to}: {move.effect}")
    for warning in change.warnings:
        talk(f"  {warning}", style="yellow")


# As JSON.


def _plain_stream(shown: StreamOffsets) -> dict[str, object]:
    return {
        "stream": shown.stream,
        "group": shown.group,
        "topic": shown.topic,
        "members": shown.members,
        "partitions": [
            {
                "partition": row.place.partition,
                "committed": row.place.committed,
                "low": row.place.low,
                "high": row.place.high,
                "lag": row.place.lag,
                "state": row.place.state.value,
                "problem": row.place.problem or None,
                "consent": row.consent or None,
                "policy_digest": row.policy_digest or None,
            }
            for row in shown.rows
        ],
        "remedies": list(shown.remedies),
        "notes": list(shown.notes),
    }


def _plain_change(change: Change) -> dict[str, object]:
    return {
        "stream": change.stream,
        "group": change.group,
        "topic": change.topic,
        "partitions": [_plain_move(move) for move in change.moves],
        "warnings": list(change.warnings),
        "consent_position": {str(number): offset for number, offset in sorted(change.position.offsets.items())},
    }


def _plain_move(move: Move) -> dict[str, object]:
    return {
        "partition": move.place.partition,
        "before": move.place.committed,
        "after": move.to,
        "skipped": move.skipped,
        "repeated": move.repeated,
        "effect": move.effect,
    }
