"""Images of pods, from a real gRPC server that answers as containerd and CRI-O do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.fake_kubelet import RpcServer, short_folder
from trainledger.node.container_images import RETRY_S, ContainerImages, Image
from trainledger.node.kubernetes.messages import message_class
from trainledger_schemas.clock import ManualClock

ID = "ab" * 32
NAME = "reg.example:5000/team/train:v3"
IMAGE_ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "2" * 64
MIRROR = "sha256:" + "3" * 64
# Encoded by protoc's classes from pkg/apis/runtime/v1/api.proto of kubernetes/cri-api, July 2026; with fields that
# are not read here. image_ref names a digest of a mirror, as containerd does when it has several.
STATUS = bytes.fromhex(
    "0af2020a40616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261"
    "6261626162616261626162616212060a046d61696e18012005280642410a1e7265672e6578616d706c653a353030302f7465616d2f747261"
    "696e3a763392011e7265672e6578616d706c653a353030302f7465616d2f747261696e3a76334a5c6d6972726f722e6578616d706c652f74"
    "7261696e407368613235363a3333333333333333333333333333333333333333333333333333333333333333333333333333333333333333"
    "3333333333333333333333333333333333333333621a0a15696f2e6b756265726e657465732e706f642e75696412017572080a022f781202"
    "2f797a0f2f7661722f6c6f672f706f64732f788a01477368613235363a313131313131313131313131313131313131313131313131313131"
    "3131313131313131313131313131313131313131313131313131313131313131313131313112060a0161120162"
)


class Runtime(RpcServer):
    """Knows one container; `digests`: under which registries know its image."""

    def __init__(self, socket: Path, *digests: str, status: bytes = STATUS) -> None:
        self.digests = digests
        self.status = status
        super().__init__(
            socket,
            {
                "runtime.v1.RuntimeService/ContainerStatus": self.container,
                "runtime.v1.ImageService/ImageStatus": self.image,
            },
        )

    def container(self, body: bytes, context: Any) -> bytes:
        request = message_class("runtime.v1", "ContainerStatusRequest").FromString(body)
        if request.container_id != ID:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no container {request.container_id}")
        return self.status

    def image(self, body: bytes, context: Any) -> bytes:
        request = message_class("runtime.v1", "ImageStatusRequest").FromString(body)
        assert request.image.image == IMAGE_ID
        answer = message_class("runtime.v1", "ImageStatusResponse")()
        answer.image.id = IMAGE_ID
        answer.image.repo_digests.extend(self.digests)
        said: bytes = answer.SerializeToString()
        return said


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def images(
    folder: Path, *names: str, clock: ManualClock | None = None, container: str = ID
) -> ContainerImages:
    (folder / "7").mkdir()
    (folder / "7" / "cgroup").write_text(
        f"0::/../../kubepods-pod1_2.slice/cri-containerd-{container}.scope\n"
    )
    sockets = [folder / name for name in names or ("cri.sock",)]
    return ContainerImages(clock or ManualClock(), [], cri_sockets=sockets, proc=folder)


@pytest.mark.parametrize(
    ("digests", "digest"),
    [
        pytest.param(
            (f"a.example/x@{MIRROR}", f"reg.example:5000/team/train@{DIGEST}"), DIGEST, id="own registry"
        ),
        pytest.param((), MIRROR, id="known by the container alone"),
    ],
)
def test_digest_of_a_pods_image_is_that_of_its_registry(
    folder: Path, digests: tuple[str, ...], digest: str
) -> None:
    runtime = Runtime(folder / "cri.sock", *digests)
    assert images(folder).image_of(7) == Image(digest, NAME)
    runtime.stop()


def test_image_that_no_registry_knows_has_no_digest(folder: Path) -> None:
    answer = message_class("runtime.v1", "ContainerStatusResponse")()
    answer.status.image.image = answer.status.image_ref = IMAGE_ID
    runtime = Runtime(folder / "cri.sock", status=answer.SerializeToString())
    assert images(folder).image_of(7) == Image(None, None)
    runtime.stop()


def test_other_runtime_is_asked_when_the_first_does_not_know_the_container(folder: Path) -> None:
    strange = Runtime(folder / "one.sock")
    strange.answers["runtime.v1.RuntimeService/ContainerStatus"] = lambda _, context: context.abort(
        grpc.StatusCode.NOT_FOUND, "no such container"
    )
    runtime = Runtime(folder / "two.sock", f"reg.example:5000/team/train@{DIGEST}")
    assert images(folder, "one.sock", "two.sock").image_of(7) == Image(DIGEST, NAME)
    strange.stop()
    runtime.stop()


def test_runtime_without_the_service_is_left_alone_for_a_while(folder: Path) -> None:
    runtime = Runtime(folder / "cri.sock", f"reg.example:5000/team/train@{DIGEST}")
    answers, runtime.answers = runtime.answers, {}
    clock = ManualClock()
    asking = images(folder, clock=clock)
    assert asking.image_of(7) is None and asking.image_of(7) is None
    assert len(runtime.calls) == 1
    runtime.answers = answers
    clock.sleep(RETRY_S)
    assert asking.image_of(7) == Image(DIGEST, NAME)
    runtime.stop()
