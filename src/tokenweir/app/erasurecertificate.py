"""The certificate of an erasure: what was done, where, and what remains until when; signed, and without the id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tokenweir import __version__
from tokenweir.adapters.consentfiles import write_durably
from tokenweir.adapters.signing import SigningKey, opened, signed
from tokenweir.app.erasure import Erasure, Step, state_of
from tokenweir.core.consent import HashedSubject
from tokenweir.core.epochs import FIRST_EPOCH, epoch_topic
from tokenweir.core.policy.models import Policy
from tokenweir.core.timestamps import format_date_time
from tokenweir.errors import FileFormatError, RefusedError

KIND: Final = "tokenweir-erasure"

_DIRECTORY: Final = "erasures"

#: Bases that no decision of the person can stop.
_ASKS_NOBODY: Final = frozenset({"contract", "legal_obligation", "public_task", "vital_interest"})

#: What nobody can see from here, whatever was done.
NOT_COVERED: Final = (
    "copies that the readers of an output have made, until they delete what the signal names",
    "the systems from which the raw records come, and whatever else reads their topics",
    "backups and mirrors of topics, of consent and of keys",
    "replicas and page caches of brokers below what their logs show",
)


def certificate_path(state_directory: Path, hashed: HashedSubject) -> Path:
    """Return where the last certificate about a person lies; nothing of the id is in its name."""
    return state_directory / _DIRECTORY / f"{hashed.digest.hex()}.json"


def lifted_path(path: Path) -> Path:
    """Return where the certificate of the lift lies, beside that of the erasure."""
    return path.with_suffix(".lifted.json")


def payload(
    erasure: Erasure, steps: Mapping[str, Step], request: Mapping[str, str | None], digest: str, now_ms: int
) -> dict[str, Any]:
    """Return what a certificate says, without the signature."""
    return {
        "kind": KIND,
        "version": 1,
        "made_at": format_date_time(now_ms),
        "gateway_version": __version__,
        "policy_digest": digest,
        "subject": {"type": erasure.subject.type, "hashed": erasure.hashed.canonical},
        "request": dict(request),
        "state": state_of(steps),
        "steps": {name: step.plain() for name, step in steps.items()},
        "remains": list(_remains(erasure, steps)),
        "not_covered": list(NOT_COVERED),
    }


def _remains(erasure: Erasure, steps: Mapping[str, Step]) -> Iterator[dict[str, Any]]:
    """Yield what is still there after all steps, and until when."""
    at_ms = steps["denied"].evidence.get("at_ms")
    policy = erasure.policy
    sources = {
        stream.source.topic
        for stream in policy.streams.values()
        if any(each.type == erasure.subject.type for each in stream.subjects)
    }
    for topic in sorted(sources):
        yield {"what": "raw records, also those that come after the erasure"} | _kept(erasure, topic, at_ms)
    for each in erasure.addressees():
        open_epochs = erasure.keyset.epochs(each.domain)
        # The records of an epoch outlive its root.
        for epoch in range(FIRST_EPOCH, max(open_epochs) + 1):
            kept = _kept(erasure, epoch_topic(each.topic, epoch), at_ms)
            if epoch in open_epochs or "retention.ms" in kept:
                yield {"what": "sanitized records from before the erasure"} | kept
        if each.tokens:
            yield {"what": "the signal, with tokens of the person", "topic": each.signal_topic, "until": None}
    domains = dict.fromkeys(each.domain for each in erasure.addressees() if each.tokens)
    for domain in domains:
        for epoch in erasure.keyset.epochs(domain):
            yield {
                "what": "tokens that lead back to the person for whoever has the keys, if their entry is reversible",
                "key_domain": domain,
                "epoch": epoch,
                "until": "this epoch is destroyed",
            }
    for name in _unasked(policy):
        yield {"what": "processing that asks for no decision", "purpose": name, "until": None}


def _kept(erasure: Erasure, topic: str, at_ms: int | None) -> dict[str, Any]:
    """Return until when a topic keeps what it has at the time of the erasure, as its configuration says now."""
    settings = erasure.world.settings(topic)
    if settings is None:
        return {"topic": topic, "until": None, "why": "the topic does not exist"}
    cleanup, retention = settings.get("cleanup.policy", ""), settings.get("retention.ms", "")
    found = {"topic": topic, "cleanup.policy": cleanup, "retention.ms": retention}
    if "delete" not in cleanup or not retention.isdecimal() or at_ms is None:
        why = "not deleted by time" if "delete" not in cleanup or retention == "-1" else "not known"
        return found | {"until": None, "why": why}
    segment = settings.get("segment.ms", "0")
    until_ms = at_ms + int(retention) + (int(segment) if segment.isdecimal() else 0)
    return found | {
        "until": format_date_time(until_ms),
        "why": "retention.ms and segment.ms, by the records' own times",
    }


def _unasked(policy: Policy) -> list[str]:
    return [
        name
        for name, purpose in policy.purposes.items()
        if not _ASKS_NOBODY.isdisjoint({purpose.basis, *purpose.basis_by.values()})
    ]


def store(path: Path, document: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """Sign a certificate and put it in the place of the one before, durably; return it with its signature.

    Raises:
        RefusedError: It cannot be written.
    """
    certificate = signed(document, key)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, (json.dumps(certificate, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise RefusedError(f"{path}: the certificate cannot be written ({error.strerror})") from None
    return certificate


def earlier(path: Path, public_hex: str) -> dict[str, Any]:
    """Return what the last certificate says, nothing where there is none that this key has signed."""
    try:
        return opened(path.read_bytes(), public_hex, str(path))
    except (OSError, FileFormatError):
        return {}


def verify(path: Path, public_hex: str) -> dict[str, Any]:
    """Return what a certificate says.

    Raises:
        FileFormatError: It cannot be read, is no certificate, or another key has signed it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror}") from None
    found = opened(text, public_hex, str(path))
    if found.get("kind") != KIND:
        raise FileFormatError(f"{path} is signed, and no certificate of an erasure")
    return found
