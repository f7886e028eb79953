"""FF1 on numerals and on texts in pure Python: what the public interface means, and its form without native code."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NoReturn, final

from tokenweir.core.alphabets import Alphabet, AlphabetError, numerals_to_rank, rank_to_numerals
from tokenweir.core.ff1 import (
    LENIENT_DOMAIN,
    MINIMUM_DOMAIN,
    FF1Permutation,
    NumeralError,
    TweakError,
)


def _tweak_bytes(tweak: bytes) -> bytes:
    """Return the tweak as bytes.

    Raises:
        TweakError: it is something else; ``bytes(8)`` from a stray number would be a tweak of zeros.
    """
    if not isinstance(tweak, bytes | bytearray | memoryview):
        raise TweakError("a tweak is a string of bytes")
    return bytes(tweak)


@final
class FF1:
    """FF1 on sequences of numerals under one key and one radix."""

    __slots__ = ("_permutation",)

    def __init__(self, key: bytes, radix: int, *, strict: bool = True) -> None:
        """Bind key and radix.

        Args:
            key: an AES key of 16, 24 or 32 bytes.
            radix: 2 to 65536.
            strict: whether the floor of 1,000,000 values holds.

        Raises:
            KeySizeError, RadixError: the key or the radix is refused.
        """
        floor = MINIMUM_DOMAIN if strict else LENIENT_DOMAIN
        self._permutation = FF1Permutation(key, radix, minimum_domain=floor)

    def __repr__(self) -> str:
        return f"<FF1 radix={self._permutation.radix}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an FF1 key is neither pickled nor copied")

    @classmethod
    def over(cls, key: bytes, alphabet: str, *, strict: bool = True) -> TextFF1:
        """Return FF1 on texts of this alphabet; the place of a character is its numeral.

        Raises:
            AlphabetError: the alphabet has fewer than 2 or more than 65536 characters, one twice, or a surrogate,
                combining mark or unnormalized character.
            KeySizeError: the key is refused.
        """
        checked = Alphabet(alphabet)
        floor = MINIMUM_DOMAIN if strict else LENIENT_DOMAIN
        return TextFF1(FF1Permutation(key, checked.radix, minimum_domain=floor), checked)

    def encrypt(self, numerals: Sequence[int], tweak: bytes) -> list[int]:
        """Return the ciphertext, as many numerals as were given.

        Raises:
            NumeralError, DomainError, TweakError: the input is refused.
        """
        return self._permute(numerals, tweak, decrypt=False)

    def decrypt(self, numerals: Sequence[int], tweak: bytes) -> list[int]:
        """Return the plaintext. A wrong key or tweak gives another plausible value, never an error.

        Raises:
            NumeralError, DomainError, TweakError: the input is refused.
        """
        return self._permute(numerals, tweak, decrypt=True)

    def _permute(self, numerals: Sequence[int], tweak: bytes, *, decrypt: bool) -> list[int]:
        radix, length = self._permutation.radix, len(numerals)
        self._permutation.require_domain(length)
        try:
            checked = [operator.index(numeral) for numeral in numerals]
        except TypeError:
            raise NumeralError("a numeral is an integer") from None
        if min(checked) < 0 or max(checked) >= radix:
            raise NumeralError(f"a numeral of radix {radix} is an integer from 0 to {radix - 1}")
        rank = numerals_to_rank(checked, radix)
        permuted = self._permutation.encrypt_ranks([rank], length, _tweak_bytes(tweak), decrypt=decrypt)
        return rank_to_numerals(permuted[0], radix, length)


@final
class TextFF1:
    """FF1 on texts of one alphabet; made by :meth:`FF1.over`."""

    __slots__ = ("_alphabet", "_permutation")

    def __init__(self, permutation: FF1Permutation, alphabet: Alphabet) -> None:
        self._permutation = permutation
        self._alphabet = alphabet

    def __repr__(self) -> str:
        return f"<TextFF1 radix={self._permutation.radix}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an FF1 key is neither pickled nor copied")

    def encrypt_text(self, text: str, tweak: bytes) -> str:
        """Return the ciphertext, as long as the text and in the same alphabet.

        Raises:
            AlphabetError, DomainError, TweakError: a foreign character, too short a text, or a tweak that is none.
        """
        return self._permute([text], tweak, decrypt=False)[0]

    def decrypt_text(self, text: str, tweak: bytes) -> str:
        """Return the plaintext. A wrong key or tweak gives another plausible text, never an error.

        Raises:
            AlphabetError, DomainError, TweakError: as for :meth:`encrypt_text`.
        """
        return self._permute([text], tweak, decrypt=True)[0]

    def encrypt_many(self, texts: Sequence[str], tweak: bytes) -> list[str]:
        """Return the ciphertexts of all texts, in order; much faster than one call per text.

        Raises:
            AlphabetError, DomainError, TweakError: one text is refused; the message names its index. Nothing is
                returned then.
        """
        return self._permute(texts, tweak, decrypt=False)

    def decrypt_many(self, texts: Sequence[str], tweak: bytes) -> list[str]:
        """Return the plaintexts of all texts, in order.

        Raises:
            AlphabetError, DomainError, TweakError: as for :meth:`encrypt_many`.
        """
        return self._permute(texts, tweak, decrypt=True)

    def _permute(self, texts: Sequence[str], tweak: bytes, *, decrypt: bool) -> list[str]:
        self._require_covered(texts)
        tweak = _tweak_bytes(tweak)
        lengths = list(map(len, texts))
        if len(texts) == 1 or lengths.count(lengths[0] if lengths else 0) == len(lengths):
            return self._permute_equal(list(texts), tweak, decrypt=decrypt)
        by_length: dict[int, list[int]] = {}
        for index, length in enumerate(lengths):
            by_length.setdefault(length, []).append(index)
        results = [""] * len(texts)
        for indexes in by_length.values():
            group = self._permute_equal([texts[index] for index in indexes], tweak, decrypt=decrypt)
            for index, result in zip(indexes, group, strict=True):
                results[index] = result
        return results

    def _permute_equal(self, texts: list[str], tweak: bytes, *, decrypt: bool) -> list[str]:
        """Handle texts of one length, already known to be in the alphabet."""
        if not texts:
            return []
        length = len(texts[0])
        self._permutation.require_domain(length)
        ranks = self._permutation.encrypt_ranks(self._alphabet.ranks(texts), length, tweak, decrypt=decrypt)
        return self._alphabet.texts(ranks, length)

    def _require_covered(self, texts: Sequence[str]) -> None:
        """Refuse what is not a list of texts in the alphabet."""
        if isinstance(texts, str):
            raise AlphabetError("encrypt_many and decrypt_many take a list of texts, not one text")
        try:
            foreign = self._alphabet.first_foreign(texts)
        except TypeError:
            raise AlphabetError("a value that is not a text") from None
        if foreign is not None:
            raise AlphabetError(f"text {foreign} has a character outside the alphabet")
