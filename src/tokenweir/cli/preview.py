"""``tokenweir preview``: what would leave, of the newest records."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, config_path
from tokenweir.cli.subjects import tell_blocks
from tokenweir.words import counted

if TYPE_CHECKING:
    from tokenweir.app.preview import Preview, Previewed, Shown


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        preview,
        "tokenweir preview --config tokenweir.yaml --limit 5",
        "tokenweir preview --stream interactions --format json | jq .records[].outputs",
    )


def preview(
    *,
    config: ConfigOption = None,
    stream: Annotated[str | None, typer.Option("--stream", "-s", metavar="NAME", help="Only this stream.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=1000, help="How many records of each stream.")
    ] = 5,
    show_raw: Annotated[
        bool, typer.Option("--show-raw", help="Also show the records as they came in: personal data on your screen.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what would leave of the newest records.

    For each source and audience. Nothing is written, no group is joined and no offset is committed. Decisions are read
    from the consent topic as it is now. Values are shown as they would leave, and never as they came in unless
    --show-raw says so.
    """
    from tokenweir.app.cluster import cluster_faults, open_cluster  # noqa: PLC0415 - slow to import.
    from tokenweir.app.preview import Preview  # noqa: PLC0415 - as above.
    from tokenweir.runtime.sources import open_registry  # noqa: PLC0415 - as above.

    found, workspace = open_cluster(config_path(config), os.environ)
    names = list(workspace.policy.policy.streams) if stream is None else [workspace.stream(stream)]
    previews = Preview(found, workspace, open_registry(found))
    previews.require_schema_ids(names)
    now_ms = time.time_ns() // 1_000_000
    records: list[Previewed] = []
    for name in names:
        with cluster_faults(found):
            shown = previews.show(name, previews.newest(name, limit), now_ms, raw=show_raw)
        _explain(previews, name, len(shown))
        records += shown
        if format_ is Format.TEXT:
            for record in shown:
                _show(record)
    if format_ is Format.JSON:
        out_json(
            {"ephemeral_keys": previews.ephemeral, "records": [_plain(record, raw=show_raw) for record in records]}
        )


def _explain(previews: Preview, stream: str, shown: int) -> None:
    """Say on standard error what the answers rest on."""
    talk(f"stream {stream}: {counted(shown, 'record')}")
    if previews.ephemeral:
        talk("keys: there is no keyset, so the tokens are of this run only ('tokenweir keys init' makes one)")
    if previews.consent_missing:
        talk(f"consent: {previews.consent_missing}, so every decision is unknown")
    else:
        talk(
            f"consent: {counted(previews.consent_records or 0, 'record')} read, "
            f"with decisions of {counted(previews.consent_subjects, 'subject')} of these"
        )
        tell_blocks(previews.blocks)


def _show(record: Previewed) -> None:
    from tokenweir.core.timestamps import format_date_time  # noqa: PLC0415 - slow to import.

    schema = f"  schema {record.schema_id}" if record.schema_id >= 0 else ""
    out(f"{record.topic} {record.partition}@{record.offset}  {format_date_time(record.timestamp_ms)}{schema}")
    if record.raw is not None:
        out(f"  raw  {json.dumps(record.raw, ensure_ascii=False)}")
    for output in record.outputs:
        out(f"  {output.audience}  {output.fate.value}{_details(output)}")


def _details(output: Shown) -> str:
    if output.reason:
        place = f" at {output.field_path}" if output.field_path else ""
        return f"  {output.reason}{place}"
    if output.fate.value != "sanitized":
        return f"  {output.because}" if output.because else ""
    key = "" if output.key is None else f"  key {output.key}"
    return f"{key}  {json.dumps(output.fields, ensure_ascii=False)}"


def _plain(record: Previewed, *, raw: bool) -> dict[str, object]:
    plain: dict[str, object] = {
        "stream": record.stream,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "schema_id": record.schema_id if record.schema_id >= 0 else None,
        "outputs": [
            {
                "audience": output.audience,
                "topic": output.topic,
                "fate": output.fate.value,
                "key": output.key,
                "fields": output.fields,
                "reason": output.reason or None,
                "field_path": output.field_path or None,
                "withheld_because": output.because or None,
            }
            for output in record.outputs
        ],
    }
    return {**plain, "raw": record.raw} if raw else plain
