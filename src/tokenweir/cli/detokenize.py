"""``tokenweir detokenize``: tokens back to values, for those whom the grants file lets, with a record of it first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import harmless, out, out_json, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, config_path
from tokenweir.cli.osuser import os_user
from tokenweir.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from tokenweir.app.detokenize import Detokenizer, Outcome, Place
    from tokenweir.app.workspace import Workspace
    from tokenweir.core.detokenize.decide import Identity

_MOST_LINES: Final = 10_000


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        detokenize,
        "tokenweir detokenize 0486298924 --entry customer --domain crm --reason Chargeback --ticket CASE-7",
        "tokenweir detokenize - --stream interactions --field customer_id --audience crm --reason Fraud --ticket C-7",
    )


def detokenize(
    tokens: Annotated[
        list[str] | None, typer.Argument(metavar="TOKEN", help="Tokens; - or none reads lines of standard input.")
    ] = None,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the audit log for ever.")],
    ticket: Annotated[str, typer.Option("--ticket", metavar="ID", help="The case that it is for.")],
    stream: Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Where the tokens were found.")] = None,
    field: Annotated[str | None, typer.Option("--field", metavar="PATH", help="With --stream: the field.")] = None,
    audience: Annotated[
        str | None, typer.Option("--audience", metavar="NAME", help="With --stream: whose topic it was.")
    ] = None,
    entry: Annotated[str | None, typer.Option("--entry", metavar="NAME", help="Or the token entry itself.")] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="With --entry: the key domain.")
    ] = None,
    epoch: Annotated[
        int | None,
        typer.Option(
            "--epoch",
            min=1,
            metavar="N",
            help="Epoch of the tokens: n for those of '{topic}.e{n}', 1 for those of the bare topic. "
            "Needed where the key domain has several.",
        ),
    ] = None,
    config: ConfigOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Turn tokens back into values, if the grants file lets you.

    What you ask is in the audit log, durable, before anything is shown: who, when, which token entry, reason, ticket,
    and a keyed mark of each token, never a token or value. A request that is refused is recorded too. Where a second
    person must approve, ask, have it approved (`tokenweir grants approve`), and ask the same again.

    The values in the order of the tokens; a token that cannot be one of the entry has none, and the exit code is then
    1. Refused: 3.
    """
    from tokenweir.app.detokenize import Place  # noqa: PLC0415 - slow to import; --help does not need it.

    workspace = open_granted(config)
    place = _place(workspace, stream, field, audience, entry, domain)
    wanted = _tokens(tokens)
    service = open_service(workspace)
    who = identity()
    if epoch is None and len(service.epochs(place.domain)) > 1:
        epochs = ", ".join(str(each) for each in sorted(service.epochs(place.domain)))
        raise UsageError(
            f"key domain '{place.domain}' has the epochs {epochs}, and a token does not say which is its own: name "
            "it with --epoch (topic {topic}.e{n} has tokens of epoch n, the bare topic those of epoch 1)"
        )
    exact = Place(place.entry, place.domain, epoch)
    outcome = service.detokenize(who, exact, wanted, reason=reason, ticket=ticket, channel="cli")
    if outcome.cause is not None:
        raise RefusedError(_refusal(service, who, outcome))
    if format_ is Format.JSON:
        values = [{"token": token, "value": value} for token, value in zip(wanted, outcome.values, strict=True)]
        found = {"entry": place.entry, "domain": place.domain, "epoch": outcome.epoch}
        out_json({"format_version": 1, "id": outcome.id, **found, "values": values})
    else:
        for value in outcome.values:
            out("" if value is None else harmless(value))
    missing = sum(value is None for value in outcome.values)
    if missing:
        talk(f"{missing} of {len(wanted)} cannot be tokens of the entry '{place.entry}'", style="yellow")
        raise typer.Exit(1)


def identity() -> Identity:
    """Return who asks."""
    from tokenweir.core.detokenize.decide import Identity  # noqa: PLC0415 - slow to import; --help does not need it.

    return Identity("user", os_user())


def open_granted(config: Path | None) -> Workspace:
    """Open a workspace whose configuration names a grants file.

    Raises:
        UsageError: there is no configuration, or it names none.
    """
    from tokenweir.app.workspace import open_workspace  # noqa: PLC0415 - slow to import; --help does not need it.

    workspace = open_workspace(config_path=config_path(config), policy_path=None, environ=os.environ)
    if workspace.config is None or workspace.config.detokenize.grants is None:
        raise UsageError("the configuration names no grants file (detokenize.grants), so nobody may detokenize")
    return workspace


def open_service(workspace: Workspace) -> Detokenizer:
    """Return the service, with keys open."""
    from tokenweir.adapters.auditthread import AuditThread  # noqa: PLC0415 - slow to import.
    from tokenweir.app.audit import open_audit  # noqa: PLC0415 - as above.
    from tokenweir.app.detokenize import Detokenizer  # noqa: PLC0415 - as above.
    from tokenweir.app.grantsfile import GrantsFile  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import keyset_of  # noqa: PLC0415 - as above.
    from tokenweir.runtime.keyrows import destroyed_roots  # noqa: PLC0415 - as above.

    config = workspace.config
    if config is None or config.detokenize.grants is None:
        raise UsageError("the configuration names no grants file (detokenize.grants)")
    keyset = keyset_of(config)
    audit_log = open_audit(config)
    audit_log.checkpoint()  # The first look reads a month of records, for which the limit of a request is too short.
    audit = AuditThread(audit_log, config.detokenize.audit.timeout_seconds)
    grants = GrantsFile(config.detokenize.grants, workspace.policy)
    return Detokenizer(
        workspace.policy,
        grants,
        keyset,
        audit,
        destroyed=lambda: destroyed_roots(config),
        most_tokens=config.detokenize.tokens,
    )


def _place(  # noqa: PLR0917 - one parameter per option.
    workspace: Workspace,
    stream: str | None,
    field: str | None,
    audience: str | None,
    entry: str | None,
    domain: str | None,
) -> Place:
    """Return where the tokens come from, from one of the two ways to say it."""
    from tokenweir.app.detokenize import Place  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.tokenplace import place_of_field  # noqa: PLC0415 - as above.

    by_field = stream is not None and field is not None and entry is None and domain is None
    by_entry = entry is not None and domain is not None and (stream, field, audience) == (None, None, None)
    if by_entry:
        return Place(entry or "", domain or "")
    if not by_field:
        raise UsageError("say where the tokens come from: --stream with --field, or --entry with --domain")
    return place_of_field(workspace, stream or "", field or "", audience)


def _tokens(given: list[str] | None) -> list[str]:
    """Return the tokens, from the arguments or standard input."""
    if given and given != ["-"]:
        return given
    if not given and sys.stdin.isatty():
        raise UsageError("give tokens as arguments, or on standard input, one a line")
    lines = []
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        if text:
            lines.append(text)
        if len(lines) > _MOST_LINES:
            raise UsageError(f"more than {_MOST_LINES:,} tokens")
    if not lines:
        raise UsageError("no token is given")
    return lines


def _refusal(service: Detokenizer, who: Identity, outcome: Outcome) -> str:
    """Say why, and what to do about it: whoever can run this verb has the keys anyway."""
    from tokenweir.core.detokenize.decide import CAUSES, Cause  # noqa: PLC0415 - slow to import.

    cause = outcome.cause or Cause.NOT_GRANTED
    words = f"refused: {CAUSES[cause]} (request {outcome.id})"
    if cause is Cause.PRINCIPAL:
        return f"{words}; you are the user {who.name}"
    if cause is Cause.STATEMENT:
        return f"{words}; read and accept it: tokenweir grants accept {outcome.statement}"
    if cause is Cause.APPROVAL:
        return f"{words}; after `tokenweir grants approve {outcome.case}` by somebody else, ask the same again"
    if cause is Cause.BUDGET:
        return f"{words}; the budgets are in {service.grants().digest[:12]}… of the grants file"
    return words
