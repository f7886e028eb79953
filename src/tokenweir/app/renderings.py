"""Findings in the forms that editors, CI systems and code scanning read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final

from tokenweir import __version__
from tokenweir.app.rules import RULES
from tokenweir.errors import Finding

FORMAT_VERSION: Final = 1
"""Version of the JSON form; it changes when a key changes its meaning or goes."""

_SARIF_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_json(findings: Sequence[Finding], not_checked: Sequence[str] = ()) -> str:
    """Return one JSON document with all findings, their numbers, and in words what nobody looked at."""
    errors = sum(finding.severity == "error" for finding in findings)
    document = {
        "format_version": FORMAT_VERSION,
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [
            {
                "file": finding.file,
                "line": finding.line,
                "column": finding.column,
                "severity": finding.severity,
                "rule": finding.rule,
                "message": finding.message,
                "remedy": finding.remedy,
            }
            for finding in findings
        ],
        "not_checked": list(not_checked),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def as_github(findings: Sequence[Finding]) -> str:
    """Return workflow commands of GitHub Actions, one line a finding: they become annotations of a pull request."""
    return "\n".join(_annotation(finding) for finding in findings)


def _annotation(finding: Finding) -> str:
    parts = {"file": finding.file, "title": finding.rule}
    if finding.line:
        parts |= {"line": str(finding.line), "col": str(finding.column)}
    properties = ",".join(f"{key}={_escape_property(value)}" for key, value in parts.items())
    return f"::{finding.severity} {properties}::{_escape(_sentence(finding))}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")


def _sentence(finding: Finding) -> str:
    return f"{finding.message} ({finding.remedy})" if finding.remedy else finding.message


def as_sarif(findings: Sequence[Finding]) -> str:
    """Return a SARIF 2.1.0 log (OASIS), for code scanning."""
    used = sorted({finding.rule for finding in findings})
    rules = [{"id": rule, "shortDescription": {"text": RULES.get(rule, rule)}} for rule in used]
    driver = {"name": "tokenweir", "version": __version__, "rules": rules}
    results = [_result(finding, used.index(finding.rule)) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": PurePath(finding.file).as_posix()}}
    if finding.line:
        location["region"] = {"startLine": finding.line, "startColumn": max(finding.column, 1)}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.severity,
        "message": {"text": _sentence(finding)},
        "locations": [{"physicalLocation": location}],
    }
