"""The classes of a policy and what becomes of each for an audience, before any consent is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tokenweir.core.policy.models import ClassRule, Do, Policy, Tokenize, Treatment


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """One treatment as it can happen at run time: ``do`` applies where every purpose of ``when`` passes."""

    when: frozenset[str]
    do: Do


class ClassTable:
    """Answers what a policy says of a class. Classes that are not declared have no treatment: nothing leaves."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._classes = policy.classes
        self._rules: dict[tuple[str, str], tuple[ResolvedRule, ...]] = {}

    def declared(self, name: str) -> bool:
        """Say whether the policy declares this class."""
        return name in self._classes

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return the declared classes above this one, the nearest first."""
        parts = name.split(".")
        above = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
        return tuple(ancestor for ancestor in above if ancestor in self._classes)

    def is_descendant(self, name: str, ancestor: str) -> bool:
        """Say whether a class stands below another one; a class is not its own descendant."""
        return name.startswith(f"{ancestor}.")

    def covers(self, pattern: str, name: str) -> bool:
        """Say whether a class pattern covers a class; see :func:`covers`."""
        return covers(pattern, name)

    def never(self, audience: str, name: str) -> bool:
        """Say whether the audience may never get this class, whatever the treatments say."""
        return any(covers(pattern, name) for pattern in self._policy.audiences[audience].never)

    def rules(self, class_name: str, audience_name: str) -> tuple[ResolvedRule, ...]:
        """Return the treatments that can happen for an audience, in order; empty where the class never leaves.

        What cannot happen is gone: treatments for other audiences, treatments that wait for a purpose that the
        audience does not serve, all that stands after an unconditional one, and drops at the end.
        """
        known = self._rules.get((class_name, audience_name))
        if known is None:
            known = self._rules[class_name, audience_name] = self._resolve(class_name, audience_name)
        return known

    def treatments(self, name: str) -> tuple[Treatment, ...]:
        """Return the treatments of a class as written, its own or those of its nearest ancestor that has some."""
        source = self.source(name)
        return () if source is None else own_treatments(self._classes[source])

    def source(self, name: str) -> str | None:
        """Return the class whose treatments apply to this one: itself, an ancestor, or None if there are none."""
        candidates = (name, *self.ancestors(name)) if name in self._classes else ()
        return next((candidate for candidate in candidates if own_treatments(self._classes[candidate])), None)

    def always(self, name: str) -> bool:
        """Say whether the class is in every derived record; ``always`` is not inherited."""
        return name in self._classes and self._classes[name].always

    def links(self, name: str) -> Literal["event", "person"] | None:
        """Return what the class would join: as written here or above, else ``person`` where it is tokenized."""
        for candidate in (name, *self.ancestors(name)):
            rule = self._classes.get(candidate)
            if rule is not None and rule.links is not None:
                return rule.links
        return "person" if any(isinstance(each.do, Tokenize) for each in self.treatments(name)) else None

    def special(self, name: str) -> bool:
        """Say whether the class, or one above it, is a special category."""
        lineage = (name, *self.ancestors(name))
        return any(self._classes[candidate].special for candidate in lineage if candidate in self._classes)

    def on_invalid(self, name: str) -> Literal["drop", "reject"]:
        """Return what happens to a value that does not fit: as written here, or where the treatments come from."""
        for candidate in (name, self.source(name)):
            if candidate in self._classes and "on_invalid" in self._classes[candidate].model_fields_set:
                return self._classes[candidate].on_invalid
        return "drop"

    def _resolve(self, class_name: str, audience_name: str) -> tuple[ResolvedRule, ...]:
        audience = self._policy.audiences[audience_name]
        if self.never(audience_name, class_name):
            return ()
        served = frozenset(audience.purposes)
        resolved: list[ResolvedRule] = []
        for treatment in self.treatments(class_name):
            when = frozenset(treatment.when)
            if (treatment.for_ is None or audience_name in treatment.for_) and when <= served:
                resolved.append(ResolvedRule(when, treatment.do))
                if not when:
                    break
        while resolved and resolved[-1].do == "drop":
            resolved.pop()
        return tuple(resolved)


def own_treatments(rule: ClassRule) -> tuple[Treatment, ...]:
    """Return the treatments that a class itself has; ``do`` is short for one."""
    if rule.treatments is not None:
        return tuple(rule.treatments)
    if rule.do is None:
        return ()
    conditions = {"for": rule.for_, "when": rule.when}
    given = {key: value for key, value in conditions.items() if value is not None}
    return (Treatment.model_validate({"do": rule.do, **given}, by_alias=True),)


def covers(pattern: str, name: str) -> bool:
    """Say whether a pattern covers a class.

    ``special.**`` covers ``special`` and everything below it, ``contact.*`` one level, ``contact`` itself only;
    ``?`` and ``*`` stand for characters within one part of the name.
    """
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    expression = ""
    for index, part in enumerate(pattern.split(".")):
        if part == "**":
            expression += r"(?:\.[^.]+)*" if index else r"[^.]+(?:\.[^.]+)*"
        else:
            characters = re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
            expression += (r"\." if index else "") + characters
    return re.compile(expression)
