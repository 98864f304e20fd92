"""What the nodes of one attempt have that differs: other code, other packages. Pure.

The first process of a launch on each node captures; one of the captures stands for all, and what others have that it
has not is a reason to doubt that the run can be repeated.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["node_differences"]

PACKAGES_NAMED_MAX = 3


def node_differences(body: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For each node of `others` (node id to its capture) that is not as `body` says, a sentence; by node id."""
    found = []
    for node_id, other in sorted(others.items()):
        mine, its = body.get("snapshot_id"), other.get("snapshot_id")
        if mine and its and mine != its:
            found.append(f"node {node_id} ran other code: {its[:12]}, not {mine[:12]}")
        packages = _packages(body.get("packages") or {}, other.get("packages") or {})
        if packages:
            found.append(f"node {node_id} has other packages: {packages}")
    return found


def _packages(mine: Mapping[str, str], its: Mapping[str, str]) -> str:
    if not mine or not its:
        return ""
    names = [name for name in sorted({*mine, *its}) if mine.get(name) != its.get(name)]
    named = [
        f"{name} {its.get(name, 'missing')}, not {mine.get(name, 'missing')}"
        for name in names[:PACKAGES_NAMED_MAX]
    ]
    more = len(names) - len(named)
    return "; ".join(named) + (f"; {more} more" if more else "")
