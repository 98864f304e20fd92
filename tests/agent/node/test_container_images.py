"""Images are asked for at a real HTTP server on a unix socket that answers as Docker does."""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from trainledger.node.container_images import RETRY_S, ContainerImages, Image, container_of
from trainledger_schemas.clock import ManualClock

ID = "0123456789abcdef" * 4
OTHER = "f" * 64
IMAGE_ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "2" * 64


class Docker(ThreadingUnixStreamServer):
    """Answers from `answers`, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        super().__init__(str(path), _Handler)

    def run_container(self, container: str, name: str, repo_digests: list[str] | None) -> None:
        """As API 1.43 answers, shortened to what is looked at."""
        self.answers[f"/containers/{container}/json"] = {
            "Id": container,
            "Image": IMAGE_ID,
            "Name": "/job",
            "Config": {"Hostname": container[:12], "Image": name, "Env": ["HF_TOKEN=never looked at"]},
        }
        self.answers[f"/images/{IMAGE_ID}/json"] = {
            "Id": IMAGE_ID,
            "RepoTags": [name],
            "RepoDigests": repo_digests,
        }


class _Handler(BaseHTTPRequestHandler):
    server: Docker

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        body = json.dumps({"message": "No such container"} if answer is None else answer).encode()
        if answer == "nonsense":
            body = b"<html>"
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short: a socket's path has at most 107 bytes.
    path = Path(tempfile.mkdtemp(prefix="tl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def docker(folder: Path) -> Iterator[Docker]:
    server = Docker(folder / "docker.sock")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def write_proc(folder: Path, pid: int, *, cgroup: str = "0::/\n", mountinfo: str = "") -> None:
    (folder / str(pid)).mkdir(exist_ok=True)
    (folder / str(pid) / "cgroup").write_text(cgroup)
    (folder / str(pid) / "mountinfo").write_text(mountinfo)


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        (f"12:pids:/docker/{ID}\n0::/docker/{ID}\n", "", ID),
        (f"0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{ID}.scope\n", "", ID),
        (f"0::/machine.slice/libpod-{OTHER}.scope/docker/{ID}\n", "", ID),
        (
            "0::/\n",
            f"5 4 0:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda rw\n",
            ID,
        ),
        (
            "0::/\n",
            f"5 4 0:1 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs x rw\n",
            ID,
        ),
        ("0::/user.slice/session-3.scope\n", "5 4 0:1 / / rw - ext4 /dev/sda rw\n", None),
        (f"0::/x/{ID}0\n", "", None),
    ],
)
def test_container_is_found_by_its_group_or_its_mounts(
    folder: Path, cgroup: str, mountinfo: str, expected: str | None
) -> None:
    write_proc(folder, 7, cgroup=cgroup, mountinfo=mountinfo)
    assert container_of(7, folder) == expected
    assert container_of(8, folder) is None


def images(folder: Path, *names: str, clock: ManualClock | None = None) -> ContainerImages:
    sockets = [folder / name for name in names or ("docker.sock",)]
    return ContainerImages(clock or ManualClock(), sockets, proc=folder)


@pytest.mark.parametrize(
    ("name", "digests", "expected"),
    [
        ("reg:5000/team/train:v1", [f"other/x@{IMAGE_ID}", f"reg:5000/team/train@{DIGEST}"], DIGEST),
        ("train", [f"train@{DIGEST}"], DIGEST),
        (f"train@{DIGEST}", [f"a@{IMAGE_ID}", f"train@{DIGEST}"], DIGEST),
        ("built-here:latest", [], None),
        ("built-here:latest", None, None),
    ],
)
def test_digest_is_the_one_of_the_registry_it_came_from(
    folder: Path, docker: Docker, name: str, digests: list[str] | None, expected: str | None
) -> None:
    docker.run_container(ID, name, digests)
    write_proc(folder, 7, cgroup=f"0::/docker/{ID}\n")
    assert images(folder).image_of(7) == Image(expected, name)


def test_each_container_is_asked_about_once_and_others_sockets_after_the_first(
    folder: Path, docker: Docker
) -> None:
    docker.run_container(ID, "train:1", [f"train@{DIGEST}"])
    write_proc(folder, 7, cgroup=f"0::/docker/{ID}\n")
    write_proc(folder, 8, cgroup=f"0::/docker/{OTHER}\n")
    write_proc(folder, 9)
    asking = images(folder, "none.sock", "docker.sock")
    assert [asking.image_of(pid) for pid in (7, 7, 8, 9, 0)] == [Image(DIGEST, "train:1")] * 2 + [None] * 3
    assert docker.asked.count(f"/containers/{ID}/json") == 1


def test_runtime_that_answers_nonsense_is_left_alone_for_a_while(folder: Path, docker: Docker) -> None:
    docker.answers[f"/containers/{ID}/json"] = "nonsense"
    write_proc(folder, 7, cgroup=f"0::/docker/{ID}\n")
    clock = ManualClock()
    asking = images(folder, clock=clock)
    assert asking.image_of(7) is None and asking.image_of(7) is None
    assert len(docker.asked) == 1
    docker.run_container(ID, "train:1", [f"train@{DIGEST}"])
    clock.sleep(RETRY_S)
    assert asking.image_of(7) == Image(DIGEST, "train:1")


def test_socket_without_a_server_is_no_trouble(folder: Path) -> None:
    (folder / "docker.sock").touch()
    write_proc(folder, 7, cgroup=f"0::/docker/{ID}\n")
    assert images(folder).image_of(7) is None
