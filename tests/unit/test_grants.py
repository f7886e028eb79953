"""The grants file: strict, with a place for everything that is wrong, and who gets which grant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from tests.support.reversing import GRANTS, STATEMENT

from tokenweir.app import demodata
from tokenweir.app.grantsfile import GrantsFile
from tokenweir.core.detokenize.decide import CAUSES, Cause
from tokenweir.core.detokenize.grants import RULES, LoadedGrants, entry_classes, grants_json_schema, load_grants
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.timestamps import parse_date
from tokenweir.errors import FindingsError

POLICY = load_policy(demodata.text("policy.yaml"), "policy.yaml")
TEXT = GRANTS.replace("USER", "alice")
DAY = parse_date("2026-12-01")


def load(text: str = TEXT) -> LoadedGrants:
    """Load grants for the demo's policy."""
    return load_grants(text, "grants.yaml", POLICY)


def faults(text: str) -> list[str]:
    """Return what is found, as ``line:column: rule``."""
    with pytest.raises(FindingsError) as caught:
        load(text)
    return [f"{finding.line}:{finding.column}: {finding.rule}" for finding in caught.value.findings]


def place(text: str, part: str) -> str:
    """Return ``line:column`` of a part of a text."""
    before = text[: text.index(part)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def test_a_sound_file_loads() -> None:
    """The file of the tests is sound; it is identified by its text, beside the policy's."""
    grants = load()
    assert grants.warnings == ()
    assert len(grants.digest) == 64
    assert grants.policy_digest == POLICY.digest
    assert grants.entries == {"customer": ("id.customer",), "device": ("id.device",)}  # E-mail tokens are one-way.
    assert grants.domains == {"ads", "crm"}


@pytest.mark.parametrize(
    ("old", "new", "at", "rule"),
    [
        ("roles: [support]", "roles: [suport]", "suport", "unknown-role"),
        ("by: [lead]", "by: [leed]", "leed", "unknown-role"),
        ("domains: [crm]", "domains: [crn]", "crn", "unknown-domain"),
        ("classes: [id.customer]", "classes: [id.custmer]", "id.custmer", "grant-without-class"),
        ("classes: [id.*]", "classes: [contact.email]", "[contact.email]", "grant-irreversible"),
        ("classes: [id.*]", "classes: [event.type]", "[event.type]", "grant-irreversible"),
        ("CASE-[0-9]+", "CASE-[0-9+", '"CASE-[0-9+"', "ticket-pattern"),
        ("user: frank", "user: alice", "alice, oidc: frank-sub", "identity-twice"),
        ("oidc: lea-sub", "oidc: alice-sub", "alice-sub}\n", "identity-twice"),
        ("user: lea, oidc: lea-sub", "until: 2026-12-31", "{roles: [lead], until", "no-identity"),
        ("statement: confidentiality\n  fraud", "statement: none\n  fraud", "none\n", "unknown-statement"),
        ("approval: {by: [lead], valid_hours: 8}", "until: 2026-02-30", "2026-02-30", "no-such-day"),
        ("valid_hours: 8", "valid_hours: 0", "0}\n", "out-of-range"),
        ("requests: 5,", "requests: many,", "many", "wrong-type"),
        ("per: day, requests: 5", "per: year, requests: 5", "year", "wrong-value"),
        ("  lead: {}", "  lead: {grant: []}", "grant: []", "unknown-key"),
        ("version: 1\n", "", "statements", "missing-key"),
        (STATEMENT, "see ${VARIABLE} and promise nothing", '"see ${', "interpolation"),
        (STATEMENT, "I agree.", '"I agree', "out-of-range"),
        ("  lea: {roles: [lead]", "  Lea: {roles: [lead]", "Lea:", "bad-name"),
        ("  frank:", "  alice:", "alice: {roles: [fraud]", "duplicate-key"),
    ],
)  # fmt: skip
def test_every_fault_has_its_place(old: str, new: str, at: str, rule: str) -> None:
    """A fault is reported with its line, column and rule."""
    assert TEXT.count(old) >= 1
    text = TEXT.replace(old, new, 1)
    found = faults(text)
    assert rule in {each.rpartition(" ")[2] for each in found}
    if rule != "missing-key":
        assert f"{place(text, at)}: {rule}" in found


def test_faults_are_found_together() -> None:
    """One call shows all of them."""
    text = TEXT.replace("roles: [support]", "roles: [x]").replace("domains: [crm]", "domains: [y]")
    assert {each.rpartition(" ")[2] for each in faults(text)} == {"unknown-role", "unknown-domain"}


def test_an_approval_that_nobody_can_give_is_found() -> None:
    """Four eyes need a second pair."""
    text = TEXT.replace("roles: [lead], user: lea", "roles: [support], user: lea")
    assert faults(text) == [f"{place(text, '{by: [lead]')}: no-approver"]


def test_two_budgets_of_one_window_are_found() -> None:
    """Which of them counts would be a guess."""
    twice = "{per: day, requests: 5, values: 8}"
    text = TEXT.replace(f"[{twice}]", f"[{twice}, {twice}]")
    assert [each.rpartition(" ")[2] for each in faults(text)] == ["budget-twice"]


def shared_policy() -> str:
    """Return a policy in which two classes share a token entry."""
    return demodata.text("policy.yaml").replace(
        "id.customer: {title: Customer number, do: {tokenize: customer}}",
        "id.customer: {title: Customer number, do: {tokenize: customer}}\n"
        "  gift.receiver: {title: Who gets a gift, do: {tokenize: customer}}",
    )


def test_a_class_of_an_entry_that_is_not_granted_bars_the_entry() -> None:
    """A token does not tell which class it came from, so all classes of its entry must be granted."""
    loaded = load_policy(shared_policy(), "policy.yaml")
    assert entry_classes(loaded.policy)["customer"] == ("id.customer", "gift.receiver")
    grants = load_grants(TEXT.replace("[id.customer]", "[id.*]"), "grants.yaml", loaded)
    assert [finding.rule for finding in grants.warnings] == ["grant-half", "grant-half"]
    assert grants.grant_for("alice", "customer", "crm", DAY) is None
    both = load_grants(TEXT.replace("[id.customer]", "[id.customer, gift.**]"), "grants.yaml", loaded)
    assert both.grant_for("alice", "customer", "crm", DAY) is not None


@pytest.mark.parametrize(
    ("principal", "entry", "domain", "granted"),
    [
        ("alice", "customer", "crm", True),
        ("alice", "customer", "ads", False),
        ("alice", "device", "crm", False),
        ("alice", "email", "crm", False),
        ("alice", "none", "crm", False),
        ("frank", "customer", "ads", True),
        ("frank", "device", "crm", True),
        ("lea", "customer", "crm", False),
    ],
)
def test_who_gets_what(principal: str, entry: str, domain: str, *, granted: bool) -> None:
    """A grant covers classes in key domains, for those who have its role."""
    assert (load().grant_for(principal, entry, domain, DAY) is not None) == granted


@pytest.mark.parametrize(("until", "granted"), [("2026-12-01", True), ("2026-11-30", False)])
@pytest.mark.parametrize("where", ["statement: confidentiality\n  fraud", "user: alice"])
def test_grants_and_principals_end(until: str, where: str, *, granted: bool) -> None:
    """The last day is still in force (UTC), the day after is not."""
    new = f"until: {until}\n        {where}" if "\n" in where else f"until: {until}, {where}"
    assert (load(TEXT.replace(where, new)).grant_for("alice", "customer", "crm", DAY) is not None) == granted


def test_the_first_grant_that_covers_decides() -> None:
    """Roles in the principal's order, grants in the role's order."""
    text = TEXT.replace("alice: {roles: [support]", "alice: {roles: [fraud, support]")
    grant = load(text).grant_for("alice", "customer", "crm", DAY)
    assert grant is not None
    assert grant.approval is not None
    text = text.replace("[fraud, support]", "[support, fraud]")
    grant = load(text).grant_for("alice", "customer", "crm", DAY)
    assert grant is not None
    assert grant.approval is None


def test_principals_are_recognised_by_kind() -> None:
    """A user's name is no subject of a token."""
    grants = load()
    assert grants.principal_of("user", "alice") == "alice"
    assert grants.principal_of("oidc", "alice-sub") == "alice"
    assert grants.principal_of("certificate", "CN=alice,O=Example") == "alice"
    assert [grants.principal_of("oidc", name) for name in ("alice", "", "ALICE-SUB")] == [None] * 3


def test_the_schema_takes_the_file() -> None:
    """What editors check is what loads."""
    document: Any = YAML(typ="safe", pure=True).load(TEXT)
    jsonschema.validate(document, grants_json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"more": 1}, grants_json_schema())


def test_closed_lists() -> None:
    """Every cause and every rule has its sentence."""
    assert set(CAUSES) == set(Cause)
    assert all(sentence.rstrip().endswith((".", "(warning)")) for sentence in RULES.values())


def _interrupted(file: GrantsFile, line: int, other: Callable[[], object]) -> tuple[LoadedGrants, bool]:
    """Ask for the grants while something else happens before so many lines; return them and whether it did."""
    seen = 0
    code = GrantsFile.current.__code__

    def trace(frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function.
        nonlocal seen
        if frame.f_code is not code:
            return None
        if event == "line":
            seen += 1
            if seen == line:
                sys.settrace(None)
                other()
                sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = file.current()
    finally:
        sys.settrace(before)
    return found, seen >= line


def test_no_thread_gets_the_grants_of_an_earlier_text(tmp_path: Path) -> None:
    """Another thread may load the new text at any moment; a withdrawn grant ends with the edit all the same."""
    path = tmp_path / "grants.yaml"
    withdrawn = TEXT.replace("roles: [support]", "roles: [fraud]")
    assert withdrawn != TEXT
    for line in range(1, 100):
        path.write_text(TEXT)
        file = GrantsFile(path, POLICY)
        assert file.current().digest == load().digest
        path.write_text(withdrawn)
        found, happened = _interrupted(file, line, file.current)
        if not happened:
            break
        assert found.digest == load(withdrawn).digest
    assert line > 3
