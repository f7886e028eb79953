"""What is wrong with a policy that follows its model, as far as the policy alone shows it, without any schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tokenweir.core.ff1 import MINIMUM_DOMAIN
from tokenweir.core.policy.check_streams import check_streams
from tokenweir.core.policy.check_subjects import check_subjects
from tokenweir.core.policy.check_text import load
from tokenweir.core.policy.classes import ClassTable, own_treatments
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.policy.models import Policy, Tokenize, Treatment
from tokenweir.core.policy.report import Report
from tokenweir.core.tokens import smallest_domain
from tokenweir.core.tokens.specs import PermutationSpec
from tokenweir.errors import Finding, FindingsError
from tokenweir.yamlsource import Path

#: Bases that rest on the person's own decision and need no assessment of the controller.
_NO_ASSESSMENT: Final = frozenset({"consent", "opt_out"})


def load_and_check(text: str, file: str) -> tuple[LoadedPolicy, list[Finding]]:
    """Return the policy in ``text`` and the warnings about it.

    Raises:
        FindingsError: The policy has errors; every error and warning is in it.
    """
    loaded = load(text, file)
    findings = check(loaded)
    if any(finding.severity == "error" for finding in findings):
        raise FindingsError(findings)
    return loaded, findings


def check(loaded: LoadedPolicy) -> list[Finding]:
    """Return everything about a policy that cannot be meant, in the order of the file."""
    report = Report(loaded)
    table = ClassTable(loaded.policy)
    _check_purposes(report, loaded.policy)
    _check_subjects(report, loaded.policy)
    check_subjects(report, table)
    _check_classes(report, loaded.policy, table)
    _check_tokens(report, loaded.policy)
    _check_audiences(report, loaded.policy, table)
    check_streams(report, table)
    _check_unused(report, loaded.policy)
    return sorted(report.findings)


def _check_purposes(report: Report, policy: Policy) -> None:
    for name, purpose in policy.purposes.items():
        if purpose.assessment:
            continue
        bases = [(("purposes", name, "basis"), purpose.basis)]
        bases += [(("purposes", name, "basis_by", place), basis) for place, basis in purpose.basis_by.items()]  # type: ignore[misc]  # Paths differ in length.
        for path, basis in bases:
            if basis not in _NO_ASSESSMENT:
                message = f"the basis {basis} of '{name}' rests on an assessment, and none is named"
                report.error(path, "assessment-missing", message, "add `assessment: REFERENCE`")


def _check_subjects(report: Report, policy: Policy) -> None:
    for name, subject in policy.subjects.items():
        report.known(("subjects", name, "class"), "class", subject.class_, policy.classes)


def _check_classes(report: Report, policy: Policy, table: ClassTable) -> None:
    for name, rule in policy.classes.items():
        path: Path = ("classes", name)
        if rule.do is not None and rule.treatments is not None:
            report.error_at_key(
                (*path, "treatments"), "two-treatments", f"'{name}' has `do` and `treatments`", "keep one"
            )
        for key, value in (("when", rule.when), ("for", rule.for_)):
            if value is not None and rule.do is None:
                message = f"`{key}` stands here without `do`"
                report.error_at_key((*path, key), "condition-without-do", message, "move it into a treatment")
        if table.source(name) is None:
            message = f"nothing says what happens to '{name}'"
            report.error_at_key(path, "no-treatment", message, "add `do` or `treatments`, here or to a class above it")
        for treatment_path, treatment in _treatments(policy, name):
            _check_treatment(report, policy, treatment_path, treatment)
        _check_reachable(report, policy, name)
        if table.special(name):
            _check_special(report, policy, table, name)
        if rule.always:
            _check_always(report, table, name)


def _treatments(policy: Policy, name: str) -> Iterator[tuple[Path, Treatment]]:
    """Yield the treatments that a class itself has, each with the path of its ``do``, ``when`` and ``for``."""
    rule = policy.classes[name]
    for index, treatment in enumerate(own_treatments(rule)):
        yield ("classes", name) if rule.treatments is None else ("classes", name, "treatments", index), treatment


def _check_treatment(report: Report, policy: Policy, path: Path, treatment: Treatment) -> None:
    for index, purpose in enumerate(treatment.when):
        report.known((*path, "when", index), "purpose", purpose, policy.purposes)
    for index, audience in enumerate(treatment.for_ or ()):
        report.known((*path, "for", index), "audience", audience, policy.audiences)
    if isinstance(treatment.do, Tokenize):
        report.known((*path, "do", "tokenize"), "token", treatment.do.tokenize, policy.tokens)


def _check_reachable(report: Report, policy: Policy, name: str) -> None:
    earlier: list[Treatment] = []
    for path, treatment in _treatments(policy, name):
        if any(_hides(other, treatment) for other in earlier):
            message = f"a treatment before this one matches whenever this one of '{name}' would"
            report.warning(path, "unreachable-treatment", message, "the first that matches wins; change the order")
        elif not _servable(policy, treatment):
            message = f"no audience of this treatment of '{name}' serves all purposes of its `when`"
            report.warning(path, "unreachable-treatment", message, "add the purposes to the audience, or remove it")
        earlier.append(treatment)


def _hides(first: Treatment, second: Treatment) -> bool:
    """Say whether the first treatment matches whenever the second would."""
    everywhere = first.for_ is None or (second.for_ is not None and set(second.for_) <= set(first.for_))
    return everywhere and set(first.when) <= set(second.when)


def _servable(policy: Policy, treatment: Treatment) -> bool:
    """Say whether some audience serves all purposes; where a name is unknown, another finding says so."""
    if not set(treatment.when) <= policy.purposes.keys() or not set(treatment.for_ or ()) <= policy.audiences.keys():
        return True
    audiences = policy.audiences if treatment.for_ is None else treatment.for_
    return any(set(treatment.when) <= set(policy.audiences[audience].purposes) for audience in audiences)


def _check_special(report: Report, policy: Policy, table: ClassTable, name: str) -> None:
    source = table.source(name)
    if source is None or (source != name and table.special(source)):
        return  # It is reported where the treatments are written.
    for path, treatment in _treatments(policy, source):
        if treatment.do == "drop":
            continue
        if not treatment.when:
            message = f"'{name}' is a special category and leaves here without consent"
            remedy = "add `when` with purposes that have basis consent and `explicit: true`"
            report.error((*path, "do"), "special-without-consent", message, remedy)
        for index, purpose_name in enumerate(treatment.when):
            purpose = policy.purposes.get(purpose_name)
            if purpose is None:
                continue
            bases = {purpose.basis, *purpose.basis_by.values()}
            if not purpose.explicit or bases != {"consent"}:
                message = f"'{name}' is a special category, and '{purpose_name}' is not explicit consent everywhere"
                remedy = f"give '{purpose_name}' basis consent and `explicit: true`, or drop the class"
                report.error((*path, "when", index), "special-without-consent", message, remedy)


def _check_always(report: Report, table: ClassTable, name: str) -> None:
    if all(treatment.do == "keep" and not treatment.when for treatment in table.treatments(name)):
        return
    message = f"'{name}' is `always`, but not kept without a condition"
    report.error(("classes", name, "always"), "always-conditional", message, "remove `always`, or use `do: keep` alone")


def _check_tokens(report: Report, policy: Policy) -> None:
    for name, spec in policy.tokens.items():
        size = smallest_domain(spec)
        if isinstance(spec, PermutationSpec):
            message = (
                f"'{name}' permutes {size:,} values: whoever knows how often they occur, or may have values tokenized, "
                "finds them behind their tokens"
            )
            report.warning(("tokens", name), "small-permutation", message, "prefer to generalize or drop the class")
        elif size < MINIMUM_DOMAIN:
            message = f"'{name}' can meet as few as {size:,} values; at least {MINIMUM_DOMAIN:,} are needed"
            report.error(
                ("tokens", name), "small-domain", message, _REMEDIES.get(spec.format, "use another format, or drop it")
            )


_REMEDIES: Final[dict[str, str]] = {
    "digits": "allow no length below 6, or generalize or drop the class",
    "alphanumeric": "allow no length below 4, or generalize or drop the class",
    "hex": "allow no length below 5, or generalize or drop the class",
    "integer": "widen min and max, or generalize or drop the class",
    "pattern": "put more of the layout into groups, or generalize or drop the class",
    "phone": "keep fewer digits",
    "iban": "keep only the country, or leave out the countries with so few accounts",
}


def _check_audiences(report: Report, policy: Policy, table: ClassTable) -> None:
    for name, audience in policy.audiences.items():
        for index, purpose in enumerate(audience.purposes):
            report.known(("audiences", name, "purposes", index), "purpose", purpose, policy.purposes)
        for index, pattern in enumerate(audience.never):
            path: Path = ("audiences", name, "never", index)
            covered = {each for each in policy.classes if table.covers(pattern, each)}
            below = [
                each for each in policy.classes if covered.intersection(table.ancestors(each)) and each not in covered
            ]
            if not covered:
                report.error(
                    path,
                    "never-without-class",
                    f"'{pattern}' covers no class",
                    "`special.**` covers special and all below it",
                )
            elif below and not any(_covered_elsewhere(table, audience.never, each) for each in below):
                message = f"'{pattern}' does not cover {', '.join(below)}"
                report.warning(path, "never-not-below", message, f"'{pattern}.**' covers all below it")


def _covered_elsewhere(table: ClassTable, patterns: list[str], name: str) -> bool:
    return any(table.covers(pattern, name) for pattern in patterns)


def _check_unused(report: Report, policy: Policy) -> None:
    treatments = [treatment for name in policy.classes for _, treatment in _treatments(policy, name)]
    streams = policy.streams.values()
    used = {
        "purposes": {purpose for audience in policy.audiences.values() for purpose in audience.purposes},
        "subjects": {subject.type for stream in streams for subject in stream.subjects},
        "tokens": {treatment.do.tokenize for treatment in treatments if isinstance(treatment.do, Tokenize)},
        "audiences": {output.audience for stream in streams for output in stream.outputs},
    }
    words = {
        "purposes": "no audience serves",
        "subjects": "no stream has",
        "tokens": "no class uses",
        "audiences": "no output is for",
    }
    for section, names in used.items():
        for name in getattr(policy, section):
            if name not in names:
                report.warning((section, name), "unused", f"{words[section]} '{name}'", "use it or remove it")
