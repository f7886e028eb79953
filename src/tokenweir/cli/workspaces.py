"""What the verbs of the contributor's loop have in common: the workspace, and streams planned against their schemas."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli.console import show_findings
from tokenweir.cli.options import config_path

if TYPE_CHECKING:
    from tokenweir.app.workspace import Workspace
    from tokenweir.core.planning import PlannedStream

SchemaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--schema",
        metavar="[STREAM=]FILE",
        help="A schema in place of what the registry has for the stream; may be given several times.",
    ),
]


def open_named(config: Path | None, policy: Path | None) -> Workspace:
    """Open the workspace that the options name."""
    from tokenweir.app.workspace import open_workspace  # noqa: PLC0415 - slow to import; --help does not need it.

    return open_workspace(config_path=config_path(config, policy), policy_path=policy, environ=os.environ)


def finish(workspace: Workspace) -> None:
    """End a verb that has printed its data: where a finding is an error, say all of them and fail."""
    if any(finding.severity == "error" for finding in workspace.findings):
        show_findings(workspace.findings)
        raise typer.Exit(1)


def plan(workspace: Workspace, stream: str, schemas: Sequence[str] | None) -> PlannedStream:
    """Plan a stream against the schemas that the options name, or those of the registry."""
    from tokenweir.app.lint import by_stream  # noqa: PLC0415 - as above.
    from tokenweir.app.workspace import schema_file  # noqa: PLC0415 - as above.

    files = by_stream(workspace, schemas or []).get(stream)
    return workspace.plan(stream, None if files is None else [schema_file(path) for path in files])
