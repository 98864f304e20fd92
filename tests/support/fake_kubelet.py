"""Services of a Kubernetes node for tests: real gRPC servers on unix sockets, that answer what a test tells them."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from trainledger.node.kubernetes.kubelet_watch import KubeletLook, KubeletWatch
from trainledger.node.kubernetes.messages import message_class
from trainledger.node.kubernetes.places import KubeletPlaces

__all__ = ["FakeKubelet", "RpcServer", "SteppedWatch", "short_folder"]

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class RpcServer:
    """A server on a socket; `answers`: what each method ("package.Service/Method") gives, from bytes to bytes."""

    def __init__(self, socket: Path, answers: dict[str, Answer]) -> None:
        self.socket = socket
        self.answers = answers
        self.calls: list[str] = []
        self._server: Any = None
        self.start()

    def start(self) -> None:
        """Serve, also again after `stop`: a service that was restarted."""
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[_Any(self)])
        self._server.add_insecure_port(f"unix://{self.socket}")
        self._server.start()

    def stop(self) -> None:
        """Stop serving, and take the socket away."""
        self._server.stop(0).wait()
        self.socket.unlink(missing_ok=True)


class _Any(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    def __init__(self, server: RpcServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        method = details.method.lstrip("/")
        answer = self._server.answers.get(method)
        self._server.calls.append(method)
        return None if answer is None else grpc.unary_unary_rpc_method_handler(answer)


class FakeKubelet:
    """What a kubelet says and keeps: its socket, the folders of logs, control groups."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = KubeletPlaces(root / "kubelet", root / "logs", root / "cgroup")
        self.listed = message_class("v1", "ListPodResourcesResponse")()
        self.allocatable = message_class("v1", "AllocatableResourcesResponse")()
        self.hangs = threading.Event()
        self.go_on = threading.Event()
        answers: dict[str, Answer] = {
            "v1.PodResourcesLister/List": lambda _, context: self._say(self.listed, context),
            "v1.PodResourcesLister/GetAllocatableResources": lambda _, context: self._say(
                self.allocatable, context
            ),
        }
        self.server = RpcServer(self.places.socket, answers)

    def give_away(self, *device_ids: str, resource: str = "nvidia.com/gpu") -> "FakeKubelet":
        """Let these devices be allocatable."""
        self.allocatable.devices.add(resource_name=resource, device_ids=device_ids)
        return self

    def pod(
        self,
        name: str,
        *device_ids: str,
        uid: str = "",
        cores: tuple[int, ...] = (),
        resource: str = "nvidia.com/gpu",
    ) -> "FakeKubelet":
        """A pod ("namespace/name") with one container that holds these; with `uid`, it has begun and lives."""
        namespace, _, short = name.partition("/")
        container = self.listed.pod_resources.add(namespace=namespace, name=short).containers.add(
            cpu_ids=cores
        )
        if device_ids:
            container.devices.add(resource_name=resource, device_ids=device_ids)
        if uid:
            self.folder(name, uid)
        return self

    def folder(self, name: str, uid: str, *, began: bool = True, lives: bool = True) -> None:
        """The folder of a pod's logs, with a log if it began, and its control group while it lives."""
        container = self.places.logs / f"{name.replace('/', '_')}_{uid}" / "main"
        container.mkdir(parents=True)
        if began:
            (container / "0.log").touch()
        if lives:
            group = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
            (self.places.cgroups / "kubepods.slice" / "kubepods-burstable.slice" / group).mkdir(parents=True)

    def gone(self, uid: str) -> None:
        """Take the control group of a pod away: it has ended."""
        group = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        (self.places.cgroups / "kubepods.slice" / "kubepods-burstable.slice" / group).rmdir()

    def close(self) -> None:
        """Stop, and let calls that hang go."""
        self.go_on.set()
        self.server.stop()

    def _say(self, message: Any, context: grpc.ServicerContext) -> bytes:
        if self.hangs.is_set():
            self.go_on.wait(60)
        said: bytes = message if isinstance(message, bytes) else message.SerializeToString()
        return said


class SteppedWatch(KubeletWatch):
    """A watch of the kubelet whose rounds the test turns itself."""

    def latest(self) -> KubeletLook | None:
        """What the last round brought."""
        return self._look


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name: at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="tlk"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
