"""``tokenweir plan``: what every audience gets of every field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json, table
from tokenweir.cli.options import ConfigOption, Format, FormatOption, PolicyOption
from tokenweir.cli.workspaces import SchemaOption, finish, open_named
from tokenweir.cli.workspaces import plan as plan_stream

if TYPE_CHECKING:
    from tokenweir.app.plans import StreamView


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        plan,
        "tokenweir plan",
        "tokenweir plan --stream interactions --format json | jq .streams[0].outputs",
        "tokenweir plan --policy policy.yaml --schema interactions.avsc",
    )


def plan(
    config: ConfigOption = None,
    policy: PolicyOption = None,
    schema: SchemaOption = None,
    stream: Annotated[str | None, typer.Option("--stream", "-s", metavar="NAME", help="Only this stream.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what becomes of each field for every audience.

    One table for every stream and schema version. Nothing is changed and no broker is asked. What forbids to run is
    shown after the plan, and fails.
    """
    from tokenweir.app import plans  # noqa: PLC0415 - slow to import; --help does not need it.

    workspace = open_named(config, policy)
    names = list(workspace.policy.policy.streams) if stream is None else [workspace.stream(stream)]
    views = [plans.view(workspace, plan_stream(workspace, name, schema)) for name in names]
    if format_ is Format.JSON:
        out_json(plans.document(workspace, views))
    else:
        for view in views:
            _show(view)
    finish(workspace)


def _show(view: StreamView) -> None:
    out(f"stream {view.name}: {view.topic} ({view.format})")
    out()
    table(
        ["audience", "output topic", "a record", "key", "timestamp", "key domain"],
        [
            [
                output.audience,
                output.topic,
                output.requires,
                "token of the subject" if output.key == "subject" else output.key,
                output.timestamp,
                f"{output.key_domain}, epoch {output.epoch}",
            ]
            for output in view.outputs
        ],
        styles=("bold", "", "cyan"),
    )
    for schema in view.schemas:
        out()
        out(f"schema {schema.label}")
        out()
        audiences = [output.audience for output in view.outputs]
        table(
            ["field", "type", "class", *audiences],
            [
                [row.path, row.type, row.class_name or "(none)", *(row.audiences[name] for name in audiences)]
                for row in schema.fields
            ],
            styles=("bold", "dim", "cyan"),
        )
    out()
