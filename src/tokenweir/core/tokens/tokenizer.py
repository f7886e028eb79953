"""A token format bound to its keys: values in, tokens out, many at once."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tokenweir.core.ff1 import FF1Permutation
from tokenweir.core.ipcrypt import AddressCipher, CryptoPan, Deterministic, Prefix
from tokenweir.core.tokens.addresses import AddressFormat, PreparedAddress
from tokenweir.core.tokens.base import (
    KEY_BYTES,
    DigestFormat,
    Prepared,
    PreparedRank,
    PreparedText,
    RankFormat,
    SealedFormat,
    TokenFormat,
    invalid,
)
from tokenweir.core.tokens.permutations import PermutationFormat
from tokenweir.core.tokens.secret import TokenKey, length_prefixed

TWEAK_KEY_BYTES: Final = 32
TWEAK_BYTES: Final = 8
"""Size of a tweak: public, and at most 11 bytes keep FF1 on 16 digits at one AES block per round."""

_CACHED_TWEAKS: Final = 16384


class Tweaks:
    """Tweaks of one token entry: HMAC-SHA-256 over LP(kept characters, salt of the subject), the first 8 bytes."""

    __slots__ = ("_cache", "_key")

    def __init__(self, key: TokenKey) -> None:
        self._key = key
        self._cache: dict[str, bytes] = {}

    def tweak(self, kept: str) -> bytes:
        """Return the tweak of values that keep these characters. No entry has a salt yet, so its part is empty."""
        tweak = self._cache.get(kept)
        if tweak is None:
            digest = hmac.digest(self._key.reveal(), length_prefixed(kept, b""), "sha256")
            if len(self._cache) >= _CACHED_TWEAKS:
                self._cache.clear()
            tweak = self._cache[kept] = digest[:TWEAK_BYTES]
        return tweak


class _Bound(Protocol):
    """A format with its keyed function."""

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        """Return the tokens."""

    def restore(self, token: str) -> str:
        """Return the value of a token."""


class _BoundRank:
    """FF1 on ranks, by cycle walking where the format ends before the power of its radix."""

    def __init__(self, token_format: RankFormat, key: TokenKey, tweaks: Tweaks) -> None:
        self._format = token_format
        self._permutation = FF1Permutation(key.reveal(), token_format.radix)
        self._tweaks = tweaks

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        values = [value for value in prepared if isinstance(value, PreparedRank)]
        render = self._format.render
        return [render(value, rank) for value, rank in zip(values, self._walk(values, decrypt=False), strict=True)]

    def restore(self, token: str) -> str:
        value = self._format.prepare_token(token)
        return self._format.restore(value, self._walk([value], decrypt=True)[0])

    def _walk(self, values: list[PreparedRank], *, decrypt: bool) -> list[int]:
        """Return the new ranks. Walking ends: the orbit of a valid rank leads back to it if to no other before."""
        tweak = self._tweaks.tweak
        batch = [(value.rank, value.length, tweak(value.kept)) for value in values]
        ranks = self._permutation.encrypt_batch(batch, decrypt=decrypt)
        outside = self._outside(values, ranks, range(len(ranks)))
        while outside:
            again = [(ranks[index], batch[index][1], batch[index][2]) for index in outside]
            for index, rank in zip(outside, self._permutation.encrypt_batch(again, decrypt=decrypt), strict=True):
                ranks[index] = rank
            outside = self._outside(values, ranks, outside)
        return ranks

    def _outside(self, values: list[PreparedRank], ranks: list[int], indexes: Iterable[int]) -> list[int]:
        """Return the indexes of the ranks that stand for no value."""
        limit = self._format.walk_below
        if limit is not None:
            return [index for index in indexes if ranks[index] >= limit]
        if not self._format.has_holes:
            return []
        is_hole = self._format.is_hole
        return [index for index in indexes if is_hole(values[index], ranks[index])]


class _BoundDigest:
    """HMAC-SHA-256 over LP(label, text, salt of the subject)."""

    def __init__(self, token_format: DigestFormat, key: TokenKey) -> None:
        self._format = token_format
        self._key = key

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        return [self._format.render(value, self._mac) for value in prepared if isinstance(value, PreparedText)]

    def restore(self, token: str) -> str:  # noqa: ARG002 - no token of this kind can be reversed
        raise TypeError("tokens of this format cannot be reversed")

    def _mac(self, label: str, text: str) -> bytes:
        return hmac.digest(self._key.reveal(), length_prefixed(label, text, b""), "sha256")


class _BoundSealed:
    """AES-256-SIV (RFC 5297) with the tweak as associated data."""

    def __init__(self, token_format: SealedFormat, key: TokenKey, tweaks: Tweaks) -> None:
        self._format = token_format
        self._cipher = AESSIV(key.reveal())
        self._associated = [tweaks.tweak("")]

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        texts = [value.text.encode() for value in prepared if isinstance(value, PreparedText)]
        return [self._format.render(self._cipher.encrypt(text, self._associated)) for text in texts]

    def restore(self, token: str) -> str:
        sealed = self._format.unseal(token)
        try:
            return self._cipher.decrypt(sealed, self._associated).decode()
        except InvalidTag:
            raise invalid("a token of this entry") from None


class _BoundAddress:
    """A cipher of IP addresses."""

    def __init__(self, token_format: AddressFormat, key: TokenKey) -> None:
        self._format = token_format
        ciphers: dict[str, Callable[[bytes], AddressCipher]] = {
            "ipcrypt-deterministic": Deterministic,
            "ipcrypt-pfx": Prefix,
            "crypto-pan": CryptoPan,
        }
        self._cipher = ciphers[token_format.algorithm](key.reveal())

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        encrypt, render = self._cipher.encrypt, self._format.render
        return [render(encrypt(value.packed)) for value in prepared if isinstance(value, PreparedAddress)]

    def restore(self, token: str) -> str:
        return self._format.restore(self._cipher.decrypt(self._format.prepare_token(token).packed))


class _BoundPermutation:
    """A table of all values and their tokens."""

    def __init__(self, token_format: PermutationFormat, key: TokenKey) -> None:
        secret = key.reveal()
        self._tokens = token_format.table(
            lambda label, text: hmac.digest(secret, length_prefixed(label, text, b""), "sha256")
        )
        self._values = {token: value for value, token in self._tokens.items()}

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        return [self._tokens[value.text] for value in prepared if isinstance(value, PreparedText)]

    def restore(self, token: str) -> str:
        value = self._values.get(token)
        if value is None:
            raise invalid("a token of this entry")
        return value


class Tokenizer:
    """Makes (and, where the format allows, reverses) the tokens of one token entry in one key domain and epoch.

    Equal values have equal tokens, different values different ones (irreversible tokens up to a collision of 128 bits
    or more, UUIDs with a chosen version of 122); only those of ``name`` collide. Tokens have no integrity, except
    reversible opaque ones: under a wrong key they reverse to nonsense.
    """

    def __init__(self, token_format: TokenFormat, key: TokenKey, tweak_key: TokenKey) -> None:
        """Bind a format.

        Raises:
            ValueError: a key has a size that the algorithm does not take.
        """
        if len(key) != KEY_BYTES[token_format.algorithm] or len(tweak_key) != TWEAK_KEY_BYTES:
            raise ValueError(f"a key of the wrong size for {token_format.algorithm}")
        self.format = token_format
        self._bound = _bind(token_format, key, Tweaks(tweak_key))

    def __repr__(self) -> str:
        return f"<Tokenizer {self.format.algorithm}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a tokenizer holds keys and is neither pickled nor copied")

    def prepare(self, text: str) -> Prepared:
        """Read a value, without any cryptography.

        Raises:
            InvalidValueError: it does not fit the format; the message has nothing of it.
        """
        return self.format.prepare(text)

    def finish(self, prepared: Sequence[Prepared]) -> list[str]:
        """Return the tokens of prepared values, in order. One call for many values is the fast way."""
        tokens = self._bound.finish(prepared) if prepared else []
        if len(tokens) != len(prepared):
            raise TypeError("values that another format prepared")
        return tokens

    def tokenize(self, text: str) -> str:
        """Return the token of one value.

        Raises:
            InvalidValueError: it does not fit the format.
        """
        return self.finish([self.prepare(text)])[0]

    def tokenize_many(self, texts: Sequence[str]) -> list[str]:
        """Return the tokens of all values, in order.

        Raises:
            InvalidValueError: one of them does not fit the format; then nothing is returned.
        """
        return self.finish([self.prepare(text) for text in texts])

    def detokenize(self, token: str) -> str:
        """Return the value in the canonical form of its format.

        Raises:
            InvalidValueError: this cannot be a token of the entry.
            TypeError: the format is irreversible.
        """
        if not self.format.reversible:
            raise TypeError("tokens of this format cannot be reversed")
        return self._bound.restore(token)


def _bind(token_format: TokenFormat, key: TokenKey, tweaks: Tweaks) -> _Bound:
    """Return the format with its keyed function."""
    if isinstance(token_format, RankFormat):
        return _BoundRank(token_format, key, tweaks)
    if isinstance(token_format, DigestFormat):
        return _BoundDigest(token_format, key)
    if isinstance(token_format, SealedFormat):
        return _BoundSealed(token_format, key, tweaks)
    if isinstance(token_format, AddressFormat):
        return _BoundAddress(token_format, key)
    if isinstance(token_format, PermutationFormat):
        return _BoundPermutation(token_format, key)
    raise TypeError(f"no keyed function for {type(token_format).__name__}")
