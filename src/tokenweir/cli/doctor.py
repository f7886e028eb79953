"""``tokenweir doctor``: is everything there that a gateway needs?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, config_path

if TYPE_CHECKING:
    from tokenweir.app.doctor import Diagnosis

_REFUSED: Final = 3


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        doctor,
        "tokenweir doctor --config tokenweir.yaml",
        "tokenweir doctor --fix",
        "tokenweir doctor --format json | jq '.checks[] | select(.ok | not)'",
    )


def doctor(
    config: ConfigOption = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Create missing topics, and write a scratch schema to see whether the registry keeps tags."
        ),
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check everything that a gateway needs to run.

    That is keys, topics, permissions, schemas and the registry. Nothing is written without --fix. Exit codes: 0 all is
    well, 1 the files themselves are wrong, 3 something is not fit.
    """
    from tokenweir.app.cluster import open_cluster  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.doctor import diagnose  # noqa: PLC0415 - as above.

    found, workspace = open_cluster(config_path(config), os.environ)
    for finding in workspace.findings:
        talk(str(finding), style="yellow")
    diagnosis = diagnose(found, fix=fix)
    if format_ is Format.JSON:
        out_json(_plain(diagnosis))
    else:
        _show(diagnosis)
    if not diagnosis.ok:
        raise typer.Exit(_REFUSED)


def _plain(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "ok": diagnosis.ok,
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "message": check.message,
                "remedy": None if check.ok else check.remedy or None,
            }
            for check in diagnosis.checks
        ],
        "created": diagnosis.created,
        "not_tried": diagnosis.not_tried,
    }


def _show(diagnosis: Diagnosis) -> None:
    for line in diagnosis.created:
        talk(f"created {line}")
    table(
        ["", "check", "found"],
        [["ok" if check.ok else "FAIL", check.name, check.message] for check in diagnosis.checks],
    )
    for check in diagnosis.checks:
        if not check.ok and check.remedy:
            talk(f"{check.name}: {check.remedy}", style="yellow")
    for line in diagnosis.not_tried:
        talk(f"not tried: {line}")
    failed = sum(not check.ok for check in diagnosis.checks)
    talk("all is well" if not failed else f"{failed} of {len(diagnosis.checks)} checks failed")
