"""``tokenweir config``: JSON Schemas of the files that people write."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out_json


class FileKind(StrEnum):
    """The files that have a JSON Schema."""

    CONFIG = "config"
    POLICY = "policy"
    CONSENT = "consent"
    GRANTS = "grants"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    group.callback()(_group)
    verbs.add(
        group,
        schema,
        "tokenweir config schema > config.schema.json",
        "tokenweir config schema policy > policy.schema.json",
    )
    app.add_typer(group, name="config", help="JSON Schemas of the files that you write, for your editor.")


def _group() -> None:
    """JSON Schemas of the files that you write, for your editor."""


def schema(
    kind: Annotated[FileKind, typer.Argument(metavar="KIND", help="Which file.")] = FileKind.CONFIG,
    policy: Annotated[bool, typer.Option("--policy", help="The same as: config schema policy.")] = False,
) -> None:
    """Print the JSON Schema of a file that you write.

    Draft 7, of the configuration, the policy, the grants file, or a line of a consent file. Name it in the first line
    of a YAML file, and editors complete and check it:
    # yaml-language-server: $schema=policy.schema.json
    """
    from tokenweir.app.fileschemas import FILE_SCHEMAS  # noqa: PLC0415 - slow to import; --help does not need it.

    out_json(FILE_SCHEMAS[(FileKind.POLICY if policy else kind).value]())
