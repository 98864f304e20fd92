"""What the kubelet says, over a real gRPC connection; bytes that Kubernetes' own definition encoded are the oracle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.fake_kubelet import FakeKubelet, short_folder
from trainledger.node.kubernetes.messages import message_class
from trainledger.node.kubernetes.pod_holdings import DynamicDevice, HeldDevice
from trainledger.node.kubernetes.pod_resources import read_resources
from trainledger.node.kubernetes.unix_calls import CallError, call

# Encoded by protoc's classes from pkg/apis/podresources/v1/api.proto of kubernetes/kubelet, July 2026, all fields set.
LISTED = bytes.fromhex(
    "0ac3010a07747261696e2d3012026d6c1aae010a046d61696e12250a0e6e76696469612e636f6d2f67707512054750552d6112084750552d623a"
    "3a331a020a001a02020322120a066d656d6f72791080808080201a020a0022140a0d6875676570616765732d324d6910808080012a5112037477"
    "6f1a026d6c22460a220a206b38732e6770752e6e76696469612e636f6d2f636c61696d3d782d6770752d30120e6770752e6e76696469612e636f"
    "6d1a066e6f64652d3122056770752d302a017322030203040a100a03776562120473686f701a030a0163"
)
ALLOCATABLE = bytes.fromhex(
    "0a2b0a0e6e76696469612e636f6d2f67707512054750552d6112084750552d623a3a3012084750552d623a3a3312060001020304051a0f0a066d"
    "656d6f727910808080808002"
)
LIST = ("v1", "ListPodResourcesResponse")


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    with short_folder() as folder:
        fake = FakeKubelet(folder)
        yield fake
        fake.close()


def test_answers_of_a_kubelet_are_read_field_by_field(kubelet: FakeKubelet) -> None:
    kubelet.listed, kubelet.allocatable = LISTED, ALLOCATABLE
    told = read_resources(kubelet.places.socket)
    gpu = "nvidia.com/gpu"
    assert told.allocatable == {HeldDevice(gpu, name) for name in ("GPU-a", "GPU-b::0", "GPU-b::3")}
    (pod,) = told.pods  # the other one holds nothing
    assert (pod.namespace, pod.name) == ("ml", "train-0")
    assert pod.devices == {HeldDevice(gpu, "GPU-a"), HeldDevice(gpu, "GPU-b::3")}
    assert pod.dynamic == {DynamicDevice("ml/two", "gpu.nvidia.com", "node-1", "gpu-0")}
    assert pod.cores == {2, 3, 4}, "those of the container are among those of the pod"
    assert pod.memory_bytes == 8 << 30


def test_kubelet_without_the_newer_call_still_tells_who_holds_what(kubelet: FakeKubelet) -> None:
    kubelet.pod("ml/a", "GPU-1")
    del kubelet.server.answers["v1.PodResourcesLister/GetAllocatableResources"]
    told = read_resources(kubelet.places.socket)
    assert [pod.name for pod in told.pods] == ["a"] and told.allocatable == frozenset()


def refuse(_: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")
    raise AssertionError


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(lambda *_: b"\x0a\xff\xff\xff\xff\x0fno", "malformed", id="malformed"),
        pytest.param(refuse, "resource_exhausted", id="refused"),
        pytest.param(lambda *_: b"\0" * (17 << 20), "resource_exhausted", id="too large"),
    ],
)
def test_answer_that_cannot_be_used_is_an_error_with_a_word_for_it(
    kubelet: FakeKubelet, answer: Any, code: str
) -> None:
    kubelet.server.answers["v1.PodResourcesLister/List"] = answer
    with pytest.raises(CallError) as caught:
        read_resources(kubelet.places.socket)
    assert caught.value.code == code


def test_absent_and_hanging_kubelets_end_in_time(kubelet: FakeKubelet, tmp_path: Path) -> None:
    request = message_class("v1", "ListPodResourcesRequest")()
    with pytest.raises(CallError) as caught:
        call(tmp_path / "none.sock", "v1.PodResourcesLister/List", request, LIST, timeout_s=30)
    assert caught.value.code == "unavailable"
    kubelet.hangs.set()
    with pytest.raises(CallError) as caught:
        call(kubelet.places.socket, "v1.PodResourcesLister/List", request, LIST, timeout_s=0.2)
    assert caught.value.code == "deadline_exceeded"


def test_socket_that_speaks_another_protocol_is_an_error(tmp_path: Path) -> None:
    import socket
    import threading

    with short_folder() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        server.listen()

        def talk() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\nno")
                connection.close()

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with pytest.raises(CallError) as caught:
            request = message_class("v1", "ListPodResourcesRequest")()
            call(folder / "s", "v1.PodResourcesLister/List", request, LIST, timeout_s=20)
        assert caught.value.code in ("unavailable", "internal", "deadline_exceeded")
        server.shutdown(socket.SHUT_RDWR)


def test_kubelet_that_was_restarted_answers_at_the_next_call(kubelet: FakeKubelet) -> None:
    kubelet.pod("ml/a", "GPU-1")
    assert read_resources(kubelet.places.socket).pods
    kubelet.server.stop()
    with pytest.raises(CallError):
        read_resources(kubelet.places.socket)
    kubelet.server.start()
    assert read_resources(kubelet.places.socket).pods
