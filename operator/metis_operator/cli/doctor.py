"""``doctor``: finds the common faults of a cluster and of what runs on it, and explains them."""

from __future__ import annotations

import argparse
from collections import Counter

from . import checks_cluster, checks_product
from .command import Context
from .diagnosis import Check, Finding, Severity, diagnose
from .exits import Exit
from .layout import Node, tree

NAME = "doctor"
SUMMARY = "find the common faults, and say what to do about each"
DESCRIPTION = (
    "Looks at the cluster (version, nodes, storage classes, GPUs, DNS, network policies, clocks), "
    "at the CRD and the operator, at the MetisRAGs with their pods, volumes and quotas, and at "
    "what you may do. Needs neither a MetisRAG nor the operator, and changes nothing. Without -n "
    "it looks at all namespaces, or, where you may not, at yours. Ends with 2 when there is "
    "trouble."
)
EXAMPLES = (
    ("doctor", "the cluster and all MetisRAGs on it"),
    ("doctor -n second", "those of one namespace"),
    ("doctor -o json", "for a program"),
)
CHECKS: tuple[Check, ...] = (
    checks_product.instances,
    checks_product.pods,
    checks_product.operator,
    checks_product.crd,
    checks_cluster.storage,
    checks_cluster.gpus,
    checks_product.quota,
    checks_cluster.nodes,
    checks_cluster.dns,
    checks_cluster.network,
    checks_cluster.clock,
    checks_cluster.server,
    checks_product.rights,
)
_MARKS = {
    Severity.TROUBLE: ("bad", "bad"),
    Severity.WARNING: ("hint", "warn"),
    Severity.INFO: ("fact", ""),
    Severity.FINE: ("good", "dim"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no arguments of its own."""


async def run(context: Context) -> int:
    """Look, and tell."""
    from .looking import gather

    async with context.connect() as session:
        facts = await gather(session, context.arguments.namespace)
    found = diagnose(facts, CHECKS)
    _show(context, found)
    bad = any(f.severity is Severity.TROUBLE for f in found)
    return Exit.ATTENTION if bad else Exit.OK


def _show(context: Context, found: list[Finding]) -> None:
    if context.as_json:
        context.print_json({"findings": [f.as_json() for f in found]})
        return
    for line in tree([_node(f) for f in found], context.terminal):
        context.terminal.print(line)
    context.terminal.print()
    context.terminal.print(verdict(found))


def _node(finding: Finding) -> Node:
    mark, style = _MARKS[finding.severity]
    if finding.severity in (Severity.FINE, Severity.INFO):
        text = " ".join(t for t in (finding.what, finding.todo) if t)
        return Node([finding.check, text], mark, styles=("strong", style))
    return Node(
        [finding.check], mark, f"{finding.what}\n{finding.todo}", styles=(f"strong {style}",)
    )


def verdict(found: list[Finding]) -> str:
    """All of it in a sentence."""
    counts = Counter(f.severity for f in found)
    bad, odd = counts[Severity.TROUBLE], counts[Severity.WARNING]
    if not bad and not odd:
        return "No trouble found."
    counted = [f"{n} {w}{'s' if n > 1 else ''}" for n, w in ((bad, "fault"), (odd, "warning")) if n]
    return f"Found: {', '.join(counted)}."
