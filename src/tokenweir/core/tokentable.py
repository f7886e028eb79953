"""The tokens of one entry, made for a whole batch at once and remembered within a bound."""

from __future__ import annotations

from tokenweir.core.tokens import Prepared, Tokenizer
from tokenweir.errors import InvalidValueError


class TokenNotMadeError(Exception):
    """A text has no token although one was asked for. It does not say which text."""


class _Tokens(dict[str, str | None]):
    """Tokens by text; what is missing is an error without the text."""

    __slots__ = ()

    def __missing__(self, text: str) -> str | None:
        raise TokenNotMadeError


class TokenTable:
    """The tokens of one entry in one key domain and epoch, made in batches and remembered within a bound.

    ``tokens`` maps a text to its token, or to None where the text does not fit the format.
    """

    __slots__ = ("_characters", "_limit", "_limit_characters", "_pending", "_tokenizer", "tokens")

    def __init__(self, tokenizer: Tokenizer, limit: int = 65_536, limit_characters: int = 16 * 1024 * 1024) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        # Texts of some formats may be as long as a record.
        self._limit_characters = limit_characters
        self._characters = 0
        self._pending: dict[str, Prepared] = {}
        self.tokens: dict[str, str | None] = _Tokens()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer behind the table."""
        return self._tokenizer

    def want(self, text: str) -> None:
        """Ask for the token of a text; it is there after :meth:`resolve`."""
        if text in self.tokens or text in self._pending:
            return
        self._characters += len(text)
        try:
            self._pending[text] = self._tokenizer.prepare(text)
        except InvalidValueError:
            self.tokens[text] = None

    def resolve(self) -> None:
        """Make all tokens that were asked for, together.

        A text whose token cannot be made has no entry afterwards, so that only the records that need it fail.
        """
        pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            self.tokens.update(zip(pending, self._tokenizer.finish(list(pending.values())), strict=True))
        except Exception:  # noqa: BLE001 - one text must not take the tokens of a whole batch with it
            for text, prepared in pending.items():
                self._make(text, prepared)

    def _make(self, text: str, prepared: Prepared) -> None:
        try:
            self.tokens[text] = self._tokenizer.finish([prepared])[0]
        except Exception:  # noqa: BLE001 - see resolve; the exception may hold the text and goes nowhere
            self.tokens.pop(text, None)

    def trim(self) -> None:
        """Forget everything once the table has outgrown its bound; called between batches."""
        if len(self.tokens) > self._limit or self._characters > self._limit_characters:
            self.tokens.clear()
            self._characters = 0
