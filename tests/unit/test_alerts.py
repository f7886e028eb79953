"""The alert rules name metrics, labels and pages that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tokenweir.telemetry import metrics

_ROOT = Path(__file__).parents[2]
_RULES: list[dict[str, Any]] = YAML(typ="safe").load(_ROOT / "deploy/prometheus/rules/tokenweir.yaml")["groups"][0][
    "rules"
]
_KNOWN = metrics.METRICS


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """A metric that was renamed would make its alert silent for ever, and so would a label."""
    names = set(re.findall(r"tokenweir_\w+", rule["expr"]))
    assert names <= _KNOWN.keys()
    labels = {label for name in names for label in _KNOWN[name].labels} | {"instance"}
    asked = set(re.findall(r"by \((.*?)\)", rule["expr"])) | set(
        re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
    )
    assert {label.strip() for text in asked for label in text.split(",")} <= labels


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_a_rule_leads_to_a_page(rule: dict[str, Any]) -> None:
    """Whoever is woken up finds what to do."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (_ROOT / page).read_text(), re.MULTILINE)
    assert not anchor or anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
