"""Where the kubelet and others keep what is read here; the defaults are those of nearly every distribution."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["KubeletPlaces"]


@dataclass(frozen=True, slots=True)
class KubeletPlaces:
    """`folder`: the kubelet's (`--root-dir`); `logs`: a folder for each pod."""

    folder: Path = Path("/var/lib/kubelet")
    logs: Path = Path("/var/log/pods")
    cgroups: Path = Path("/sys/fs/cgroup")

    @property
    def socket(self) -> Path:
        """The socket of the podresources service."""
        return self.folder / "pod-resources" / "kubelet.sock"

    @property
    def pods(self) -> Path:
        """A folder for each pod, with its volumes."""
        return self.folder / "pods"
