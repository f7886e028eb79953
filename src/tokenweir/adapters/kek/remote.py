"""What all providers of a KEK in the network have in common: bounded calls, retries, and errors in our own words.

An answer that may become another is asked for again with a growing pause; all that ends in time. Nothing of a foreign
exception is ever told: its text may hold a request, and so a root.
"""

from __future__ import annotations

import secrets
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import ClassVar, Final, TypeVar

from tokenweir.adapters.kek.base import Kek, KekContext
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.errors import KekUnreachableError, KeysError, WrappedRootError

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 8.0
"""Limits that the vendors' clients are given."""

_CALL_SECONDS: Final = 12.0  # With the look-up of a name, of credentials, and an answer that drips byte by byte.
_PATIENCE_SECONDS: Final = 20.0  # After this nothing is asked again.
_ATTEMPTS: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.25

_Result = TypeVar("_Result")


class Refusal(Enum):
    """Why a provider did not do what it was asked, and what is to be done."""

    DENIED = "may not be used by the identity that tokenweir runs as; grant it the use of the key"
    GONE = "is disabled, to be deleted, destroyed, or not there; enable or restore it: no other key opens the keyset"
    UNFIT = "does not do what it is asked; see which kind of key the documentation asks for"
    WRONG = "does not open a root"
    THROTTLED = "is asked too often, says its provider; raise the quota, or try again later"
    UNIDENTIFIED = "cannot be asked: there are no valid credentials; see which ones the documentation names"
    UNREACHABLE = "cannot be asked: its provider does not answer usefully in time; look at its state and at the network"


#: What may be otherwise a moment later.
_PASSING: Final = frozenset({Refusal.THROTTLED, Refusal.UNREACHABLE})
#: What says nothing about whether the key may be used.
_SILENT: Final = _PASSING | {Refusal.UNIDENTIFIED}


class RemoteKek(Kek):
    """A KEK that its provider never hands out: roots are sent there to be wrapped and opened."""

    service: ClassVar[str]
    """What people call the provider."""

    def __init__(self, key: str) -> None:
        """Take the name of the key; nothing is contacted yet."""
        self._key = key

    @property
    def id(self) -> str:
        """The name of the key as the configuration has it."""
        return self._key

    @property
    def name(self) -> str:
        """The provider and the name."""
        return f"{self.service} key {self._key}"

    def wrap(self, root: bytes, context: KekContext) -> bytes:
        """Have a root sealed."""
        return self._ask(partial(self._wrap, root, context))

    def unwrap(self, wrapped: bytes, context: KekContext) -> TokenKey:
        """Have a root opened."""
        return TokenKey(self._ask(partial(self._unwrap, wrapped, context)))

    @abstractmethod
    def _wrap(self, root: bytes, context: KekContext) -> bytes:
        """Ask once; any exception will do."""

    @abstractmethod
    def _unwrap(self, wrapped: bytes, context: KekContext) -> bytes:
        """Ask once; any exception will do."""

    @abstractmethod
    def _refusal(self, error: Exception) -> Refusal:
        """Return what an exception of the client means, ``UNREACHABLE`` for one that is not known."""

    def _ask(self, call: Callable[[], _Result]) -> _Result:
        begun = time.monotonic()
        refusal = Refusal.UNREACHABLE
        for attempt in range(_ATTEMPTS):
            if attempt:
                # Half of the pause is random, so that workers that were refused together do not come back together.
                time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * (1 + secrets.SystemRandom().random()) / 2)
            try:
                return _bounded(call, _CALL_SECONDS)
            except (TimeoutError, WrappedRootError) as error:
                refusal = Refusal.UNREACHABLE if isinstance(error, TimeoutError) else Refusal.WRONG
            except Exception as error:  # noqa: BLE001 - a client may raise anything, and none of it may be told
                refusal = self._refusal(error)
            if refusal not in _PASSING or time.monotonic() - begun > _PATIENCE_SECONDS:
                break
        if refusal is Refusal.WRONG:
            raise WrappedRootError
        raise (KekUnreachableError if refusal in _SILENT else KeysError)(f"{self.name} {refusal.value}")


def bound(root: bytes, context: KekContext) -> bytes:
    """Return a root behind the digest of its context, for providers that authenticate no context of ours."""
    return context.digest() + root


def unbound(plain: bytes, context: KekContext) -> bytes:
    """Return the root behind the digest of its context.

    Raises:
        WrappedRootError: it was sealed for another context.
    """
    digest = context.digest()
    if not secrets.compare_digest(plain[: len(digest)], digest):
        raise WrappedRootError
    return plain[len(digest) :]


def not_installed(service: str, extra: str) -> KeysError:
    """Return the error for a provider whose client is not there."""
    return KeysError(f"the client of {service} is not installed; run: pip install 'tokenweir[{extra}]'")


def _bounded(call: Callable[[], _Result], seconds: float) -> _Result:
    """Return what a call returns, or raise what it raises; give it up after some seconds.

    The time-outs of clients are for one read from the socket, not for a whole exchange. A call that is given up goes on
    in its thread, which holds up neither this one nor the end of the process.

    Raises:
        TimeoutError: it took too long.
    """
    results: list[_Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="kek", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
