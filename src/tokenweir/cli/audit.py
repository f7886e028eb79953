"""``tokenweir audit``: beginning, checking and searching the log of everything that was detokenized."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenweir.cli import verbs
from tokenweir.cli.console import out, out_json, table, talk
from tokenweir.cli.options import ConfigOption, Format, FormatOption, config_path
from tokenweir.errors import UsageError

if TYPE_CHECKING:
    from tokenweir.config import Config


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = verbs.group()
    verbs.add(group, init, "tokenweir audit init")
    verbs.add(
        group,
        verify,
        "tokenweir audit verify",
        "tokenweir audit verify --checkpoint kept-elsewhere.json",
        "tokenweir audit verify --directory copy-of-audit --public-key audit.pub --format json",
    )
    verbs.add(group, checkpoint, "tokenweir audit checkpoint > kept-elsewhere.json")
    verbs.add(group, find, "tokenweir audit find 0486298924 --entry customer --domain crm")
    app.add_typer(group, name="audit", help="The log of everything that was detokenized: begin, check, search it.")


def init(config: ConfigOption = None) -> None:
    """Make the signing key and begin the log, once.

    The public key stands beside the signing key, with `.pub` at its end; give it to those who check the log. A log
    that exists is never begun anew.
    """
    from tokenweir.app.audit import audit_paths, init_audit  # noqa: PLC0415 - slow to import.

    opened = _config(config)
    made, log = init_audit(opened)
    if made:
        talk(f"made {opened.detokenize.audit.signing_key}, readable by you only; keep a copy elsewhere")
    talk(f"began log {log} in {audit_paths(opened).directory}", style="green")


def verify(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="A checkpoint kept elsewhere; may be given several times."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="FILE", help="Key to check with (PEM). Default: beside the signing key."),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="DIR", help="A copy of the log. Default: the configuration's.")
    ] = None,
    config: ConfigOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check every record of the log, and exit with 1 if anything is wrong.

    Edits, insertions, deletions and moved records are found by hash chain and signatures, records cut off the end by
    the checkpoint beside the log. A log that was rolled back together with its checkpoint, or replaced by whoever has
    the signing key, is found only with a checkpoint that was kept where they cannot write: make one with
    `tokenweir audit checkpoint`.
    """
    from tokenweir.app.audit import CHECKPOINT, AuditPaths, audit_paths, verify_audit  # noqa: PLC0415 - slow to import.

    if directory is not None and public_key is not None:
        paths = AuditPaths(directory, directory / CHECKPOINT, public_key)
    else:
        paths = audit_paths(_config(config))
        if directory is not None:
            paths = AuditPaths(directory, directory / CHECKPOINT, paths.public_key)
    verdict = verify_audit(paths, checkpoints or [], public_key)
    if format_ is Format.JSON:
        last = {"seq": verdict.last.seq, "hash": verdict.last.hash}
        faults = [fault._asdict() for fault in verdict.faults]
        out_json({"format_version": 1, "log": verdict.log, "records": verdict.records, "last": last, "faults": faults})
    else:
        out(f"log {verdict.log or '(none)'}: {verdict.records} records in order, the last is {verdict.last.hash[:16]}")
        for fault in verdict.faults:
            place = f"{fault.segment}:{fault.line}" if fault.line else fault.segment or "log"
            out(f"{place}: {fault.message}")
    if verdict.faults:
        raise typer.Exit(1)
    if not checkpoints:
        talk("no --checkpoint from elsewhere was given: a roll-back of log and checkpoint together would not be seen")


def checkpoint(config: ConfigOption = None) -> None:
    """Print the signed checkpoint of the newest record, to be kept where nobody who runs this host can write."""
    from tokenweir.app.audit import open_audit  # noqa: PLC0415 - slow to import; --help does not need it.

    out(open_audit(_config(config)).checkpoint().text().rstrip("\n"))


def find(
    tokens: Annotated[list[str], typer.Argument(metavar="TOKEN...", help="Tokens to look for.")],
    entry: Annotated[str, typer.Option("--entry", metavar="NAME", help="Their token entry.")],
    domain: Annotated[str, typer.Option("--domain", metavar="NAME", help="Their key domain.")],
    config: ConfigOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show who asked for these tokens, in any epoch: answers, refusals, and requests for approval."""
    from tokenweir.adapters.keysource import describe_keyset  # noqa: PLC0415 - slow to import.
    from tokenweir.app.audit import audit_paths, find_tokens  # noqa: PLC0415 - as above.
    from tokenweir.app.detokenize import Place  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import keyset_of, keyset_path  # noqa: PLC0415 - as above.

    opened = _config(config)
    path = keyset_path(opened)
    epochs = sorted({row.epoch for row in describe_keyset(path) if row.domain == domain})
    if not epochs:
        raise UsageError(f"the keyset has no key domain '{domain}'")
    key = keyset_of(opened).audit_mark_key()
    found = find_tokens(audit_paths(opened), key, Place(entry, domain), epochs, tokens)
    if format_ is Format.JSON:
        out_json({"format_version": 1, "found": [asdict(each) for each in found]})
        return
    rows = [
        [each.token, str(each.seq), each.time, each.kind, each.principal, each.reason, each.ticket] for each in found
    ]
    table(["token", "record", "time", "kind", "principal", "reason", "ticket"], rows)


def _config(config: Path | None) -> Config:
    from tokenweir.app.workspace import open_config  # noqa: PLC0415 - slow to import; --help does not need it.

    path = config_path(config)
    if path is None:
        raise UsageError("name a configuration: --config tokenweir.yaml")
    return open_config(path, os.environ)
