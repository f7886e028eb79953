"""What the verbs about consent share: the subject and its source, the policy they are read by, and states as JSON."""

from __future__ import annotations

import os
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
    from tokenweir.app.consentwriter import subject_of  # noqa: PLC0415 - as above.
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


def shown_time(time_ms: int | None) -> str:
    """Return a time as RFC 3339, "" where there is none."""
    from tokenweir.core.timestamps import format_date_time  # noqa: PLC0415 - as above.

    return "" if time_ms is None else format_date_time(time_ms)


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
