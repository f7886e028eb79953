"""The decision about one request: granted, refused with a cause, or waiting for a second person. Pure rules.

Nobody learns more than their grants allow: who has no grant for a token entry gets the same answer whether the entry
exists, whether the principal is known, and whatever the budgets say. Only :attr:`Cause.said` causes may be told.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tokenweir.core.detokenize.chain import Kind
from tokenweir.core.detokenize.grants import IdentityKind, LoadedGrants
from tokenweir.core.detokenize.ledger import Case, Ledger
from tokenweir.core.detokenize.models import WINDOW_MS, Grant

DAY_MS: Final = 86_400_000
MOST_TOKENS: Final = 1000
"""No configuration allows more tokens in one request."""

MOST_CASES: Final = 20
"""Requests of one principal that may wait for a second person at once."""

_WORDS: Final = re.compile(r"[^\W_].{1,199}", re.DOTALL)
_TICKET: Final = re.compile(r"[!-~]{2,100}")
#: What looks like a number of a person, in the digits of any script and however it is grouped, or like an e-mail
#: address. A letter ends a number.
_PERSONAL: Final = re.compile(r"@|\d(?:[\W_]{0,3}\d){5}")
#: Tickets have numbers of their own; those of cards, phones and most countries' people have nine digits or more.
_PERSONAL_TICKET: Final = re.compile(r"\d(?:[\W_]{0,3}\d){8}")


class Cause(StrEnum):
    """Why a request is not answered; the word in the audit log and in the metric."""

    REASON = "reason"
    TICKET = "ticket"
    TOKENS = "tokens"
    PRINCIPAL = "principal"
    NOT_GRANTED = "not_granted"
    IRREVERSIBLE = "irreversible"
    KEY = "key"
    STATEMENT = "statement"
    APPROVAL = "approval"
    BUDGET = "budget"

    @property
    def said(self) -> bool:
        """Whether the caller of the HTTP API is told: the form of its own words, and what it must do next."""
        return self in (Cause.REASON, Cause.TICKET, Cause.TOKENS, Cause.STATEMENT, Cause.APPROVAL)


#: What each cause means, for people who may know it.
CAUSES: Final[dict[Cause, str]] = {
    Cause.REASON: "the reason is missing, is none of those that the grants file lists, or holds what looks like a "
    "person's number or address",
    Cause.TICKET: "the ticket is missing, does not have the form that the grants file wants, or, where it wants none, "
    "holds what looks like a person's number or address",
    Cause.TOKENS: "no token, too many, or one that is too long or no text",
    Cause.PRINCIPAL: "the grants file knows no such principal",
    Cause.NOT_GRANTED: "no grant in force covers every class of this token entry in this key domain",
    Cause.IRREVERSIBLE: "tokens of this entry cannot be reversed, by nobody",
    Cause.KEY: "the keyset has no usable root for this key domain and epoch",
    Cause.STATEMENT: "the statement of the grant is not accepted yet, or its text has changed since",
    Cause.APPROVAL: "a second person must approve this request",
    Cause.BUDGET: "a budget has no room for it",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """How a caller was recognised."""

    kind: IdentityKind
    name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, without its tokens: their marks stand for them.

    Attributes:
        id: Random; the answer and the record have it.
        identity: Who asks.
        entry: Token entry, as the caller names it.
        domain: Key domain, as the caller names it.
        epoch: The epoch that is meant, 0 where there is none.
        marks: A keyed HMAC of each token with entry, domain and epoch.
        reason: Why.
        ticket: For which case.
        channel: ``cli`` or ``api``.
        key_usable: Whether there is a key for it.
        irreversible: Whether the policy has the entry and its format cannot be reversed.
    """

    id: str
    identity: Identity
    entry: str
    domain: str
    epoch: int
    marks: tuple[str, ...] = field(repr=False)
    reason: str
    ticket: str
    channel: str
    key_usable: bool = True
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a request, and the record that must be durable before anybody is told.

    ``case`` is the id of the case that waits; ``statement`` the name of the one that must be accepted.
    """

    body: dict[str, Any] = field(repr=False)
    cause: Cause | None = None
    case: str = ""
    statement: str = ""

    @property
    def granted(self) -> bool:
        """Whether the values may be given."""
        return self.cause is None


def words_fault(reason: str, ticket: str, grants: LoadedGrants) -> Cause | None:
    """Say what is wrong with a reason or a ticket.

    They stand in the audit log for ever, so what looks like personal data is refused.
    """
    reasons = grants.grants.reasons
    sound = reason in reasons if reasons is not None else bool(_WORDS.fullmatch(reason)) and reason.isprintable()
    if not sound or (reasons is None and _looks_personal(reason)):
        return Cause.REASON
    tickets = grants.grants.tickets
    if not _TICKET.fullmatch(ticket) or "@" in ticket:
        return Cause.TICKET
    if tickets is None:
        fits = not _looks_personal(ticket, _PERSONAL_TICKET)
    else:
        fits = re.fullmatch(tickets.pattern, ticket) is not None
    return None if fits else Cause.TICKET


def _looks_personal(text: str, what: re.Pattern[str] = _PERSONAL) -> bool:
    """Whether a text holds what looks like a person's number or address, also in full-width characters and the like."""
    return what.search(unicodedata.normalize("NFKC", text)) is not None


def decide(asked: Asked, grants: LoadedGrants, ledger: Ledger, now_ms: int, most_tokens: int = MOST_TOKENS) -> Decision:
    """Decide about a request.

    Args:
        asked: The request.
        grants: The grants in force.
        ledger: What the log says up to this moment.
        now_ms: The log's time in milliseconds since 1970, never before its last record.
        most_tokens: Tokens that one request may have.
    """
    fault = words_fault(asked.reason, asked.ticket, grants)
    principal = grants.principal_of(asked.identity.kind, asked.identity.name)
    if principal is None:
        return _refused(asked, grants, None, Cause.PRINCIPAL, words=fault is None)
    grant = grants.grant_for(principal, asked.entry, asked.domain, now_ms // DAY_MS)
    if grant is None:
        cause = Cause.IRREVERSIBLE if asked.irreversible else Cause.NOT_GRANTED
        return _refused(asked, grants, principal, cause, words=fault is None)
    if not asked.key_usable:
        return _refused(asked, grants, principal, Cause.KEY, words=fault is None)
    if fault is not None:
        return _refused(asked, grants, principal, fault, words=False)
    if not 0 < len(asked.marks) <= most_tokens:
        return _refused(asked, grants, principal, Cause.TOKENS)
    return _decide_granted(asked, grants, _Holder(principal, grant, ledger, now_ms))


@dataclass(frozen=True, slots=True)
class _Holder:
    """A principal with the grant that decides, and the state of the log at this moment."""

    principal: str
    grant: Grant
    ledger: Ledger
    now_ms: int

    def has_room(self, class_name: str, marks: tuple[str, ...]) -> bool:
        """Say whether every budget has room for one more request with these tokens."""
        for budget in self.grant.budgets:
            answers, seen = self.ledger.used(self.principal, class_name, WINDOW_MS[budget.per], self.now_ms)
            if answers + 1 > budget.requests or len(seen.union(marks)) > budget.values:
                return False
        return True

    def case_of(self, asked: Asked) -> Case | None:
        """Return the open case of this very request: same principal, place, words and tokens."""
        place = (asked.entry, asked.domain, asked.epoch)
        wanted = (self.principal, *place, frozenset(asked.marks), asked.reason, asked.ticket)
        for case in self.ledger.cases.values():
            found = (case.principal, case.entry, case.domain, case.epoch, case.marks, case.reason, case.ticket)
            if found == wanted and case.expires_ms > self.now_ms:
                return case
        return None

    def approved(self, case: Case | None, grants: LoadedGrants) -> bool:
        """Say whether somebody else approved a case who may still approve."""
        return (
            case is not None
            and case.approver is not None
            and case.approver != self.principal
            and case.approver in grants.grants.principals
            and grants.may_approve(case.approver, self.grant, self.now_ms // DAY_MS)
        )


def _decide_granted(  # noqa: PLR0911 - one for each thing that may be missing.
    asked: Asked, grants: LoadedGrants, holder: _Holder
) -> Decision:
    """Decide for a principal that has a grant: statement, budgets, second person, in this order."""
    principal, grant = holder.principal, holder.grant
    if (principal, grant.statement, grants.statement_digest(grant.statement)) not in holder.ledger.accepted:
        return _refused(asked, grants, principal, Cause.STATEMENT, statement=grant.statement)
    classes = grants.entries[asked.entry]
    if not all(holder.has_room(name, asked.marks) for name in classes):
        return _refused(asked, grants, principal, Cause.BUDGET)
    facts = _facts(asked, grants, principal, classes)
    if grant.approval is None:
        return Decision({"kind": Kind.ANSWER, **facts, "case": None})
    case = holder.case_of(asked)
    if holder.approved(case, grants) and case is not None:
        return Decision({"kind": Kind.ANSWER, **facts, "case": case.id})
    if case is not None:
        return _refused(asked, grants, principal, Cause.APPROVAL, case=case.id)
    if sum(each.principal == principal for each in holder.ledger.cases.values()) >= MOST_CASES:
        return _refused(asked, grants, principal, Cause.BUDGET)
    expires_ms = holder.now_ms + grant.approval.valid_hours * 3_600_000
    return Decision({"kind": Kind.REQUEST, **facts, "expires_ms": expires_ms}, Cause.APPROVAL, case=asked.id)


def decide_case(  # noqa: PLR0913 - what a case decision is made of.
    identity: Identity, case_id: str, grants: LoadedGrants, ledger: Ledger, now_ms: int, *, approve: bool, id_: str
) -> dict[str, Any] | None:
    """Return the record of an approval or rejection, None where the principal may not decide about the case.

    It may where the case is not its own, and one of its roles is among those that the grant names.
    """
    case = open_cases(identity, grants, ledger, now_ms).get(case_id)
    principal = grants.principal_of(identity.kind, identity.name)
    if case is None or principal is None:
        return None
    kind = Kind.APPROVE if approve else Kind.REJECT
    return {"kind": kind, "id": id_, **_who(identity, principal), "case": case_id, "grants": grants.digest}


def open_cases(identity: Identity, grants: LoadedGrants, ledger: Ledger, now_ms: int) -> dict[str, Case]:
    """Return the cases that a principal may decide about, by id."""
    approver = grants.principal_of(identity.kind, identity.name)
    if approver is None:
        return {}
    today = now_ms // DAY_MS
    found = {}
    for case in ledger.cases.values():
        if case.approver is not None or case.expires_ms <= now_ms or case.principal == approver:
            continue
        known = case.principal in grants.grants.principals
        grant = grants.grant_for(case.principal, case.entry, case.domain, today) if known else None
        if grant is not None and grants.may_approve(approver, grant, today):
            found[case.id] = case
    return found


def accept_body(
    identity: Identity, statement: str, digest: str, grants: LoadedGrants, id_: str
) -> dict[str, Any] | None:
    """Return the record of an acceptance, or None if the principal, statement or its text is not the current one."""
    principal = grants.principal_of(identity.kind, identity.name)
    if principal is None or statement not in grants.grants.statements:
        return None
    if grants.statement_digest(statement) != digest:
        return None
    who = _who(identity, principal)
    return {
        "kind": Kind.ACCEPT, "id": id_, **who, "statement": statement, "digest": digest, "grants": grants.digest
    }  # fmt: skip


def _who(identity: Identity, principal: str | None) -> dict[str, Any]:
    return {"principal": principal, "by": {identity.kind: identity.name[:200]}}


def _facts(asked: Asked, grants: LoadedGrants, principal: str | None, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id": asked.id,
        **_who(asked.identity, principal),
        "channel": asked.channel,
        "classes": list(classes),
        "entry": asked.entry,
        "domain": asked.domain,
        "epoch": asked.epoch,
        "reason": asked.reason,
        "ticket": asked.ticket,
        "tokens": list(asked.marks),
        "grants": grants.digest,
        "policy": grants.policy_digest,
    }


def _refused(  # noqa: PLR0913 - what a refusal is made of.
    asked: Asked,
    grants: LoadedGrants,
    principal: str | None,
    cause: Cause,
    *,
    words: bool = True,
    case: str = "",
    statement: str = "",
) -> Decision:
    """Refuse. What the caller made up freely and no rule has taken is not recorded, ``words`` (reason, ticket) too."""
    facts = _facts(asked, grants, principal, grants.entries.get(asked.entry, ()))
    known = asked.entry in grants.entries or asked.irreversible
    if not known or asked.domain not in grants.domains:
        facts |= {"entry": None, "domain": None, "epoch": 0}
    if not words:
        facts |= {"reason": None, "ticket": None}
    facts["tokens"] = facts["tokens"][:MOST_TOKENS]
    return Decision({"kind": Kind.REFUSE, **facts, "cause": cause, "case": case or None}, cause, case, statement)
