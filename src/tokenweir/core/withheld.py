"""Why a record is withheld from an output, in words: for people who look, as the engine itself only counts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenweir.core.bound import BoundOutput, BoundPlan
from tokenweir.core.consent import ERASED_SOURCE, PurposeRule, SubjectConsent, Verdict, answer
from tokenweir.core.consent.states import EVERY_PURPOSE
from tokenweir.core.subjects import Subject


def why_withheld(  # noqa: PLR0913  # One argument for each thing that the answer depends on.
    bound: BoundPlan,
    output: BoundOutput,
    rules: Sequence[PurposeRule],
    subjects: Sequence[Subject],
    consent: Callable[[Subject], SubjectConsent],
    *,
    event_time_ms: int,
    now_ms: int,
) -> str:
    """Return why the engine withholds a record, by the rules of the plan's purposes in their order."""
    if not subjects:
        return "nothing of it may leave without a data subject" if bound.plan.anonymous else "it names no data subject"
    primary, *others = [consent(subject) for subject in subjects]
    requires, purposes = output.output.requires, bound.plan.purposes
    recipients = frozenset(output.output.recipients)
    event_time_ms = min(event_time_ms, now_ms)
    passed, missing = 0, []
    for bit, (name, rule) in enumerate(zip(purposes, rules, strict=True)):
        if not output.output.served >> bit & 1:
            continue
        why = _why_not(rule, primary, others, event_time_ms=event_time_ms, now_ms=now_ms, recipients=recipients)
        if not why:
            passed |= 1 << bit
        elif requires.mask >> bit & 1:
            missing.append(f"{name}: {why}")
    if requires.met(passed):
        return "nothing of it may leave for the purposes that pass"
    return ("; " if requires.all else " and ").join(missing)


def _why_not(  # noqa: PLR0911, PLR0913  # One answer for each cause.
    rule: PurposeRule,
    primary: SubjectConsent,
    others: Sequence[SubjectConsent],
    *,
    event_time_ms: int,
    now_ms: int,
    recipients: frozenset[str],
) -> str:
    """Return why a purpose does not pass, "" where it does."""
    if rule.passes(
        primary, others, event_time_ms=event_time_ms, now_ms=now_ms, recipients=recipients, sticky=frozenset()
    ):
        return ""
    if event_time_ms < now_ms - rule.retention_days * 86_400_000:
        return "the event is older than its retention"
    if ERASED_SOURCE in primary.states:
        return "the person was erased"
    if primary.undecodable:
        return "a decision of the person, or a key of the consent topic, cannot be read"
    kind, since_ms = answer(primary, rule.name, now_ms)
    if kind is Verdict.DENY:
        return "denied"
    if primary.minor and rule.minors == "refuse":
        return "the person is a minor"
    if any(f"{name}@{each}" in primary.recipient_denials for name in (rule.name, EVERY_PURPOSE) for each in recipients):
        return "denied for a recipient"
    if rule.passes(primary, (), event_time_ms=event_time_ms, now_ms=now_ms, recipients=recipients, sticky=frozenset()):
        return "another person in the record denies"
    if kind is Verdict.ALLOW and since_ms is not None and event_time_ms < since_ms:
        return "allowed only after the event"
    return "nothing is known of the person's decision"
