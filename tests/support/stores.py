"""Consent stores of both bindings of LMDB. A store's directory tells its engine, also to a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.native import native_module

from tokenweir.adapters.consentbinding import store_directory
from tokenweir.adapters.consentreader import ConsentSnapshot
from tokenweir.core.consent import SubjectConsent
from tokenweir.core.subjects import Subject

ENGINES: Final = ("reference", "native")

#: What the native engine is told of a subject.
Row = tuple[list[list[tuple[str, bool, int, int | None]]], bool, bool, list[str], list[str]]


def store_of(state_directory: Path, engine: str) -> Path:
    """Return where an engine's store lies; skip where there is no native module."""
    if engine == "native":
        native_module()
    return store_directory(state_directory, engine)


def engine_of(directory: Path) -> str:
    """Return whose store lies there."""
    (engine,) = [engine for engine in ENGINES if store_directory(directory.parent, engine) == directory]
    return engine


def row(consent: SubjectConsent) -> Row:
    """Return what the native engine is to be told of a subject's consent; denials of recipients have no order."""
    states = [
        sorted((name, found.decision == "deny", found.decided_at_ms, found.expires_at_ms) for name, found in decisions)
        for decisions in (state.decisions.items() for state in consent.states.values())
    ]
    return states, consent.undecodable, consent.minor, [*consent.jurisdictions], sorted(consent.recipient_denials)


def native_rows(snapshot: ConsentSnapshot, subjects: Sequence[Subject]) -> list[Row]:
    """Return what the native engine finds of subjects, in the steps in which it does so; see there for what it raises.

    A process that dies of it leaves the sign of a reader that died inside of LMDB.
    """
    assert snapshot.lookups is not None
    snapshot.enter()
    try:
        rows = snapshot.lookups.look_up_rows(subjects)
    finally:
        snapshot.leave()
    return [(states, undecodable, minor, places, sorted(away)) for states, undecodable, minor, places, away in rows]
