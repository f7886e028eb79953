"""A grants file's text to its typed model, and everything that is wrong with it, each with its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tokenweir import validation, yamlsource
from tokenweir.core.compiler import domain_of
from tokenweir.core.detokenize.models import Grant, Grants
from tokenweir.core.policy.classes import ClassTable, covers
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.policy.models import Policy, Tokenize
from tokenweir.core.timestamps import parse_date
from tokenweir.core.tokens.formats import build
from tokenweir.errors import Finding, FindingsError, InvalidValueError
from tokenweir.validation import json_schema, suggest, validate
from tokenweir.yamlsource import Document, Path, read_yaml

_OWN: Final[dict[str, str]] = {
    "interpolation": "`${…}` stands in the file. Its digest must be the digest of the text that was reviewed.",
    "unknown-role": "A role that `roles` does not have.",
    "unknown-statement": "A statement that `statements` does not have.",
    "unknown-domain": "A key domain that no audience of the policy has.",
    "grant-without-class": "A class pattern of a grant that covers no class of the policy.",
    "grant-irreversible": "Nothing that the grant covers is tokenized reversibly, so it grants nothing.",
    "grant-half": "A grant covers one class of a token entry and not the others, so it never applies to that entry. "
    "(warning)",
    "budget-twice": "Two budgets of a grant have the same window.",
    "no-identity": "A principal that nothing can be recognised by: it needs `user`, `oidc` or `certificate`.",
    "identity-twice": "Two principals would be recognised by the same thing.",
    "no-approver": "No principal has a role that may approve.",
    "ticket-pattern": "`tickets.pattern` is no regular expression.",
    "no-such-day": "A day that no calendar has.",
}

#: Every rule of a grants file with the sentence that explains it.
RULES: Final[dict[str, str]] = yamlsource.RULES | validation.RULES | _OWN

IdentityKind = Literal["user", "oidc", "certificate"]
_IDENTITIES: Final[tuple[IdentityKind, ...]] = ("user", "oidc", "certificate")


@dataclass(frozen=True, slots=True)
class LoadedGrants:
    """A grants file that is sound for its policy.

    Attributes:
        grants: The file.
        digest: SHA-256 of the text's UTF-8 bytes in hexadecimal.
        policy_digest: What identifies that policy.
        entries: The classes that each reversible token entry of the policy serves.
        domains: The key domains of the policy.
        warnings: What is odd but not wrong.
    """

    grants: Grants
    digest: str
    policy_digest: str
    entries: dict[str, tuple[str, ...]]
    domains: frozenset[str]
    warnings: tuple[Finding, ...] = field(default=(), repr=False)

    def principal_of(self, kind: IdentityKind, name: str) -> str | None:
        """Return the principal that is recognised by this, or None."""
        found = (each for each, principal in self.grants.principals.items() if getattr(principal, kind) == name)
        return next(found, None)

    def statement_digest(self, name: str) -> str:
        """Return the SHA-256 of a statement's text; what was accepted is this and not the name."""
        return hashlib.sha256(self.grants.statements[name].text.encode()).hexdigest()

    def grant_for(self, principal: str, entry: str, domain: str, today: int) -> Grant | None:
        """Return the grant that decides about tokens of an entry in a key domain, or None.

        It must cover every class of the entry: a token does not tell which of them it came from. ``today`` is counted
        in days since 1970.
        """
        holder = self.grants.principals[principal]
        classes = self.entries.get(entry)
        if classes is None or _ended(holder.until, today):
            return None
        for role in holder.roles:
            for grant in self.grants.roles[role].grants:
                fits = domain in grant.domains and all(_covered(grant, name) for name in classes)
                if fits and not _ended(grant.until, today):
                    return grant
        return None

    def may_approve(self, principal: str, grant: Grant, today: int) -> bool:
        """Say whether a principal has one of the roles that approve under a grant."""
        holder = self.grants.principals[principal]
        return (
            grant.approval is not None
            and not _ended(holder.until, today)
            and not set(holder.roles).isdisjoint(grant.approval.by)
        )


def _covered(grant: Grant, class_name: str) -> bool:
    return any(covers(pattern, class_name) for pattern in grant.classes)


def _ended(until: str | None, today: int) -> bool:
    """Say whether the last day is over."""
    return until is not None and parse_date(until) < today


def entry_classes(policy: Policy) -> dict[str, tuple[str, ...]]:
    """Return the classes that each token entry serves, for any audience; entries that no class uses are left out."""
    table = ClassTable(policy)
    found: dict[str, list[str]] = {}
    for name in policy.classes:
        for treatment in table.treatments(name):
            if isinstance(treatment.do, Tokenize):
                found.setdefault(treatment.do.tokenize, []).append(name)
    return {entry: tuple(dict.fromkeys(names)) for entry, names in found.items()}


def load_grants(text: str, file: str, loaded: LoadedPolicy) -> LoadedGrants:
    """Return the grants in ``text``, checked against a policy; ``file`` is the name that findings carry.

    Raises:
        FindingsError: The text is no sound grants file; every reason is in it.
    """
    document = read_yaml(text, file)
    findings = list(document.findings)
    grants = None
    if document.complete:
        findings += _interpolations(document)
        grants, faults = validate(Grants, document)
        findings += faults
    if grants is None or findings:
        raise FindingsError(sorted(findings))
    policy = loaded.policy
    entries = {name: each for name, each in entry_classes(policy).items() if build(policy.tokens[name]).reversible}
    check = _Check(document, grants, policy, entries)
    check.run()
    if any(finding.severity == "error" for finding in check.findings):
        raise FindingsError(sorted(check.findings))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return LoadedGrants(grants, digest, loaded.digest, entries, _domains(policy), tuple(sorted(check.findings)))


def _domains(policy: Policy) -> frozenset[str]:
    return frozenset(domain_of(policy, audience) for audience in policy.audiences)


def grants_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of a grants file, for editors."""
    return json_schema(Grants, "tokenweir grants")


def _interpolations(document: Document) -> Iterator[Finding]:
    for path, text in document.texts():
        if "${" in text:
            message = "'${' stands here, and nothing is filled in in a grants file"
            yield document.finding(path, "interpolation", message, "write the value out")


@dataclass(slots=True)
class _Check:
    """What only the whole file, beside its policy, can show."""

    document: Document
    grants: Grants
    policy: Policy
    entries: dict[str, tuple[str, ...]]
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> None:
        """Collect every finding."""
        if self.grants.tickets is not None:
            self._pattern(self.grants.tickets.pattern)
        for name, role in self.grants.roles.items():
            for index, grant in enumerate(role.grants):
                self._grant(("roles", name, "grants", index), grant)
        known: dict[tuple[str, str], str] = {}
        for name, principal in self.grants.principals.items():
            path: Path = ("principals", name)
            for index, role_name in enumerate(principal.roles):
                self._known((*path, "roles", index), "role", role_name, self.grants.roles)
            self._day((*path, "until"), principal.until)
            given = [(kind, value) for kind in _IDENTITIES if (value := getattr(principal, kind)) is not None]
            if not given:
                self._add(path, "no-identity", f"nothing says how '{name}' is recognised", "give user, oidc, …")
            for kind, value in given:
                if other := known.get((kind, value)):
                    self._add((*path, kind), "identity-twice", f"this is also how '{other}' is recognised")
                known[kind, value] = name

    def _grant(self, path: Path, grant: Grant) -> None:
        self._known((*path, "statement"), "statement", grant.statement, self.grants.statements)
        self._day((*path, "until"), grant.until)
        for index, domain in enumerate(grant.domains):
            self._known((*path, "domains", index), "domain", domain, sorted(_domains(self.policy)))
        windows = [budget.per for budget in grant.budgets]
        for index, window in enumerate(windows):
            if window in windows[:index]:
                self._add((*path, "budgets", index), "budget-twice", f"a budget per {window} stands before this one")
        self._classes(path, grant)
        if grant.approval is not None:
            roles = set(grant.approval.by)
            for index, role in enumerate(grant.approval.by):
                self._known((*path, "approval", "by", index), "role", role, self.grants.roles)
            if not any(roles.intersection(each.roles) for each in self.grants.principals.values()):
                self._add((*path, "approval"), "no-approver", "no principal has a role that may approve")

    def _classes(self, path: Path, grant: Grant) -> None:
        for index, pattern in enumerate(grant.classes):
            if not any(covers(pattern, name) for name in self.policy.classes):
                remedy = suggest(pattern, self.policy.classes)
                message = f"'{pattern}' covers no class of the policy"
                self._add((*path, "classes", index), "grant-without-class", message, remedy)
        whole = 0
        for entry, classes in self.entries.items():
            missing = [name for name in classes if not _covered(grant, name)]
            whole += not missing
            if missing and len(missing) < len(classes):
                message = f"token entry '{entry}' also serves {', '.join(missing)}"
                remedy = "grant all classes of an entry, or give them entries of their own"
                self._add((*path, "classes"), "grant-half", message, remedy, "warning")
        if not whole:
            self._add((*path, "classes"), "grant-irreversible", "no reversible token entry is covered wholly")

    def _pattern(self, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error:
            self._add(("tickets", "pattern"), "ticket-pattern", "this is no regular expression")

    def _day(self, path: Path, text: str | None) -> None:
        try:
            parse_date(text or "1970-01-01")
        except InvalidValueError:
            self._add(path, "no-such-day", "no calendar has this day")

    def _known(self, path: Path, word: str, name: str, declared: Collection[str]) -> None:
        if name not in declared:
            remedy = suggest(name, declared) or f"one of: {', '.join(declared)}"
            what = {"domain": "key domain"}.get(word, word)
            self._add(path, f"unknown-{word}", f"there is no {what} '{name}'", remedy)

    def _add(
        self,
        path: Path,
        rule: str,
        message: str,
        remedy: str = "",
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        assert rule in RULES, f"the rule {rule} is not in the table"  # noqa: S101 - A fault of this package only.
        place = self.document.positions.value(path)
        self.findings.append(Finding(self.document.file, *place, rule, message, remedy, severity))
