"""A policy's text to its model, with words of their own for two texts that were never meant to be one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tokenweir.core.policy.loader import LoadedPolicy, load_policy
from tokenweir.core.policy.models import Policy
from tokenweir.errors import Finding, FindingsError
from tokenweir.validation import keys_of
from tokenweir.yamlsource import read_yaml

#: Keys at the top of a configuration, and of no policy.
_CONFIGURATION_KEYS: Final = frozenset({"kafka", "registry", "policy", "keys", "gateway", "admin"})

_COMMENT: Final = re.compile(r"(?:^|\s)#.*$")


def load(text: str, file: str) -> LoadedPolicy:
    """Return the policy in ``text``; ``file`` is the name that findings carry.

    Raises:
        FindingsError: The text is not a policy. A configuration is one finding that says so; ``${`` that keeps the
            text from being YAML is named as what it is.
    """
    try:
        return load_policy(text, file)
    except FindingsError as error:
        data = read_yaml(text, file).data
        names = set(data) if isinstance(data, dict) else set()
        if names & _CONFIGURATION_KEYS and not names - {"version"} & set(keys_of(Policy)):
            message = "this is a configuration and no policy"
            raise FindingsError([Finding(file, 1, 1, "other-file", message, "give it with --config")]) from None
        findings = error.findings
        if not any(finding.rule == "interpolation" for finding in findings):
            findings = sorted([*findings, *_interpolations(text, file)])
        raise FindingsError(findings) from None


def _interpolations(text: str, file: str) -> Iterator[Finding]:
    """Yield where ``${`` stands outside of comments, as the raw text shows it."""
    message = "'${' stands here, and nothing is filled in in a policy"
    for number, line in enumerate(text.split("\n"), start=1):
        column = _COMMENT.sub("", line).find("${")
        if column >= 0:
            yield Finding(file, number, column + 1, "interpolation", message, "write the value out")
