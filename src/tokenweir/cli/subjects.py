"""What the verbs about consent share: the subject and its source, the policy they are read by, and states as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli.console import talk
from tokenweir.cli.options import config_path
from tokenweir.errors import UsageError

if TYPE_CHECKING:
    from tokenweir.config import Config
    from tokenweir.core.consent import ConsentKey, SourceState
    from tokenweir.core.policy.loader import LoadedPolicy
    from tokenweir.core.policy.models import Policy
    from tokenweir.runtime.blocks import Blocks

SubjectArgument = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="type:id, or type:id#source. Other characters are percent-encoded.")
]
SourceOption = Annotated[
    str, typer.Option("--source", "-s", metavar="NAME", help="Who speaks, such as web. Default: the bare key.")
]


def open_policy(config: Path | None) -> tuple[Config, LoadedPolicy]:
    """Return the configuration that the option names, and its policy."""
    from tokenweir.app.cluster import open_cluster  # noqa: PLC0415 - slow to import; --help does not need it.

    found, workspace = open_cluster(config_path(config), os.environ)
    return found, workspace.policy


def key_of(text: str, source: str, policy: Policy) -> ConsentKey:
    """Return the key that the argument and the option mean; a change of the spelling is told.

    Raises:
        UsageError: They cannot be read, or contradict each other.
    """
    from tokenweir.app.consentarguments import subject_of  # noqa: PLC0415 - as above.
    from tokenweir.core.consent import ConsentKey, ConsentKeyError, format_key  # noqa: PLC0415 - as above.

    key, changed = subject_of(text, policy)
    if source and key.source and source != key.source:
        raise UsageError("the subject and --source name two sources")
    key = ConsentKey(key.subject, source or key.source)
    try:
        format_key(key.subject, key.source)
    except ConsentKeyError as error:
        raise UsageError(str(error)) from None
    if changed:
        talk(f"the id was put into its canonical form: {key.subject.canonical}")
    return key


def key_text(key: ConsentKey) -> str:
    """Return a key as it is written on the topic."""
    return f"{key.subject.canonical}#{key.source}" if key.source else key.subject.canonical


def tell_blocks(blocks: Blocks) -> None:
    """Say that every subject is denied, if it is so, and what a person can do about it."""
    if not blocks.offsets:
        return
    talk(
        "the consent topic holds keys that cannot be read: until they are acknowledged, every subject is denied. Write "
        "what they meant under keys that can be read, if anybody knows; then, where the gateway runs:",
        style="yellow",
    )
    for command in blocks.commands:
        talk(f"  {command}", style="yellow")
    if not blocks.acknowledgements_read:
        talk("acknowledgements of this machine's gateway are not counted: its state directory cannot be read")


def tell_misplaced(partitions: Sequence[int]) -> None:
    """Say that a subject is denied by records whose keys do not belong where they are, if it is so."""
    for partition in partitions:
        talk(
            f"the subject stays denied: a record in partition {partition} of the consent topic has its key in a "
            "partition or spelling that is not the right one, and which is newer cannot be told. Write a tombstone "
            f"(null value) with that very key to partition {partition}, once its decision stands under the right key",
            style="yellow",
        )


def plain_blocks(blocks: Blocks) -> dict[str, object]:
    """Return as JSON what denies every subject."""
    return {
        "unreadable_keys": {str(partition): offset for partition, offset in sorted(blocks.offsets.items())},
        "acknowledgements_counted": blocks.acknowledgements_read,
    }


def shown_time(time_ms: int | None) -> str:
    """Return a time as RFC 3339, "" where there is none; one that no calendar has, as producers may write, as it is."""
    from tokenweir.core.timestamps import format_date_time  # noqa: PLC0415 - as above.

    if time_ms is None:
        return ""
    try:
        return format_date_time(time_ms)
    except (ValueError, OverflowError):
        return f"{time_ms} ms since 1970"


def plain_state(state: SourceState) -> dict[str, object]:
    """Return a state as JSON; one that cannot be read says only that."""
    if state.undecodable:
        return {"undecodable": True}
    return {
        "decided_at": shown_time(state.decided_at_ms),
        "jurisdiction": state.jurisdiction,
        "minor": state.minor,
        "decisions": {
            name: {
                "decision": decision.decision,
                "decided_at": shown_time(decision.decided_at_ms),
                "expires_at": shown_time(decision.expires_at_ms) or None,
                "notice": decision.notice,
                "evidence": decision.evidence,
            }
            for name, decision in sorted(state.decisions.items())
        },
    }
