"""What the nodes of one attempt have that differs: other code, other packages. Pure.

The first process of a launch on each node captures; one of the captures stands for all, and what others have that it
has not is a reason to doubt that the run can be repeated.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["node_differences", "rank_differences"]

RANKS_NAMED_MAX = 10
_GPU_STACK = ("driver", "cuda", "cudnn", "nccl")
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
        builds = _builds(body, other)
        if builds:
            found.append(f"node {node_id} has other builds of the same versions: {builds}")
        stack = [
            f"{name} {other[name]}, not {body[name]}"
            for name in _GPU_STACK
            if body.get(name) and other.get(name) and body[name] != other[name]
        ]
        if stack:
            found.append(f"node {node_id} has another GPU stack: {'; '.join(stack)}")
    return found


def rank_differences(first: Mapping[str, Any], others: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """For each rank of `others` (to its last word on its process) that differs from `first`, a sentence; by rank.

    Loaded libraries and determinism flags are compared, not seeds: ranks may well have seeds of their own."""
    mine, found = _settings_of(first), []
    for rank, other in sorted(others.items()):
        its = _settings_of(other)
        names = [name for name in sorted(mine.keys() & its.keys()) if mine[name] != its[name]]
        if names:
            named = "; ".join(f"{name} {its[name]}, not {mine[name]}" for name in names[:PACKAGES_NAMED_MAX])
            found.append(f"rank {rank} ran with {named}")
    return found[:RANKS_NAMED_MAX]


def _settings_of(body: Mapping[str, Any]) -> dict[str, str]:
    told = {**(body.get("libraries") or {}), **(body.get("randomness") or {})}
    return {
        name: value
        for name, value in told.items()
        if not name.endswith(".path")
        and (not name.startswith("seed/") or name == "seed/PYTHONHASHSEED")
        and name != "stage"
    }


def _builds(mine: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    ids, other_ids = mine.get("package_ids") or {}, its.get("package_ids") or {}
    versions, other_versions = mine.get("packages") or {}, its.get("packages") or {}
    names = [
        name
        for name in sorted(ids.keys() & other_ids.keys())
        if ids[name] != other_ids[name] and versions.get(name) == other_versions.get(name)
    ]
    more = len(names) - PACKAGES_NAMED_MAX
    return ", ".join(names[:PACKAGES_NAMED_MAX]) + (f"; {more} more" if more > 0 else "")


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
