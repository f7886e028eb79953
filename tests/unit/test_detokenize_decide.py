"""Decisions: statement first, budgets exact, four eyes that are two people, and words without personal data."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from tests.support.reversing import GRANTS

from tokenweir.app import demodata
from tokenweir.core.detokenize.chain import Kind, Position, Record
from tokenweir.core.detokenize.decide import (
    MOST_CASES,
    Asked,
    Cause,
    Decision,
    Identity,
    accept_body,
    decide,
    decide_case,
    open_cases,
    words_fault,
)
from tokenweir.core.detokenize.grants import LoadedGrants, load_grants
from tokenweir.core.detokenize.ledger import Ledger
from tokenweir.core.detokenize.models import WINDOW_MS
from tokenweir.core.policy.loader import load_policy

POLICY = load_policy(demodata.text("policy.yaml"), "policy.yaml")
TEXT = GRANTS.replace("USER", "alice")
NOW_MS = 1_764_600_000_000

ALICE, FRANK, LEA = (Identity("user", name) for name in ("alice", "frank", "lea"))


class Scene:
    """Grants, and a log that every decision is written to."""

    def __init__(self, text: str = TEXT) -> None:
        self.grants: LoadedGrants = load_grants(text, "grants.yaml", POLICY)
        self.ledger = Ledger()
        self.now_ms = NOW_MS
        self.bodies: list[dict[str, Any]] = []
        self._ids = itertools.count()

    def note(self, body: dict[str, Any] | None) -> bool:
        """Write a record, if there is one."""
        if body is None:
            return False
        self.bodies.append(body)
        position = Position(len(self.bodies), "0" * 64)
        self.ledger.apply(Record(position, self.now_ms, Kind(body["kind"]), body, ""))
        return True

    def accept(self, *identities: Identity) -> None:
        """Let people accept the statement."""
        for identity in identities:
            digest = self.grants.statement_digest("confidentiality")
            assert self.note(accept_body(identity, "confidentiality", digest, self.grants, "id"))

    def ask(self, identity: Identity, *marks: str, **changes: Any) -> Decision:  # noqa: ANN401 - fields of Asked.
        """Ask, and write what was decided."""
        asked = Asked(
            id=f"r{next(self._ids)}",
            identity=identity,
            entry="customer",
            domain="crm",
            epoch=1,
            marks=marks or ("m",),
            reason="Chargeback",
            ticket="CASE-7",
            channel="api",
        )
        decision = decide(replace(asked, **changes), self.grants, self.ledger, self.now_ms)
        self.note(decision.body)
        return decision

    def decide(self, identity: Identity, case: str, *, approve: bool = True) -> bool:
        """Decide about a case."""
        body = decide_case(identity, case, self.grants, self.ledger, self.now_ms, approve=approve, id_="x")
        return self.note(body)


def test_nothing_before_the_statement_is_accepted() -> None:
    """And nothing after its text has changed."""
    scene = Scene()
    refused = scene.ask(ALICE)
    assert (refused.cause, refused.statement) == (Cause.STATEMENT, "confidentiality")
    scene.accept(ALICE)
    assert scene.ask(ALICE).granted
    scene.grants = load_grants(TEXT.replace("and tell nobody", "and tell no one"), "grants.yaml", POLICY)
    assert scene.ask(ALICE).cause is Cause.STATEMENT


def test_only_the_current_text_can_be_accepted() -> None:
    """By a known principal, of a known statement."""
    grants = Scene().grants
    digest = grants.statement_digest("confidentiality")
    assert accept_body(ALICE, "confidentiality", digest, grants, "id") is not None
    assert accept_body(ALICE, "confidentiality", "0" * 64, grants, "id") is None
    assert accept_body(ALICE, "other", digest, grants, "id") is None
    assert accept_body(Identity("user", "eve"), "confidentiality", digest, grants, "id") is None


def test_requests_are_counted() -> None:
    """Five a day: the sixth is refused, and granted again when the first is a day old."""
    scene = Scene()
    scene.accept(ALICE)
    for _ in range(5):
        assert scene.ask(ALICE, "m").granted
        scene.now_ms += 1000
    assert scene.ask(ALICE, "m").cause is Cause.BUDGET
    scene.now_ms = NOW_MS + WINDOW_MS["day"] - 1
    assert scene.ask(ALICE, "m").cause is Cause.BUDGET
    scene.now_ms += 1
    assert scene.ask(ALICE, "m").granted
    assert scene.ask(ALICE, "m").cause is Cause.BUDGET


def test_different_values_are_counted_and_a_request_is_whole_or_nothing() -> None:
    """Eight a day; one that was seen costs nothing more, and of a request that is too large nothing is given."""
    scene = Scene()
    scene.accept(ALICE)
    assert scene.ask(ALICE, *"abcdef").granted
    assert scene.ask(ALICE, *"defghi").cause is Cause.BUDGET
    assert scene.ask(ALICE, *"abcdefgh").granted
    assert scene.ask(ALICE, "i").cause is Cause.BUDGET
    assert scene.ask(ALICE, "a", "h").granted


def test_a_refusal_costs_nothing() -> None:
    """Only answers count."""
    scene = Scene()
    scene.accept(ALICE)
    for _ in range(20):
        assert scene.ask(ALICE, *"abcdefghi").cause is Cause.BUDGET
    assert scene.ask(ALICE, *"abcdefgh").granted


def test_every_budget_of_a_grant_must_have_room() -> None:
    """A short window beside a long one."""
    scene = Scene(
        TEXT.replace("[{per: day, requests: 5", "[{per: minute, requests: 2, values: 8}, {per: day, requests: 5")
    )
    scene.accept(ALICE)
    answers = []
    for _ in range(4):
        answers.append([scene.ask(ALICE).granted for _ in range(3)])
        scene.now_ms += WINDOW_MS["minute"]
    assert answers == [[True, True, False], [True, True, False], [True, False, False], [False] * 3]


def test_budgets_are_of_a_principal_and_a_class_in_all_key_domains() -> None:
    """What was answered for one key domain counts in the other, and nobody uses up another's budget."""
    text = TEXT.replace("domains: [crm]", "domains: [crm, ads]").replace("{roles: [fraud]", "{roles: [support]")
    scene = Scene(text)
    scene.accept(ALICE, FRANK)
    for number in range(5):
        assert scene.ask(ALICE, f"{number}", domain="ads" if number % 2 else "crm").granted
    assert scene.ask(ALICE, "0").cause is Cause.BUDGET
    assert scene.ask(FRANK, "0").granted


def test_a_second_person_must_approve() -> None:
    """Asked, approved by somebody else, asked again with the same tokens and words, answered once."""
    scene = Scene()
    scene.accept(FRANK)
    waiting = scene.ask(FRANK, "a", "b")
    assert (waiting.cause, waiting.case) == (Cause.APPROVAL, "r0")
    assert scene.ask(FRANK, "b", "a").case == "r0"  # Asking again opens no second case.
    assert list(open_cases(LEA, scene.grants, scene.ledger, scene.now_ms)) == ["r0"]
    assert scene.decide(LEA, "r0")
    assert scene.ask(FRANK, "a").cause is Cause.APPROVAL
    assert scene.ask(FRANK, "a", "b", reason="Another").cause is Cause.APPROVAL
    assert scene.ask(FRANK, "a", "b", ticket="CASE-8").cause is Cause.APPROVAL
    assert scene.ask(FRANK, "a", "b", epoch=2).cause is Cause.APPROVAL
    answer = scene.ask(FRANK, "a", "b")
    assert answer.granted
    assert answer.body["case"] == "r0"
    assert scene.ask(FRANK, "a", "b").cause is Cause.APPROVAL


def test_nobody_approves_their_own_request() -> None:
    """Not even with the role for it."""
    scene = Scene(TEXT.replace("frank: {roles: [fraud]", "frank: {roles: [fraud, lead]"))
    scene.accept(FRANK)
    case = scene.ask(FRANK).case
    assert open_cases(FRANK, scene.grants, scene.ledger, scene.now_ms) == {}
    assert not scene.decide(FRANK, case)
    assert not scene.decide(ALICE, case)
    assert not scene.decide(Identity("user", "eve"), case)
    assert not scene.decide(LEA, "unknown")
    assert scene.ask(FRANK).cause is Cause.APPROVAL


def test_an_approval_ends_with_its_time_and_with_the_approver_s_role() -> None:
    """Eight hours; and what a principal approved who may no longer approve counts no more."""
    scene = Scene()
    scene.accept(FRANK)
    scene.decide(LEA, scene.ask(FRANK).case)
    scene.now_ms += 8 * 3_600_000
    assert scene.ask(FRANK).cause is Cause.APPROVAL
    scene.decide(LEA, scene.ask(FRANK).case)
    kept = scene.grants
    scene.grants = load_grants(
        TEXT.replace("lea: {roles: [lead]", "max: {roles: [lead], user: max}\n  lea: {roles: [support]"), "g", POLICY
    )
    assert scene.ask(FRANK).cause is Cause.APPROVAL
    scene.grants = kept
    assert scene.ask(FRANK).granted


def test_a_rejected_request_is_over() -> None:
    """It can be asked anew, and waits anew."""
    scene = Scene()
    scene.accept(FRANK)
    case = scene.ask(FRANK).case
    assert scene.decide(LEA, case, approve=False)
    assert not scene.decide(LEA, case)
    assert scene.ask(FRANK).case != case


def test_cases_do_not_pile_up() -> None:
    """So many may wait and no more."""
    scene = Scene()
    scene.accept(FRANK)
    causes = [scene.ask(FRANK, f"{number}").cause for number in range(MOST_CASES + 1)]
    assert causes == [Cause.APPROVAL] * MOST_CASES + [Cause.BUDGET]


@pytest.mark.parametrize(
    ("identity", "changes", "cause"),
    [
        (Identity("user", "eve"), {}, Cause.PRINCIPAL),
        (Identity("oidc", "alice"), {}, Cause.PRINCIPAL),
        (ALICE, {"domain": "ads"}, Cause.NOT_GRANTED),
        (ALICE, {"entry": "none"}, Cause.NOT_GRANTED),
        (ALICE, {"entry": "email", "irreversible": True, "key_usable": False}, Cause.IRREVERSIBLE),
        (ALICE, {"key_usable": False}, Cause.KEY),
        (ALICE, {"marks": ()}, Cause.TOKENS),
        (ALICE, {"marks": ("m",) * 1001}, Cause.TOKENS),
        (ALICE, {"reason": ""}, Cause.REASON),
        (ALICE, {"ticket": "7"}, Cause.TICKET),
    ],
)
def test_causes(identity: Identity, changes: dict[str, Any], cause: Cause) -> None:
    """Each way to be refused, and each is a record."""
    scene = Scene()
    scene.accept(ALICE)
    assert scene.ask(identity, **changes).cause is cause
    assert (scene.bodies[-1]["kind"], scene.bodies[-1]["cause"]) == ("refuse", cause)


def test_an_irreversible_entry_is_recorded_by_its_name() -> None:
    """It is one of the policy's names, and an investigation wants to know."""
    scene = Scene()
    scene.ask(ALICE, entry="email", irreversible=True, key_usable=False)
    assert (scene.bodies[-1]["entry"], scene.bodies[-1]["domain"]) == ("email", "crm")


def test_what_a_caller_made_up_is_not_recorded() -> None:
    """A name of an entry or key domain, a reason or a ticket that no rule knows could be anybody's data."""
    scene = Scene()
    scene.accept(ALICE)
    for change in ({"entry": "canary"}, {"domain": "canary"}, {"reason": "canary@example.com"}, {"ticket": "canary@x"}):
        scene.ask(ALICE, **change)
        assert "canary" not in str(scene.bodies[-1])


def test_who_has_no_grant_does_not_learn_which_words_are_taken() -> None:
    """A reason or ticket that is wrong is told only to those whose request would be looked at."""
    scene = Scene()
    for identity, cause in ((Identity("user", "eve"), Cause.PRINCIPAL), (LEA, Cause.NOT_GRANTED)):
        assert scene.ask(identity, reason="canary@example.com").cause is cause
        assert "canary" not in str(scene.bodies[-1])


@pytest.mark.parametrize(
    ("reason", "ticket", "fault"),
    [
        ("Chargeback of an order", "CASE-7", None),
        ("Rückbuchung, §7", "CASE-123456789", None),
        ("Order 12345", "CASE-7", None),
        ("", "CASE-7", Cause.REASON),
        (" ", "CASE-7", Cause.REASON),
        ("x" * 201, "CASE-7", Cause.REASON),
        ("two\nlines", "CASE-7", Cause.REASON),
        ("escape \x1b[2J", "CASE-7", Cause.REASON),
        ("for ada@example.com", "CASE-7", Cause.REASON),
        ("customer 0000000101", "CASE-7", Cause.REASON),
        ("call 0171 23 45 67", "CASE-7", Cause.REASON),
        ("card 4111-1111-1111", "CASE-7", Cause.REASON),
        ("Fall ٠١٢٣٤٥٦٧", "CASE-7", Cause.REASON),
        ("call 0,30,90,18,20", "CASE-7", Cause.REASON),
        ("call 030\u2013901\u2013820", "CASE-7", Cause.REASON),
        ("call +49_30_901820", "CASE-7", Cause.REASON),
        ("a\uff20example.com", "CASE-7", Cause.REASON),
        ("Chargeback", "", Cause.TICKET),
        ("Chargeback", "CASE-7 ", Cause.TICKET),
        ("Chargeback", "CASE-", Cause.TICKET),
        ("Chargeback", "XCASE-7", Cause.TICKET),
        ("Chargeback", "CASE-7\nX", Cause.TICKET),
        ("Chargeback", "CASE-" + "7" * 100, Cause.TICKET),
    ],
)
def test_words(reason: str, ticket: str, fault: Cause | None) -> None:
    """Reason and ticket are required, have a form, and hold nothing that looks like a person's data."""
    assert words_fault(reason, ticket, Scene().grants) is fault


@pytest.mark.parametrize(
    ("ticket", "fault"),
    [
        ("CASE-7", None),
        ("DSR-2026-7", None),
        ("INC0012345", None),
        ("+4930901820", Cause.TICKET),
        ("4111111111111111", Cause.TICKET),
        ("030/90-18/20", Cause.TICKET),
    ],
)
def test_a_ticket_without_a_pattern_holds_no_number_of_a_person(ticket: str, fault: Cause | None) -> None:
    """Where the file has a pattern, that alone says how long numbers may be."""
    grants = Scene(TEXT.replace('tickets: {pattern: "CASE-[0-9]+"}\n', "")).grants
    assert grants.grants.tickets is None
    assert words_fault("Chargeback", ticket, grants) is fault


def test_a_list_of_reasons_is_closed() -> None:
    """Where the file lists reasons, no other one counts."""
    grants = Scene(TEXT.replace("tickets:", "reasons: [Chargeback, Court order 4711/2026-12]\ntickets:")).grants
    assert words_fault("Chargeback", "CASE-7", grants) is None
    assert words_fault("Court order 4711/2026-12", "CASE-7", grants) is None
    assert words_fault("Chargebac", "CASE-7", grants) is Cause.REASON


def test_who_has_no_grant_is_told_nothing() -> None:
    """Unknown, not granted, irreversible, no key and exhausted are one thing to a caller of the API."""
    assert {cause for cause in Cause if not cause.said} == {
        Cause.PRINCIPAL, Cause.NOT_GRANTED, Cause.IRREVERSIBLE, Cause.KEY, Cause.BUDGET
    }  # fmt: skip
