"""Detokenization as one service for the command line and the HTTP API: decide, record, and only then reverse."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from tokenweir.adapters.auditlog import Decide
from tokenweir.app.grantsfile import GrantsFile
from tokenweir.core.detokenize.chain import Body
from tokenweir.core.detokenize.decide import (
    MOST_TOKENS,
    Asked,
    Cause,
    Decision,
    Identity,
    accept_body,
    decide,
    decide_case,
    open_cases,
)
from tokenweir.core.detokenize.grants import LoadedGrants
from tokenweir.core.detokenize.ledger import Case, Ledger
from tokenweir.core.keys import Keyset, length_prefixed
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.tokens.formats import build
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.core.tokens.tokenizer import Tokenizer
from tokenweir.errors import InvalidValueError, KeysError

MARK_BYTES: Final = 16
LONGEST_TOKEN: Final = 4096

Result = TypeVar("Result")


class Transactor(Protocol):
    """An audit log, with or without a time limit."""

    def transact(self, decide: Decide[Result]) -> Result:
        """See :meth:`tokenweir.adapters.auditlog.AuditLog.transact`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where tokens come from. ``epoch`` None means the active one."""

    entry: str
    domain: str
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        id: Stands in the audit record too.
        values: One for each token; None where it cannot be a token of the entry. Empty unless granted.
        cause: Why it was refused, or None.
        case: The case that waits for a second person.
        statement: The statement that must be accepted.
        epoch: The epoch that the tokens were reversed in.
    """

    id: str
    values: tuple[str | None, ...] = field(default=(), repr=False)
    cause: Cause | None = None
    case: str = ""
    statement: str = ""
    epoch: int = 0


def mark(key: TokenKey, place: Place, token: str) -> str:
    """Return what stands for a token in the audit log: an HMAC-SHA-256 over LP(entry, key domain, epoch, token).

    128 bits in hexadecimal. Without the key nobody can try out tokens, however few there are.
    """
    parts = length_prefixed(place.entry, place.domain, str(place.epoch or 0), token)
    return hmac.digest(key.reveal(), parts, "sha256")[:MARK_BYTES].hex()


class Detokenizer:
    """Answers requests of one policy and keyset.

    Args:
        policy: The policy whose token entries are meant.
        grants: The grants in force.
        keyset: The open keyset.
        audit: The audit log.
        destroyed: Says which roots, by key domain and epoch, were destroyed since the keyset was opened. It is asked
            for each request, and may raise KeysError; then nothing is reversed.
        most_tokens: Tokens that one request may have.
        random_id: Makes ids that nobody can guess.
    """

    def __init__(  # noqa: PLR0913 - what a service is made of.
        self,
        policy: LoadedPolicy,
        grants: GrantsFile,
        keyset: Keyset,
        audit: Transactor,
        *,
        destroyed: Callable[[], Collection[tuple[str, int]]],
        most_tokens: int = 100,
        random_id: Callable[[], str] = lambda: secrets.token_hex(12),
    ) -> None:
        self._policy = policy
        self._grants = grants
        self._keyset = keyset
        self._audit = audit
        self._mark_key = keyset.audit_mark_key()
        self._destroyed = destroyed
        self._most_tokens = min(most_tokens, MOST_TOKENS)
        self._random_id = random_id

    def detokenize(  # noqa: PLR0913 - what the audit record needs.
        self, identity: Identity, place: Place, tokens: Sequence[str], *, reason: str, ticket: str, channel: str
    ) -> Outcome:
        """Reverse tokens, if that is granted, after the record of it is durable.

        Raises:
            AuditError: the record is not durable; nothing is answered.
            FindingsError: the grants file is not sound.
            FileFormatError: the grants file cannot be read.
        """
        grants = self._grants.current()
        tokenizer, epoch = self._tokenizer(place)
        asked = self._asked(identity, place, tokens, epoch, tokenizer, reason=reason, ticket=ticket, channel=channel)

        def under_lock(ledger: Ledger, now_ms: int) -> tuple[Sequence[Body], Decision]:
            decision = decide(asked, grants, ledger, now_ms, self._most_tokens)
            return [decision.body], decision

        decision = self._audit.transact(under_lock)
        if not decision.granted or tokenizer is None:
            return Outcome(asked.id, cause=decision.cause, case=decision.case, statement=decision.statement)
        return Outcome(asked.id, tuple(_reverse(tokenizer, token) for token in tokens), epoch=epoch)

    def epochs(self, domain: str) -> tuple[int, ...]:
        """Return the epochs of a key domain that have a root; where there are several, a request must name one."""
        try:
            gone = self._destroyed()
            return tuple(epoch for epoch in self._keyset.epochs(domain) if (domain, epoch) not in gone)
        except KeysError:
            return ()

    def accept(self, identity: Identity, statement: str, digest: str) -> bool:
        """Record that a principal accepts a statement's current text; say whether it may.

        Raises:
            AuditError, FindingsError, FileFormatError: as :meth:`detokenize`.
        """
        body = accept_body(identity, statement, digest, self._grants.current(), self._random_id())
        if body is None:
            return False
        return self._audit.transact(lambda _ledger, _now_ms: ([body], True))

    def cases(self, identity: Identity) -> list[Case]:
        """Return the cases that a principal may decide about.

        Raises:
            AuditError, FindingsError, FileFormatError: as :meth:`detokenize`.
        """
        grants = self._grants.current()
        found = self._audit.transact(lambda ledger, now_ms: ((), open_cases(identity, grants, ledger, now_ms)))
        return list(found.values())

    def decide_case(self, identity: Identity, case: str, *, approve: bool) -> bool:
        """Approve or reject a case; say whether the principal may.

        Raises:
            AuditError, FindingsError, FileFormatError: as :meth:`detokenize`.
        """
        grants = self._grants.current()

        def under_lock(ledger: Ledger, now_ms: int) -> tuple[Sequence[Body], bool]:
            id_ = self._random_id()
            body = decide_case(identity, case, grants, ledger, now_ms, approve=approve, id_=id_)
            return [] if body is None else [body], body is not None

        return self._audit.transact(under_lock)

    def statement(self, identity: Identity, name: str) -> tuple[str, str] | None:
        """Return text and digest of a statement for a known principal, else None.

        Raises:
            FindingsError, FileFormatError: as :meth:`detokenize`.
        """
        grants = self._grants.current()
        if grants.principal_of(identity.kind, identity.name) is None or name not in grants.grants.statements:
            return None
        return grants.grants.statements[name].text, grants.statement_digest(name)

    def grants(self) -> LoadedGrants:
        """Return the grants in force.

        Raises:
            FindingsError, FileFormatError: as :meth:`detokenize`.
        """
        return self._grants.current()

    def _asked(  # noqa: PLR0913 - the parts of a request.
        self,
        identity: Identity,
        place: Place,
        tokens: Sequence[str],
        epoch: int,
        tokenizer: Tokenizer | None,
        *,
        reason: str,
        ticket: str,
        channel: str,
    ) -> Asked:
        spec = self._policy.policy.tokens.get(place.entry)
        exact = Place(place.entry, place.domain, epoch)
        fitting = [token for token in tokens if 0 < len(token) <= LONGEST_TOKEN and is_text(token)]
        if not is_text(place.entry + place.domain):
            fitting = []  # There is no such place, and no mark of it.
        marks = [mark(self._mark_key, exact, token) for token in fitting[: MOST_TOKENS + 1]]
        return Asked(
            id=self._random_id(),
            identity=identity,
            entry=place.entry,
            domain=place.domain,
            epoch=epoch,
            # A token that cannot be one makes the whole request one without tokens, which is refused.
            marks=tuple(marks) if len(fitting) == len(tokens) else (),
            reason=reason,
            ticket=ticket,
            channel=channel,
            key_usable=tokenizer is not None,
            irreversible=spec is not None and not build(spec).reversible,
        )

    def _tokenizer(self, place: Place) -> tuple[Tokenizer | None, int]:
        """Return the tokenizer of a place and its epoch, or None where there is no entry, epoch, key or way back."""
        spec = self._policy.policy.tokens.get(place.entry)
        if place.epoch is None and len(self.epochs(place.domain)) > 1:
            return None, 0  # A token of one epoch is a plausible value's token in another.
        try:
            epoch = self._keyset.epoch(place.domain) if place.epoch is None else place.epoch
            if spec is None or not build(spec).reversible or (place.domain, epoch) in self._destroyed():
                return None, epoch
            return self._keyset.tokenizer(place.domain, place.entry, spec, epoch), epoch
        except KeysError:
            return None, place.epoch or 0


def is_text(text: str) -> bool:
    """Whether a text can be written as UTF-8; arguments of a command line may have bytes that are none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _reverse(tokenizer: Tokenizer, token: str) -> str | None:
    """Return the value, None where the text cannot be a token of the entry."""
    try:
        return tokenizer.detokenize(token)
    except InvalidValueError:
        return None
