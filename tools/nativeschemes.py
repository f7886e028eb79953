"""The frozen tables of token formats, written as Rust, so that both engines read the same."""
# ruff: noqa: INP001 - a part of scripts, in no package.

from __future__ import annotations

from collections.abc import Iterable

from tokenweir.core.ff1 import MINIMUM_DOMAIN
from tokenweir.core.tokens.ibandata import IBANS
from tokenweir.core.tokens.namelists import FAMILY, GIVEN, HOUSES, STREETS
from tokenweir.core.tokens.nationaldata import NATIONAL, SSN
from tokenweir.core.tokens.scheme import VALUES, Check, Computed, Free, Part, Ranges, Scheme, Words
from tokenweir.core.tokens.structured import Layout

_HEAD = """//! The schemes of `core/tokens/ibandata.py` and `core/tokens/nationaldata.py`.
//!
//! Made by tools/generate.py from the code of the reference engine; changes here are lost.
#![forbid(unsafe_code)]
#![cfg_attr(rustfmt, rustfmt::skip)]
#![allow(clippy::unreadable_literal, clippy::zero_prefixed_literal, reason = "made by a script, for no reader")]

use super::scheme::{Calendar, Check, Class, Part, Scheme};
"""

_NAMES_HEAD = """//! The lists of `core/tokens/namelists.py`.
//!
//! Made by tools/generate.py from the code of the reference engine; changes here are lost.
#![forbid(unsafe_code)]
#![cfg_attr(rustfmt, rustfmt::skip)]
"""


def schemes() -> str:
    """Return the source of ``schemes.rs``."""
    tables = list(VALUES)
    lines = [_HEAD, "/// What each of the 36 characters counts, by the number of the table."]
    rows = "".join(f"    [{_list(map(str, values))}],\n" for values in VALUES.values())
    lines.append(f"pub(super) const VALUES: [[i64; 36]; {len(tables)}] = [\n{rows}];\n")
    for name, note, chosen in (
        ("IBANS", "The layouts of BBANs, by country.", IBANS.values()),
        ("NATIONAL", "National numbers, by country and kind.", [SSN, *NATIONAL.values()]),
    ):
        body = "".join(_scheme(scheme, tables) for scheme in chosen)
        lines.append(f"/// {note}\npub(super) static {name}: &[Scheme] = &[\n{body}];\n")
    return "\n".join(lines)


def namelists() -> str:
    """Return the source of ``namelists.rs``."""
    parts = [_NAMES_HEAD, f"/// Largest house number of a street line.\npub(super) const HOUSES: u64 = {HOUSES};\n"]
    for name, note, texts in (
        ("GIVEN", "Given names.", GIVEN),
        ("FAMILY", "Family names.", FAMILY),
        ("STREETS", "Streets.", STREETS),
    ):
        parts.append(f"/// {note}\npub(super) static {name}: &[&str] = &[{_texts(texts)}];\n")
    return "\n".join(parts)


def _scheme(scheme: Scheme, tables: list[str]) -> str:
    keeps = ((), (scheme.bank,), (scheme.bank, scheme.branch))
    enough = [str(Layout(scheme, *kept).valid >= MINIMUM_DOMAIN).lower() for kept in keeps]
    calendar = {None: "None", "pesel": "Some(Calendar::Pesel)", "codice_fiscale": "Some(Calendar::CodiceFiscale)"}
    return (
        f'    Scheme {{\n        name: "{scheme.name}",\n'
        f"        parts: &[{_list(map(_part, scheme.parts))}],\n"
        f"        checks: &[{_list(_check(check, tables) for check in scheme.checks)}],\n"
        f"        bank: {scheme.bank},\n        branch: {scheme.branch},\n"
        f"        calendar: {calendar[scheme.calendar]},\n        enough: [{_list(enough)}],\n    }},\n"
    )


def _part(part: Part) -> str:
    match part:
        case Free():
            kind = {"n": "Digit", "a": "Letter", "c": "Both"}[part.characters]
            return f"Part::Free(Class::{kind}, {part.width})"
        case Ranges():
            return f"Part::Ranges({part.width}, &[{_list(map(str, part.ranges))}])"
        case Words():
            return f"Part::Words(&[{_texts(part.words)}])"
        case Computed():
            return f"Part::Computed({part.width})"


def _check(check: Check, tables: list[str]) -> str:
    terms = _list(f"({place}, {weight}, {tables.index(table)})" for place, weight, table in check.terms)
    return (
        f"Check {{ at: {check.at}, terms: &[{terms}], modulus: {check.modulus}, answers: &[{_texts(check.answers)}] }}"
    )


def _texts(texts: Iterable[str]) -> str:
    return _list(f'"{text}"' for text in texts)


def _list(texts: Iterable[str]) -> str:
    return ", ".join(texts)
