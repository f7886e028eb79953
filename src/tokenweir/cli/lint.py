"""``tokenweir lint``: everything that is wrong, before it ships."""

from __future__ import annotations

import os

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import count_findings, out, talk
from tokenweir.cli.options import ConfigOption, FindingsFormat, FindingsFormatOption, PolicyOption, config_path
from tokenweir.cli.workspaces import SchemaOption


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        lint,
        "tokenweir lint",
        "tokenweir lint --policy policy.yaml --schema interactions=schemas/interactions.avsc",
        "tokenweir lint -c tokenweir.yaml --format sarif > tokenweir.sarif",
    )


def lint(
    config: ConfigOption = None,
    policy: PolicyOption = None,
    schema: SchemaOption = None,
    format_: FindingsFormatOption = FindingsFormat.TEXT,
) -> None:
    """Check a configuration, its policy and its schemas.

    All findings are shown at once, each with its place, its rule and a remedy. Only errors fail; warnings do not.
    No broker is asked, and no registry where the configuration names a directory of schemas.
    """
    from tokenweir.app import lint as app_lint  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app import renderings  # noqa: PLC0415 - as above.

    linted = app_lint.lint(
        config_path=config_path(config, policy), policy_path=policy, schemas=schema or [], environ=os.environ
    )
    match format_:
        case FindingsFormat.TEXT:
            for finding in linted.findings:
                out(str(finding))
        case FindingsFormat.JSON:
            out(renderings.as_json(linted.findings, linted.unchecked))
        case FindingsFormat.GITHUB:
            if linted.findings:
                out(renderings.as_github(linted.findings))
        case FindingsFormat.SARIF:
            out(renderings.as_sarif(linted.findings))
    for what in linted.unchecked:
        talk(f"not checked: {what}", style="yellow")
    style = "red" if linted.failed else "yellow" if linted.findings or linted.unchecked else "green"
    incomplete = f"; {len(linted.unchecked)} not checked, see above" if linted.unchecked else ""
    talk(f"{count_findings(linted.findings)} in {', '.join(linted.checked)}{incomplete}", style=style)
    if linted.failed:
        raise typer.Exit(1)
