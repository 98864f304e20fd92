"""Which image a process's container was made from, as its runtime says: by Docker's API, which Podman serves too, else
by that of Kubernetes (`kubernetes.runtime_images`).

    pid -> container id, from its control group, else from what is mounted in it
        -> GET /containers/<id>/json: the image's own id and its name
        -> GET /images/<id>/json: RepoDigests, under which a registry knows it

Guarantees: each container is asked about once; a runtime that does not answer costs ASK_S_MAX once in RETRY_S. The id
of an image alone is no digest: no registry can be asked for it, so an image that was never pushed or pulled has none.
Limits: the sockets in SOCKETS and CRI_SOCKETS, where this process may connect; containers whose id is 64 hexadecimal
digits.
"""

import http.client
import json
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from trainledger_schemas.clock import Clock

__all__ = ["CRI_SOCKETS", "SOCKETS", "ContainerImages", "Image", "container_of", "digest_of"]

SOCKETS = (Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"))
# containerd, CRI-O, k3s and RKE2, k0s, MicroK8s, Docker below Kubernetes.
CRI_SOCKETS = (
    Path("/run/containerd/containerd.sock"),
    Path("/run/crio/crio.sock"),
    Path("/run/k3s/containerd/containerd.sock"),
    Path("/run/k0s/containerd.sock"),
    Path("/var/snap/microk8s/common/run/containerd.sock"),
    Path("/run/cri-dockerd.sock"),
)
ASK_S_MAX = 1.0
RETRY_S = 300
ANSWER_BYTES_MAX = 4 << 20
REMEMBERED_MAX = 1000
_TEXT_BYTES_MAX = 256 * 1024
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# Files that a runtime keeps for a container and mounts into it.
_MOUNTED = re.compile(r"containers/(?:overlay-containers/)?([0-9a-f]{64})/(?:hostname|resolv\.conf|userdata)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Image(NamedTuple):
    """`digest` is that of a registry, None for an image that none knows; `name` as the container was started with."""

    digest: str | None
    name: str | None


_Asker = Callable[[Path, str], Image | None]


class ContainerImages:
    """Asks the runtimes of this machine, and remembers their answers."""

    def __init__(
        self,
        clock: Clock,
        sockets: Sequence[Path] = SOCKETS,
        *,
        cri_sockets: Sequence[Path] = (),
        proc: Path = Path("/proc"),
    ) -> None:
        self._proc = proc
        self._clock = clock
        askers = [*((path, _ask) for path in sockets), *((path, _ask_by_cri) for path in cri_sockets)]
        self._askers: tuple[tuple[Path, _Asker], ...] = tuple(askers)
        self._known: OrderedDict[str, Image] = OrderedDict()
        self._ask_from_ns: dict[Path, int] = {}

    def image_of(self, pid: int) -> Image | None:
        """The image of a process; None when it is in no container, or nobody knows. Never raises."""
        container = container_of(pid, self._proc) if pid else None
        if container is None:
            return None
        if container not in self._known:
            image = self._ask_all(container)
            if image is None:
                return None
            self._known[container] = image
            while len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return self._known[container]

    def _ask_all(self, container: str) -> Image | None:
        for path, ask in self._askers:
            if self._clock.monotonic_ns() < self._ask_from_ns.get(path, 0) or not path.exists():
                continue
            try:
                image = ask(path, container)
            except (OSError, ValueError, http.client.HTTPException, ImportError):
                # May not be asked, or hangs, or is none; or gRPC is not installed.
                self._ask_from_ns[path] = self._clock.monotonic_ns() + RETRY_S * 10**9
                continue
            if image is not None:
                return image
        return None


def container_of(pid: int, proc: Path = Path("/proc")) -> str | None:
    """The id of the container that a process runs in, None if it runs in none that shows."""
    # The innermost group comes last: a container in a container.
    ids = _ID.findall(_text(proc / str(pid) / "cgroup"))
    return ids[-1] if ids else next(iter(_MOUNTED.findall(_text(proc / str(pid) / "mountinfo"))), None)


def _ask(path: Path, container: str) -> Image | None:
    told = _get(path, f"/containers/{container}/json")
    if not isinstance(told, dict):
        return None
    config = told.get("Config")
    name = config.get("Image") if isinstance(config, dict) else None
    name = name if isinstance(name, str) else None
    image = told.get("Image")
    details = (
        _get(path, f"/images/{image}/json") if isinstance(image, str) and _DIGEST.fullmatch(image) else None
    )
    digests = details.get("RepoDigests") if isinstance(details, dict) else None
    return Image(digest_of(digests, name), name)


def _ask_by_cri(path: Path, container: str) -> Image | None:
    # Not at the top: gRPC costs 60 ms and 15 MB, on nodes with such a runtime alone.
    from .kubernetes.runtime_images import ask_runtime

    return ask_runtime(path, container)


def digest_of(digests: Any, name: str | None) -> str | None:
    """Of several registries' digests that of the one the container was started from."""
    found = sorted(str(digest).rpartition("@") for digest in digests or () if "@sha256:" in str(digest))
    own = (name or "").partition("@")[0]
    # A tag stands behind the last colon, unless that is the port of a registry.
    own = own.rpartition(":")[0] if ":" in own.rpartition("/")[2] else own
    found.sort(key=lambda parts: parts[0] != own)
    return found[0][2] if found and _DIGEST.fullmatch(found[0][2]) else None


def _get(path: Path, url: str) -> Any:
    """The JSON of an answer; None when the runtime does not know it. Raises OSError, ValueError, HTTPException."""
    with closing(_UnixConnection(path)) as connection:
        connection.request("GET", url)
        answer = connection.getresponse()
        body = answer.read(ANSWER_BYTES_MAX)
        return json.loads(body) if answer.status == 200 else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ASK_S_MAX)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ASK_S_MAX)
        self.sock.connect(str(self._path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_TEXT_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
