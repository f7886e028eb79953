"""``tokenweir sanitize``: files through the same engine as the gateway."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import aligned, console, talk
from tokenweir.cli.group import describe_fault
from tokenweir.cli.options import EngineChoice, Format
from tokenweir.errors import UsageError

if TYPE_CHECKING:
    from tokenweir.app.consentlines import ConsentLines
    from tokenweir.app.files import Outputs
    from tokenweir.app.sanitize import Report
    from tokenweir.app.workspace import Workspace
    from tokenweir.core.keys import Keyset

_PROGRESS_SECONDS: Final = 0.1
"""How often the number of records on a terminal changes."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        sanitize,
        "tokenweir sanitize events.avro -p policy.yaml -s interactions -a crm -o crm.avro",
        "tokenweir sanitize events.avro -p policy.yaml -s interactions --consent consent.jsonl -o out/",
        "kcat -C -e -t raw.json | tokenweir sanitize - -p policy.yaml -s raw -a ads | jq .",
    )


def sanitize(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Avro containers or JSON lines; - is standard input.")
    ],
    *,
    policy: Annotated[Path, typer.Option("--policy", "-p", metavar="FILE", help="The policy.")],
    stream: Annotated[
        str | None,
        typer.Option("--stream", "-s", metavar="NAME", help="The stream; optional if the policy has one only."),
    ] = None,
    audience: Annotated[
        str | None, typer.Option("--audience", "-a", metavar="NAME", help="Whose output. Default: all, with -o DIR/.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="FILE", help="A schema in place of the stream's or the container's."),
    ] = None,
    consent: Annotated[
        Path | None,
        typer.Option("--consent", metavar="FILE", help="Decisions as JSON lines. Default: none, so all are unknown."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="DIR/keyset.json and DIR/kek.key. Default: keys for this run only."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A file, or DIR/ for a file per input and audience."),
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option("--engine", help="Which engine treats records; both give the same.")
    ] = EngineChoice.AUTO,
    format_: Annotated[
        Format, typer.Option("--format", help="How the report on standard error is written.")
    ] = Format.TEXT,
) -> None:
    """Sanitize Avro container files and JSON lines.

    A container gives a container with the derived schema, lines give lines. The clock at the start of the run stands
    for every record's timestamp. Rejected records are counted and are no failure; a file that cannot be read is.
    """
    from tokenweir.adapters.engines import engine_name  # noqa: PLC0415 - engines are slow to import; --help needs none.
    from tokenweir.app.files import Outputs  # noqa: PLC0415 - as above.
    from tokenweir.app.sanitize import Sanitizer  # noqa: PLC0415 - as above.
    from tokenweir.app.workspace import open_workspace, schema_file  # noqa: PLC0415 - as above.
    from tokenweir.runtime.sources import stream_context  # noqa: PLC0415 - as above.

    workspace = open_workspace(config_path=None, policy_path=policy, environ=os.environ)
    name = workspace.stream(stream)
    keyset = _keyset(workspace, keys)
    now_ms = time.time_ns() // 1_000_000
    audiences = _audiences(workspace, name, audience)
    faults: set[str] = set()
    used = _files_read(workspace, name, policy=policy, schema=schema, consent=consent, keys=keys)
    with Outputs(output, audiences, files, used) as outputs, _progress() as on_progress:
        sanitizer = Sanitizer(
            workspace,
            stream_context(workspace.policy, name, keyset),
            audiences,
            keyset,
            _consent(workspace, consent, now_ms),
            schema=None if schema is None else schema_file(schema),
            now_ms=now_ms,
            engine=engine_name(engine.value),
            on_progress=on_progress,
            on_fault=lambda error: faults.add(describe_fault(error)),
        )
        sanitizer.run(files, outputs)
    if format_ is Format.JSON:
        print(json.dumps(sanitizer.report.plain()), file=sys.stderr)
        return
    for fault in sorted(faults):
        talk(fault, style="red")
    if keys is None:
        talk("keys: made for this run only, so its tokens match those of no other run (--keys DIR for lasting ones)")
    if consent is None:
        talk("consent: none given, so every decision is unknown (--consent FILE)")
    else:
        talk("consent: what the file says at its end counts for every event, whenever it happened")
    _show_report(sanitizer.report, outputs)


def _files_read(
    workspace: Workspace,
    stream: str,
    *,
    policy: Path,
    schema: Path | None,
    consent: Path | None,
    keys: Path | None,
) -> list[Path]:
    """Return every file that is read besides the inputs, and so may not be written."""
    named = workspace.policy.policy.streams[stream].source.schema_
    found = [policy, schema, consent, None if named is None else workspace.policy_directory / named]
    if keys is not None:
        found += [keys / "keyset.json", keys / "kek.key"]
    return [path for path in found if path is not None]


def _keyset(workspace: Workspace, directory: Path | None) -> Keyset:
    from tokenweir.adapters.keysource import load_keyset  # noqa: PLC0415 - slow to import, see above.
    from tokenweir.app.keychoice import kek_of_directory  # noqa: PLC0415 - as above.
    from tokenweir.core.keys import Keyset  # noqa: PLC0415 - as above.
    from tokenweir.runtime.sources import key_domains  # noqa: PLC0415 - as above.

    if directory is None:
        return Keyset.ephemeral(key_domains(workspace.policy), os.urandom)
    return load_keyset(directory / "keyset.json", kek_of_directory(directory, os.environ))


def _consent(workspace: Workspace, path: Path | None, now_ms: int) -> ConsentLines:
    from tokenweir.app.consentlines import ConsentLines  # noqa: PLC0415 - slow to import, see above.
    from tokenweir.runtime.sources import read_text  # noqa: PLC0415 - as above.

    if path is None:
        return ConsentLines()
    return ConsentLines.read(read_text(path), str(path), now_ms, workspace.policy.policy)


def _audiences(workspace: Workspace, stream: str, wanted: str | None) -> list[str]:
    """Return whose outputs are wanted, in the order of the policy."""
    known = [output.audience for output in workspace.policy.policy.streams[stream].outputs]
    if wanted is None:
        return known
    if wanted not in known:
        raise UsageError(f"stream '{stream}' has no output for audience '{wanted}': it has {', '.join(known)}")
    return [wanted]


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show how many records were read, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _read: None
        return
    shown_at = 0.0
    with console(sys.stderr).status("reading") as status:

        def on_progress(read: int) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at > _PROGRESS_SECONDS:
                shown_at = time.monotonic()
                status.update(f"{read:,} records")

        yield on_progress


def _show_report(report: Report, outputs: Outputs) -> None:
    """Say what became of the records, on standard error."""
    from tokenweir.core.outcome import REASONS, Fate, Reason  # noqa: PLC0415 - slow to import, see above.

    talk(f"{report.read:,} record{'' if report.read == 1 else 's'} read")
    rows = [["audience", *(fate.value for fate in Fate), "written to"]]
    for audience, counts in report.outputs.items():
        paths = outputs.written[audience]
        written = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files" if paths else ""
        rows.append([audience, *(f"{counts[fate]:,}" for fate in Fate), written])
    for line in aligned(rows):
        talk(line)
    for reason, number in sorted(report.rejections.items()):
        talk(f"rejected {number:,} x {reason}: {REASONS[Reason(reason)][1]}")
    for place in report.places:
        talk(f"  {place}")
