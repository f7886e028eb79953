"""``tokenweir explain``: why a field becomes what it becomes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json
from tokenweir.cli.options import ConfigOption, Format, FormatOption, PolicyOption
from tokenweir.cli.workspaces import SchemaOption, finish, open_named
from tokenweir.cli.workspaces import plan as plan_stream
from tokenweir.errors import FileFormatError

if TYPE_CHECKING:
    from tokenweir.app.explain import FieldNote, TokenNote
    from tokenweir.app.plans import OutputView


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        explain,
        "tokenweir explain interactions email",
        "tokenweir explain interactions location",
        "tokenweir explain interactions --format json",
    )


def explain(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")],
    field: Annotated[
        str | None, typer.Argument(metavar="FIELD", help="A path, such as items[*].sku. Default: every field.")
    ] = None,
    *,
    config: ConfigOption = None,
    policy: PolicyOption = None,
    schema: SchemaOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say why a field becomes what it becomes.

    Of the newest schema: the class and what gave it, the treatments for each audience in the order in which they are
    tried, the purposes and what they ask of the person, the token entry with a sample made from a made-up value, and
    the field in the derived schema.
    """
    from tokenweir.app import plans  # noqa: PLC0415 - slow to import; --help does not need it.
    from tokenweir.app.explain import explain_fields  # noqa: PLC0415 - as above.

    workspace = open_named(config, policy)
    planned = plan_stream(workspace, workspace.stream(stream), schema)
    if not planned.versions:
        workspace.require_clean()
        raise FileFormatError(f"stream '{stream}' has no schema")
    version = planned.versions[-1]
    notes = explain_fields(workspace, version, field)
    view = plans.view(workspace, planned)
    if format_ is Format.JSON:
        fields = [asdict(note) for note in notes]
        out_json({"format_version": 1, "stream": view.name, "schema": version.source.label, "fields": fields})
    else:
        out(f"stream {view.name}: {view.topic}, {version.source.label}")
        for output in view.outputs:
            _show_output(output)
        for note in notes:
            _show(note)
    finish(workspace)


def _show_output(output: OutputView) -> None:
    out(f"  {output.audience} ({output.title}): {output.topic}")
    out(f"    a record {output.requires}")


def _show(note: FieldNote) -> None:
    out()
    out(f"{note.path}  {note.type}")
    title = f" ({note.class_title})" if note.class_title else ""
    out(
        f"  class {note.class_name}{title}, from {note.class_from}"
        if note.class_name
        else "  no class: it never leaves"
    )
    for audience in note.audiences:
        out(f"  {audience.audience}")
        numbered = len(audience.rules) > 1
        for number, rule in enumerate(audience.rules, start=1):
            out(f"    {number}. {rule}" if numbered else f"    {rule}")
        for purpose in audience.purposes:
            out(f"    purpose {purpose}")
        if audience.derived:
            out(f"    derived {audience.derived}")
    for token in note.tokens:
        _show_token(token)


def _show_token(token: TokenNote) -> None:
    if token.format == "name":
        out(f"  token {token.entry}: format {token.format}, irreversible, and many values have one token")
    else:
        hidden = f"hidden among at least {_number(token.smallest_domain)} values"
        out(f"  token {token.entry}: format {token.format}, {hidden}")
    out(f"    sample {token.sample_value} -> {token.sample_token} (keys of this run, a made-up value)")


def _number(value: int) -> str:
    """Return a number of values; large ones as a power of two, which is how strength is told."""
    if value < 10**15:
        return f"{value:,}"
    exponent = value.bit_length() - 1
    return f"2^{exponent}" if value == 1 << exponent else f"2^{exponent} (about 10^{len(str(value)) - 1})"
