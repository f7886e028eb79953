"""A policy file's text to its typed model, with the digest that identifies it and the place of every part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tokenweir.core.policy.models import Policy
from tokenweir.errors import Finding, FindingsError
from tokenweir.validation import json_schema, validate
from tokenweir.yamlsource import Document, Positions, read_yaml


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy that follows its model; :func:`tokenweir.core.policy.check.check` says whether it makes sense.

    Attributes:
        policy: The policy.
        digest: SHA-256 of the text's UTF-8 bytes in hexadecimal; it identifies the policy everywhere.
        text: The text as it was reviewed.
        file: The name that findings carry.
        positions: Where each key and value stands in the text.
    """

    policy: Policy
    digest: str
    text: str = field(repr=False)
    file: str
    positions: Positions = field(repr=False)


def load_policy(text: str, file: str) -> LoadedPolicy:
    """Return the policy in ``text``; ``file`` is the name that findings carry.

    Raises:
        FindingsError: The text is not a policy; every reason is in it.
    """
    document = read_yaml(text, file)
    findings = list(document.findings)
    policy = None
    if document.complete:
        findings += _interpolations(document)
        policy, faults = validate(Policy, document)
        findings += faults
    if policy is None or findings:
        raise FindingsError(sorted(findings))
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return LoadedPolicy(policy, digest, text, file, document.positions)


def policy_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of a policy file, for editors."""
    return json_schema(Policy, "tokenweir policy")


def _interpolations(document: Document) -> list[Finding]:
    positions = document.positions
    places = [positions.value(path) for path, text in document.texts() if "${" in text]
    places += [place for path, place in positions.keys.items() if "${" in str(path[-1])]
    message = "'${' stands here, and nothing is filled in in a policy"
    return [Finding(document.file, *place, "interpolation", message, "write the value out") for place in places]
