"""``tokenweir grants``: checking the grants file, accepting statements, deciding about other people's requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.asking import have_typed
from tokenweir.cli.console import harmless, out, out_json, show_findings, table, talk
from tokenweir.cli.detokenize import identity, open_granted, open_service
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption
from tokenweir.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from tokenweir.core.detokenize.grants import LoadedGrants
    from tokenweir.core.detokenize.ledger import Case

CaseArgument = Annotated[str, typer.Argument(metavar="CASE", help="The id of the request, as `grants cases` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    verbs.add(group, check, "tokenweir grants check")
    verbs.add(group, accept, "tokenweir grants accept confidentiality")
    verbs.add(group, cases, "tokenweir grants cases", "tokenweir grants cases --format json")
    verbs.add(group, approve, "tokenweir grants approve 3f1c9a0b7d2e4856a1b2c3d4")
    verbs.add(group, reject, "tokenweir grants reject 3f1c9a0b7d2e4856a1b2c3d4")
    app.add_typer(group, name="grants", help="Who may detokenize: check the file, accept statements, approve requests.")


def check(config: ConfigOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Check the grants file against the policy, and show who may reverse what."""
    from tokenweir.app.grantsfile import GrantsFile  # noqa: PLC0415 - slow to import; --help does not need it.

    workspace = open_granted(config)
    if workspace.config is None or workspace.config.detokenize.grants is None:
        raise UsageError("the configuration names no grants file (detokenize.grants)")
    loaded = GrantsFile(workspace.config.detokenize.grants, workspace.policy).current()
    columns = ["principal", "role", "classes", "domains", "budgets", "approval"]
    rows = list(_rows(loaded))
    if format_ is Format.JSON:
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        out_json({"format_version": 1, "digest": loaded.digest, "grants": named})
    else:
        table(columns, rows)
    if loaded.warnings:
        show_findings(loaded.warnings)


def _rows(loaded: LoadedGrants) -> Iterator[list[str]]:
    """Yield every grant of every principal."""
    for name, principal in loaded.grants.principals.items():
        for role in principal.roles:
            for grant in loaded.grants.roles[role].grants:
                budgets = [f"{each.requests} requests, {each.values} values per {each.per}" for each in grant.budgets]
                approval = f"by {' or '.join(grant.approval.by)}" if grant.approval else "not needed"
                yield [name, role, " ".join(grant.classes), " ".join(grant.domains), "; ".join(budgets), approval]


def accept(
    statement: Annotated[str, typer.Argument(metavar="STATEMENT", help="Name of the statement.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Read a statement and accept it; the acceptance of this very text is recorded in the audit log."""
    service, who = open_service(open_granted(config)), identity()
    found = service.statement(who, statement)
    if found is None:
        raise RefusedError(f"the grants file has no statement '{statement}', or does not know the user {who.name}")
    text, digest = found
    out(harmless(text.rstrip("\n"), "\n"))
    if not yes:
        have_typed("statement", statement, warning="accepting this is recorded", undone="nothing was accepted")
    if not service.accept(who, statement, digest):
        raise RefusedError("the statement was changed meanwhile; read it again")
    talk(f"accepted '{statement}', text {digest[:12]}…, as {who.name}", style="green")


def cases(config: ConfigOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Show the requests that wait for you as the second person. Tokens are not shown: nobody has kept them."""
    waiting = open_service(open_granted(config)).cases(identity())
    rows = [_row(case) for case in waiting]
    columns = ["case", "principal", "entry", "domain", "tokens", "reason", "ticket", "expires"]
    if format_ is Format.JSON:
        out_json({"format_version": 1, "cases": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        table(columns, rows)


def _row(case: Case) -> list[str]:
    from tokenweir.core.detokenize.chain import time_text  # noqa: PLC0415 - slow to import; --help does not need it.

    what = [case.entry, case.domain, str(len(case.marks)), case.reason, case.ticket]
    return [case.id, case.principal, *what, time_text(case.expires_ms)]


def approve(case: CaseArgument, config: ConfigOption = None) -> None:
    """Approve another person's request; it can then be asked once more and is answered once."""
    _decide(case, config, approve=True)


def reject(case: CaseArgument, config: ConfigOption = None) -> None:
    """Reject another person's request."""
    _decide(case, config, approve=False)


def _decide(case: str, config: ConfigOption, *, approve: bool) -> None:
    if not open_service(open_granted(config)).decide_case(identity(), case, approve=approve):
        raise RefusedError(
            "no such request waits for you: it is unknown, over, decided or your own, or none of your roles may decide"
        )
    talk(f"{'approved' if approve else 'rejected'} {case}", style="green")
