"""Whether the ids of a policy's subjects can be tokenized at all: the token entry is asked with ids of their form."""

from __future__ import annotations

import string
from collections.abc import Iterator

from tokenweir.core import tokens
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.models import DigitsForm, Form, Policy, Tokenize
from tokenweir.core.policy.report import Report
from tokenweir.core.tokens import TokenFormat
from tokenweir.core.tokens.specs import (
    ImeiSpec,
    NameSpec,
    NationalSpec,
    PanSpec,
    PatternSpec,
    PermutationSpec,
    SsnSpec,
    TokenSpec,
)
from tokenweir.errors import InvalidValueError

_UUIDS = ("00000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff")


def check_subjects(report: Report, table: ClassTable) -> None:
    """Add an error for each subject type whose class is tokenized by an entry that cannot take an id of its form.

    Every record of such a subject would be rejected.
    """
    policy = report.loaded.policy
    for name, subject in policy.subjects.items():
        for entry in _entries(policy, table, subject.class_):
            if isinstance(policy.tokens[entry], NameSpec):
                message = f"ids of '{name}' become names of the token entry '{entry}', which many of them share"
                remedy = "tokenize the class with an entry of another format"
                report.error(("subjects", name, "class"), "subject-name", message, remedy)
            elif not _takes(policy.tokens[entry], subject.form):
                form = f"{subject.form.digits} digits" if isinstance(subject.form, DigitsForm) else str(subject.form)
                message = (
                    f"ids of '{name}' have the form {form}, which the token entry '{entry}' "
                    f"(format {policy.tokens[entry].format}) does not take"
                )
                remedy = "correct the form, or tokenize the class with an entry that fits it"
                report.error(("subjects", name, "form"), "subject-token", message, remedy)


def _entries(policy: Policy, table: ClassTable, class_name: str) -> Iterator[str]:
    """Yield the token entries that some treatment of a class uses, as far as they exist."""
    if not table.declared(class_name):
        return
    used = (rule.do.tokenize for rule in table.treatments(class_name) if isinstance(rule.do, Tokenize))
    yield from (entry for entry in dict.fromkeys(used) if entry in policy.tokens)


def _takes(spec: TokenSpec, form: Form) -> bool:
    samples = _samples(form)
    try:
        token_format = tokens.build(spec)
    except ValueError:
        return True  # Its domain is too small, which is a finding of its own.
    if isinstance(spec, PanSpec | ImeiSpec):
        # A form says nothing of check digits, so it is enough if one of ten makes a card number.
        return not samples or any(
            _prepares(token_format, sample[:-1] + check) for sample in samples for check in string.digits
        )
    if isinstance(spec, PatternSpec | PermutationSpec | SsnSpec | NationalSpec):
        # They may say more of the ids than the form does, so only the length is compared.
        shortest, longest = token_format.token_length
        return not samples or any(shortest <= len(sample) <= (longest or len(sample)) for sample in samples)
    return all(_prepares(token_format, sample) for sample in samples)


def _prepares(token_format: TokenFormat, sample: str) -> bool:
    if sample in token_format.null_values:
        return True
    try:
        token_format.prepare(sample)
    except InvalidValueError:
        return False
    return True


def _samples(form: Form) -> tuple[str, ...]:
    """Return ids at the edges of a form; none for text, of which nothing is known."""
    if isinstance(form, DigitsForm):
        return "1".zfill(form.digits), "9" * form.digits
    return _UUIDS if form == "uuid" else ()
