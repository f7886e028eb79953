"""Format-preserving encryption with FF1 (NIST SP 800-38G), the public interface for Python programs.

>>> from tokenweir.ff1 import FF1
>>> cards = FF1.over(bytes(range(32)), "0123456789")
>>> cards.encrypt_text("4111111111111111", bytes.fromhex("0011223344556677"))
'7077618758372845'

Everything that is refused raises a subclass of :class:`ValueError` whose text has no value, tweak or key in it. Domains
below 1,000,000 values are refused; ``strict=False`` lowers that floor to the 100 of the text of 2016 and lifts nothing
else. It is there for test vectors.

Where the native module was built, its classes stand here; they give the same results and the same errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenweir.core.alphabets import AlphabetError
from tokenweir.core.ff1 import DomainError, FF1Error, KeySizeError, NumeralError, RadixError, TweakError

if TYPE_CHECKING:
    from tokenweir.core.ff1text import FF1, TextFF1
else:
    try:
        from tokenweir._native import FF1, TextFF1
    except ModuleNotFoundError:
        from tokenweir.core.ff1text import FF1, TextFF1

__all__ = [
    "FF1",
    "AlphabetError",
    "DomainError",
    "FF1Error",
    "KeySizeError",
    "NumeralError",
    "RadixError",
    "TextFF1",
    "TweakError",
]
