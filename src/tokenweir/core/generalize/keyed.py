"""What differs from person to person: values of a keyed function of whom a record is about.

Two treatments need it: dates that move by a secret number of days, and noise on positions. Each has a key of its own
for each key domain, epoch and set of parameters (:meth:`tokenweir.core.keys.Keyset.generalize_key`), so that its values
repeat for one person, say nothing about another one, and differ between audiences that must not compare notes.
"""

from __future__ import annotations

import hmac
from typing import Final

from tokenweir.core.generalize.specs import KeyedSpec, ShiftSpec
from tokenweir.core.subjects import Subject
from tokenweir.core.tokens.secret import TokenKey, length_prefixed
from tokenweir.errors import InvalidValueError

KEY_BYTES: Final = 32
"""Size of a key: that of the output of SHA-256."""


class Prf:
    """HMAC-SHA-256 under one key (RFC 2104), a pseudorandom function of what it is asked about."""

    __slots__ = ("_key",)

    def __init__(self, key: TokenKey) -> None:
        self._key = key

    def of(self, *parts: str) -> bytes:
        """Return the 32 bytes for a list of texts; no other list gives the same message."""
        return hmac.digest(self._key.reveal(), length_prefixed(*parts), "sha256")


class Person:
    """Whom the record is about that is transformed just now: its primary subject, or None for nobody."""

    __slots__ = ("subject",)

    def __init__(self) -> None:
        self.subject: Subject | None = None

    def named(self) -> Subject:
        """Return the subject.

        Raises:
            InvalidValueError: if there is none. Plans withhold such values before; this is the second lock.
        """
        if self.subject is None:
            raise InvalidValueError("expected a record about a person")
        return self.subject


def key_label(spec: KeyedSpec) -> tuple[str, str]:
    """Return name and parameters of a treatment, as its key depends on them: another parameter is another key."""
    if isinstance(spec, ShiftSpec):
        return "shift_days", str(spec.shift_days)
    return f"noise {spec.noise}", str(spec.metres)


def personal_days(digest: bytes, largest: int) -> int:
    """Return one of the whole numbers from ``-largest`` to ``largest`` without 0, all of them equally likely.

    All 256 bits of a MAC are reduced at once, which leaves a bias below 2^-239 (FIPS 186-5, appendix A.4.1, asks for 64
    bits more than the range has). Zero is left out for the same reason for which a text that is not longer than its
    prefix is invalid: a protected value never leaves as it is.
    """
    rank = int.from_bytes(digest, "big") % (2 * largest)
    return rank - largest if rank < largest else rank - largest + 1
