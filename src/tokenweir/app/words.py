"""Treatments in the words of the policy file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenweir.core.explain import names_of
from tokenweir.core.plan import Action, Rules, to_plain


def describe_action(action: Action) -> str:
    """Return a treatment as the policy writes it: ``tokenize customer``, ``generalize time: hour``."""
    if action.kind == "tokenize":
        return f"tokenize {action.token}"
    if action.generalize is None:
        return action.kind
    parts = to_plain(action.generalize).items()
    return "generalize " + ", ".join(f"{key}: {_flow(value)}" for key, value in parts)


def _flow(value: Any) -> str:  # noqa: ANN401 - plain data of any kind.
    """Return plain data in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def describe_rules(rules: Rules, purposes: Sequence[str]) -> str:
    """Return all treatments of a place in order: ``keep if location_offers; otherwise generalize cell: h3``."""
    parts = []
    for rule in rules.rules:
        names = names_of(rule.when, purposes)
        condition = f" if {' and '.join(names)}" if names else ""
        parts.append(f"{describe_action(rule.action)}{condition}")
    return "; otherwise ".join(parts)
