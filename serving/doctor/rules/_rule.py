"""Registry of the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serving.doctor.facts import Facts, Finding

Rule = Callable[[Facts], Iterable[Finding]]
RULES: list[Rule] = []
LEVELS = ("error", "warning", "note")


def rule(function: Rule) -> Rule:
    """Registers a rule."""
    RULES.append(function)
    return function


def judge(facts: Facts) -> list[Finding]:
    """Returns the findings of all rules on the parts that are there, errors first."""
    found = [finding for one in RULES for finding in one(facts)]
    if not facts.trains:
        found = [
            x._replace(concerns="serving") if x.concerns == "both" else x
            for x in found
            if x.concerns != "training"
        ]
    return sorted(found, key=lambda x: LEVELS.index(x.level))
