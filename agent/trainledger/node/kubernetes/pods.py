"""Which pods are on this node, and which of them are not over, from the files that the kubelet keeps.

    /var/log/pods/<namespace>_<name>_<uid>     until the pod is deleted
    /sys/fs/cgroup/kubepods[...]/...pod<uid>   until the pod has ended, whether a container of it runs now or not

The kubelet's list of who holds a device has names, a process's control group has the uid; the folders of the logs have
both and need no credentials, and names in Kubernetes have no underscore. A pod of a file on the node (static) has the
hash of that file as its uid, in both places.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Pod", "living_pods", "pods_of"]

PODS_MAX = 10_000
# Of version 1, any controller that the kubelet uses will do.
_HIERARCHIES = (".", "memory", "cpu,cpuacct", "cpu")
# The last two: a cluster inside containers (kind).
_TOPS = ("kubepods.slice", "kubepods", "kubelet.slice/kubelet-kubepods.slice", "kubelet/kubepods")
_QOS = ("", "burstable", "besteffort")
_POD = re.compile(r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?")


class Pod(NamedTuple):
    """`began`: a container of it was started once, so that a pod without processes may have ended."""

    namespace: str
    name: str
    uid: str
    began: bool


def pods_of(logs: Path) -> list[Pod]:
    """The pods that have a folder for logs; of one name the newest last. Never raises: no folder, no pods."""
    found: list[tuple[int, Pod]] = []
    for folder in list(_names(logs))[:PODS_MAX]:
        parts = folder.split("_")
        if len(parts) == 3 and all(parts):
            pod = Pod(parts[0], parts[1], parts[2], _has_log(logs / folder))
            found.append((_changed_ns(logs / folder), pod))
    return [pod for _, pod in sorted(found)]


def living_pods(cgroups: Path) -> frozenset[str] | None:
    """The uids of pods that have a control group; None when the kubelet's are not to be seen here. Never raises."""
    for hierarchy in _HIERARCHIES:
        tops = [cgroups / hierarchy / top for top in _TOPS]
        top = next((top for top in tops if top.is_dir()), None)
        if top is not None:
            return frozenset(_pods_below(top))
    return None


def _pods_below(top: Path) -> Iterator[str]:
    for qos in _QOS:
        below = top / (f"{top.stem}-{qos}.slice" if top.suffix else qos) if qos else top
        for name in _names(below):
            found = _POD.fullmatch(name)
            if found is not None:
                yield found[1].replace("_", "-")


def _has_log(pod: Path) -> bool:
    # The runtime makes the file when it starts a container.
    return any(list(_names(pod / container)) for container in _names(pod))


def _names(folder: Path) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
