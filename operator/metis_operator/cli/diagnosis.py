"""What ``doctor`` finds. Pure: facts go in, findings come out, each with what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .facts import Facts


class Severity(enum.StrEnum):
    """How much a finding matters."""

    TROUBLE = "trouble"
    WARNING = "warning"
    INFO = "info"
    FINE = "fine"


@dataclass(frozen=True)
class Finding:
    """One thing found: the check that found it, about what, what is so, and what to do."""

    severity: Severity
    check: str
    what: str
    todo: str = ""

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {
            "severity": self.severity.value,
            "check": self.check,
            "what": self.what,
            "todo": self.todo,
        }


Check = Callable[[Facts], Iterator[Finding]]


def diagnose(facts: Facts, checks: tuple[Check, ...]) -> list[Finding]:
    """All findings, the worst first; in the order of the checks among equals."""
    found = [finding for check in checks for finding in check(facts)]
    order = list(Severity)
    return sorted(found, key=lambda f: order.index(f.severity))


def trouble(check: str, what: str, todo: str) -> Finding:
    """Something does not work."""
    return Finding(Severity.TROUBLE, check, what, todo)


def warning(check: str, what: str, todo: str) -> Finding:
    """Something may not work, or soon not."""
    return Finding(Severity.WARNING, check, what, todo)


def info(check: str, what: str, todo: str = "") -> Finding:
    """Good to know."""
    return Finding(Severity.INFO, check, what, todo)


def fine(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(Severity.FINE, check, what)
