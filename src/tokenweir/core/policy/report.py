"""Collects what is found in a loaded policy, each with its place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.core.policy.rules import RULES
from tokenweir.errors import Finding
from tokenweir.validation import suggest
from tokenweir.yamlsource import Path

#: What is declared, where the rule's own word is too short for a sentence.
_WORDS: Final = {"token": "token entry", "subject": "subject type"}


@dataclass(slots=True)
class Report:
    """The findings so far. Every rule must stand in :data:`tokenweir.core.policy.rules.RULES`."""

    loaded: LoadedPolicy
    findings: list[Finding] = field(default_factory=list)

    def error(self, path: Path, rule: str, message: str, remedy: str = "") -> None:
        """Add an error at the value of ``path``."""
        self._add(path, rule, message, remedy, "error")

    def warning(self, path: Path, rule: str, message: str, remedy: str = "") -> None:
        """Add a warning at the key of ``path``; of an element of a list at the element."""
        self._add(path, rule, message, remedy, "warning", at_key=True)

    def error_at_key(self, path: Path, rule: str, message: str, remedy: str = "") -> None:
        """Add an error at the key of ``path``."""
        self._add(path, rule, message, remedy, "error", at_key=True)

    def known(self, path: Path, word: str, name: str, declared: Collection[str]) -> bool:
        """Say whether a name is declared, and add the error ``unknown-<word>`` at its value if it is not."""
        if name in declared:
            return True
        remedy = suggest(name, declared) or (f"one of: {', '.join(declared)}" if declared else "none is declared")
        self.error(path, f"unknown-{word}", f"there is no {_WORDS.get(word, word)} '{name}'", remedy)
        return False

    def _add(  # noqa: PLR0913 - A finding has as many parts.
        self,
        path: Path,
        rule: str,
        message: str,
        remedy: str,
        severity: Literal["error", "warning"],
        *,
        at_key: bool = False,
    ) -> None:
        assert rule in RULES, f"the rule {rule} is not in the table"  # noqa: S101 - A fault of this package only.
        positions = self.loaded.positions
        place = positions.key(path) if at_key else positions.value(path)
        self.findings.append(Finding(self.loaded.file, *place, rule, message, remedy, severity))
