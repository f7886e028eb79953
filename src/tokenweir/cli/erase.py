"""``tokenweir erase``: forgets a person for good, and certifies what was done and what remains."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tokenweir.cli import verbs
from tokenweir.cli.asking import have_typed
from tokenweir.cli.console import harmless, out, out_json, table, talk
from tokenweir.cli.enforcement import Teller
from tokenweir.cli.options import ConfigOption, Format, FormatOption, YesOption
from tokenweir.cli.subjects import SubjectArgument, open_policy
from tokenweir.errors import UsageError

if TYPE_CHECKING:
    from tokenweir.adapters.signing import SigningKey
    from tokenweir.app.erasure import Erasure, Step
    from tokenweir.config import Config
    from tokenweir.core.policy.loader import LoadedPolicy
    from tokenweir.core.subjects import Subject

_PENDING: Final = 1
_KEY_FILE: Final = "signing.key"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verbs.add(
        app,
        erase,
        "tokenweir erase customer:0000012345 --reason 'request of the person' --ticket DSR-7",
        "tokenweir erase customer:0000012345 --status --format json",
        "tokenweir erase customer:0000012345 --lift --reason 'new contract' --ticket CRM-9 --yes",
    )


def erase(
    subject: SubjectArgument,
    *,
    config: ConfigOption = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the certificate.")
    ] = None,
    ticket: Annotated[
        str | None, typer.Option("--ticket", metavar="TEXT", help="The request that this answers; as the reason.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only look how far it is; nothing is written.")] = False,
    lift: Annotated[
        bool, typer.Option("--lift", help="End an erasure: decisions that are written from then on count again.")
    ] = False,
    no_signal: Annotated[bool, typer.Option("--no-signal", help="Do not tell the readers of the outputs.")] = False,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", metavar="FILE", help="Check a certificate about this person, offline."),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait until it is enforced.")
    ] = 30.0,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Erase a person: denied for ever under a hash, forgotten by name.

    The person stays denied whatever any source decides later, also in replays and when a source is read again. Then
    the decisions under the readable id are deleted, the readers of each output are told the person's tokens on
    {output}.erasures, and a signed certificate says what was done and what remains until when. Run it again to go on
    where it stopped. Exit codes: 0 COMPLETE, 1 PENDING or not erased, 2 wrong usage, 3 refused.
    """
    from tokenweir.adapters.signing import load, load_or_make  # noqa: PLC0415 - slow to import.
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - as above.
    from tokenweir.app.consentarguments import subject_of  # noqa: PLC0415 - as above.
    from tokenweir.app.erasurecertificate import certificate_path, earlier  # noqa: PLC0415 - as above.

    found, loaded = open_policy(config)
    # Another spelling than the canonical one is not told, as it is elsewhere: it would show the id.
    key, _changed = subject_of(subject, loaded.policy)
    if key.source:
        raise UsageError("an erasure is about the person and not about a source: leave the source out")
    if sum((status, lift, verify is not None)) > 1:
        raise UsageError("--status, --lift and --verify are different things: say one")
    request = {"reason": reason, "ticket": ticket}
    if not status and verify is None:
        _require_request(request, key.subject.id)
    key_file = found.keys.directory / _KEY_FILE
    if verify is not None:
        _verify(verify, key_file, found, key.subject)
        return
    with cluster_faults(found):
        erasure = _erasure(found, loaded, key.subject, signals=not no_signal)
    order = _Order(found, loaded.digest, erasure, certificate_path(found.state.directory, erasure.hashed), request)
    signing = load(key_file) if status else load_or_make(key_file)
    if lift:
        _lift(order, signing, format_, yes=yes)
        return
    before = {} if signing is None else earlier(order.path, signing.public_hex)
    erasure.earlier = before.get("steps", {})
    if not status and not yes:
        warning = "the person will be forgotten, which cannot be taken back"
        have_typed("subject", key.subject.canonical, warning=warning)
    with cluster_faults(found):
        steps = erasure.look() if status else erasure.complete(wait)
        if before and erasure.earlier.get("denied") == steps["denied"].plain():
            order.request = before["request"]
        certificate = _certified(order, steps, None if status else signing)
    _show(certificate, None if status else order.path, format_)
    if certificate["payload"]["state"] != "COMPLETE":
        raise typer.Exit(_PENDING)


@dataclass(slots=True)
class _Order:
    """What was asked for, of whom, and where the certificate lies."""

    config: Config
    policy_digest: str
    erasure: Erasure
    path: Path
    request: Mapping[str, str | None]


def _require_request(request: Mapping[str, str | None], id_: str) -> None:
    if not all(request.values()):
        raise UsageError("--reason and --ticket are needed: they stand in the certificate")
    named = re.compile(rf"(?<!\w){re.escape(id_)}(?!\w)", re.IGNORECASE)
    if any(named.search(text or "") for text in request.values()):
        raise UsageError("the id of the person stands in --reason or --ticket, and would stay in the certificate")


def _erasure(config: Config, loaded: LoadedPolicy, subject: Subject, *, signals: bool) -> Erasure:
    from tokenweir.app.erasure import Erasure  # noqa: PLC0415 - as above.
    from tokenweir.app.erasureworld import KafkaWorld  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import keyset_of, seal_of  # noqa: PLC0415 - as above.

    keyset = keyset_of(config)
    world = KafkaWorld(config, loaded, Teller())
    world.require_compacted()
    return Erasure(
        world,
        loaded.policy,
        keyset,
        subject,
        seal_of(keyset).hashed(subject),
        config.consent.max_staleness_seconds,
        signals=signals,
    )


def _certified(order: _Order, steps: Mapping[str, Step], signing: SigningKey | None) -> dict[str, Any]:
    """Return the certificate, written and signed where there is a key, and else only what it would say."""
    from tokenweir.app.erasurecertificate import payload, store  # noqa: PLC0415 - slow to import.

    document = payload(order.erasure, steps, order.request, order.policy_digest, time.time_ns() // 1_000_000)
    return {"payload": document} if signing is None else store(order.path, document, signing)


def _lift(order: _Order, signing: SigningKey | None, format_: Format, *, yes: bool) -> None:
    from tokenweir.app.cluster import cluster_faults  # noqa: PLC0415 - slow to import.
    from tokenweir.app.erasurecertificate import lifted_path  # noqa: PLC0415 - as above.

    erasure = order.erasure
    if not yes:
        have_typed("subject", erasure.subject.canonical, warning="decisions about this person will count again")
    with cluster_faults(order.config):
        talk("what was decided under the readable id meanwhile is deleted first, and gateways get the time to know it")
        erasure.lift()
        # The certificate of the erasure stays: it is the only proof of it.
        order.path = lifted_path(order.path)
        certificate = _certified(order, erasure.look(), signing)
    if format_ is Format.JSON:
        out_json(certificate)
        return
    out(f"{erasure.hashed.canonical}: the erasure is lifted; decisions have to be made anew")


def _verify(path: Path, key_file: Path, config: Config, subject: Subject) -> None:
    from tokenweir.adapters.signing import load  # noqa: PLC0415 - slow to import.
    from tokenweir.app.erasurecertificate import verify  # noqa: PLC0415 - as above.
    from tokenweir.errors import FileFormatError, KeysError  # noqa: PLC0415 - as above.
    from tokenweir.runtime.gateway import keyset_of, seal_of  # noqa: PLC0415 - as above.

    signing = load(key_file)
    if signing is None:
        raise KeysError(f"{key_file}: there is no signing key, so that no certificate can be checked here")
    found = verify(path, signing.public_hex)
    hashed = seal_of(keyset_of(config)).hashed(subject)
    if found["subject"]["hashed"] != hashed.canonical:
        raise FileFormatError(f"{path} is a certificate about somebody else")
    out(f"{path}: signed by {signing.public_hex}, {found['state']} at {found['made_at']}")


def _show(certificate: Mapping[str, Any], path: Path | None, format_: Format) -> None:
    if format_ is Format.JSON:
        out_json(certificate)
        return
    document = certificate["payload"]
    out(f"{document['subject']['hashed']}: {document['state']}")
    table(
        ["step", "progress", "what"],
        [[name, step["progress"], step["detail"]] for name, step in document["steps"].items()],
    )
    if document["state"] != "NOT_ERASED":
        out()
        table(
            ["what remains", "where", "until"],
            [
                [each["what"], _where(each), str(each["until"] or each.get("why") or "not limited")]
                for each in document["remains"]
            ],
        )
        talk("not covered: " + "; ".join(document["not_covered"]))
    if path is not None:
        talk(f"certificate: {harmless(str(path))}")


def _where(each: Mapping[str, Any]) -> str:
    if "topic" in each:
        return str(each["topic"])
    return (
        f"key domain {each['key_domain']}, epoch {each['epoch']}" if "epoch" in each else f"purpose {each['purpose']}"
    )
