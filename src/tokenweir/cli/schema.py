"""``tokenweir schema``: derived schemas, shown, written and registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, PolicyOption
from tokenweir.cli.workspaces import SchemaOption, open_named
from tokenweir.cli.workspaces import plan as plan_stream
from tokenweir.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    verbs.add(
        group,
        derive,
        "tokenweir schema derive interactions --audience crm",
        "tokenweir schema derive interactions -o schemas/",
    )
    verbs.add(
        group,
        register_schemas,
        "tokenweir schema register -c tokenweir.yaml",
        "tokenweir schema register -c tokenweir.yaml --stream interactions",
        name="register",
    )
    app.add_typer(group, name="schema", help="Derive the sanitized schemas, and register them.")


def derive(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")],
    *,
    audience: Annotated[
        str | None, typer.Option("--audience", "-a", metavar="NAME", help="Only this audience.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write {subject}.avsc or .json files there.")
    ] = None,
    config: ConfigOption = None,
    policy: PolicyOption = None,
    schema: SchemaOption = None,
) -> None:
    """Derive the schemas that downstream consumers see.

    From the newest schema of the stream. Prints the schema of one audience, or an object with the schema of every
    registry subject.
    """
    from tokenweir.app import derived  # noqa: PLC0415 - slow to import; --help does not need it.

    workspace = open_named(config, policy)
    name = workspace.stream(stream)
    audiences = [each.audience for each in workspace.policy.policy.streams[name].outputs]
    if audience is not None and audience not in audiences:
        raise UsageError(f"stream '{name}' has no output for audience '{audience}': it has {', '.join(audiences)}")
    planned = plan_stream(workspace, name, schema)
    workspace.require_clean()
    schemas = derived.newest(derived.derived_schemas(planned, audience))
    if output is not None:
        for each in schemas.values():
            out(str(derived.write(each, output)))
    elif audience is not None:
        for each in schemas.values():
            out_json(each.document)
    else:
        out_json({subject: each.document for subject, each in schemas.items()})
    if not schemas:
        talk("nothing of this schema can leave, so there is no derived schema", style="yellow")


def register_schemas(
    config: ConfigOption = None,
    stream: Annotated[str | None, typer.Option("--stream", "-s", metavar="NAME", help="Only this stream.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Register the derived schemas.

    Those of every known version, and those of the dead-letter topics. Their registry subjects get the compatibility
    FULL_TRANSITIVE. A schema that is registered already is only found.
    """
    from tokenweir.app import derived  # noqa: PLC0415 - slow to import; --help does not need it.

    workspace = open_named(config, None)
    registry = workspace.registry()
    streams = workspace.policy.policy.streams
    names = [name for name in streams if stream is None] or [workspace.stream(stream)]
    wanted: list[derived.DerivedSchema] = []
    for name in names:
        planned = workspace.plan(name)
        if streams[name].source.format != "json":
            wanted += derived.derived_schemas(planned, None)
        wanted.append(derived.dead_letter_schema(workspace.dead_letter_topic(name)))
    workspace.require_clean()
    rows = [
        {"subject": each.subject, "id": derived.register(registry, each), "from": each.label}
        for each in dict.fromkeys(wanted)
    ]
    if format_ is Format.JSON:
        out(json.dumps({"format_version": 1, "schemas": rows}, indent=2))
    else:
        table(["registry subject", "id", "derived from"], [[str(value) for value in row.values()] for row in rows])
