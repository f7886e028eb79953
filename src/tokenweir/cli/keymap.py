"""``tokenweir keys map``: which token of the old epoch has become which of the new one."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out_json, table, talk
from tokenweir.cli.keyepochs import DomainArgument
from tokenweir.cli.options import ConfigOption, Format, FormatOption, config_path

if TYPE_CHECKING:
    from tokenweir.app.keymap import KeyMap


def register(group: typer.Typer) -> None:
    """Add the verb to the group ``keys``."""
    verbs.add(group, map_tokens, "tokenweir keys map crm --create", "tokenweir keys map crm --follow", name="map")


def map_tokens(
    domain: DomainArgument,
    *,
    config: ConfigOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until it is interrupted.")] = False,
    create: Annotated[
        bool, typer.Option("--create", help="Create the mapping topics that are missing, compacted.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write which token of the old epoch has become which of the new one, for the values seen.

    Reads the old epoch's topics, whose tokens it reverses and makes anew in memory, and writes one record for each to
    {topic}.eN.mapping: key {"entry":…,"token":OLD}, value {"token":NEW}. It may run at any time between `keys rotate`
    and `keys retire`, and again: a pair that is written twice is there once. Tokens of irreversible entries (e-mail
    addresses, for one) have no successors; they are named.

    Who reads a mapping can join both epochs: give it to the consumers that move over, and delete it afterwards.
    """
    from tokenweir.app.cluster import cluster_faults, open_cluster  # noqa: PLC0415 - slow to import.
    from tokenweir.app.keymap import KeyMap  # noqa: PLC0415 - as above.
    from tokenweir.runtime.sources import open_registry  # noqa: PLC0415 - as above.

    opened, workspace = open_cluster(config_path(config), os.environ)
    stopping = threading.Event()
    if follow:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
    mapper = KeyMap(opened, workspace, open_registry(opened), domain)
    with cluster_faults(opened):
        for topic in mapper.prepare(create=create):
            talk(f"created {topic}: let the consumers that move over read it, and nobody else")
        mapper.run(follow=follow, stopping=stopping.is_set)
    _report(mapper, format_)


def _report(mapper: KeyMap, format_: Format) -> None:
    rows = [(route, mapper.done[route.topic]) for route in mapper.routes]
    if format_ is Format.JSON:
        out_json(
            {
                "format_version": 1,
                "mappings": [
                    {
                        "from": route.old.topic,
                        "to": route.new.topic,
                        "topic": route.topic,
                        "records": done.records,
                        "pairs": done.written,
                        "unknown_schemas": {str(number): count for number, count in done.unknown_schemas.items()},
                        "no_tokens": done.no_tokens,
                        "irreversible": sorted(done.irreversible),
                        "varying": sorted(done.varying),
                    }
                    for route, done in rows
                ],
            }
        )
        return
    table(
        ["mapping", "from", "records", "pairs"],
        [[route.topic, route.old.topic, f"{done.records:,}", f"{done.written:,}"] for route, done in rows],
    )
    for route, done in rows:
        if done.irreversible:
            talk(
                f"{route.topic}: tokens of {', '.join(sorted(done.irreversible))} cannot be reversed and have no "
                "successors here",
                style="yellow",
            )
        for path in sorted(done.varying):
            talk(f"{route.topic}: values at {path} may be tokens or not, by what was decided; left out", style="yellow")
        for number, count in sorted(done.unknown_schemas.items()):
            talk(
                f"{route.topic}: {count:,} records have the schema id {number}, which this policy makes of no known "
                "version; left out",
                style="yellow",
            )
        if done.no_tokens:
            talk(f"{route.topic}: {done.no_tokens:,} records hold what is no token; left out", style="yellow")
