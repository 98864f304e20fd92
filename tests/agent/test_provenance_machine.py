"""The machine, its packages, its GPU stack and its image, from files as real systems have them."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from trainledger.provenance.gpu_stack import describe_gpu_stack
from trainledger.provenance.image import Image, find_image
from trainledger.provenance.machine import describe_machine
from trainledger.provenance.programs import Programs
from trainledger.provenance.settings import program_environment
from trainledger.provenance.system_packages import conda_explicit_list, describe_system_packages
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import SystemClock

DIGEST = "sha256:" + "a" * 64


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def programs() -> Programs:
    return Programs(program_environment(), clock=SystemClock(), budget_s=10)


def test_this_machine_is_described() -> None:
    found = describe_machine()
    assert found["cpu.model"] in Path("/proc/cpuinfo").read_text() and len(found["cpu.flags"].split()) > 5
    assert found["kernel"].startswith(os.uname().release)
    assert int(found["memory.total_bytes"]) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert int(found["cpu.usable"]) == len(os.sched_getaffinity(0))
    assert found["glibc"].startswith("2.") and found["limit.open_files"].isdigit()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/user/job/memory.max": "8589934592\n",
            },
            {"cgroup.cpu_max_us": "400000 100000", "cgroup.memory_bytes": "8589934592"},
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n1:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            },
            {"cgroup.cpu_quota_us": "150000"},
        ),
        ({}, {}),
    ],
    ids=["version 2", "version 1", "none"],
)
def test_limits_of_the_control_group_are_those_of_the_nearest_that_has_one(
    tmp_path: Path, files: dict[str, str], expected: dict[str, str]
) -> None:
    found = describe_machine(write(tmp_path, files))
    assert {name: value for name, value in found.items() if name.startswith("cgroup.")} == expected


def test_digest_of_debian_packages_is_that_of_the_documented_command() -> None:
    if shutil.which("dpkg-query") is None:
        return  # another system: the next test has its files
    command = "dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n' | LC_ALL=C sort -u"
    listed = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
    installed = b"".join(line for line in listed.splitlines(keepends=True) if line.count(b" ") == 2)
    found = describe_system_packages(programs())
    assert found["dpkg.sha256"] == hashlib.sha256(installed).hexdigest()
    assert found["system.libc6"] in listed.decode()


STATUS = """Package: libnccl2
Status: install ok installed
Architecture: amd64
Version: 2.20.5-1+cuda12.4
Description: x
 Package: not-this

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def test_packages_of_small_images_and_removed_ones(tmp_path: Path) -> None:
    slim = write(tmp_path / "slim", {"var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12\n"})
    full = write(tmp_path / "full", {"var/lib/dpkg/status": STATUS})
    alpine = write(
        tmp_path / "alpine", {"lib/apk/db/installed": "P:musl\nV:1.2.4-r2\nA:x86_64\n\nP:b\nV:1\n"}
    )
    assert describe_system_packages(programs(), slim)["dpkg.packages"] == "1"
    found = describe_system_packages(programs(), full)
    assert found["dpkg.sha256"] == hashlib.sha256(b"libnccl2 2.20.5-1+cuda12.4 amd64\n").hexdigest()
    assert found["system.libnccl2"] == "2.20.5-1+cuda12.4" and found["dpkg.packages"] == "1"
    assert describe_system_packages(programs(), alpine)["system.musl"] == "1.2.4-r2"
    assert describe_system_packages(programs(), tmp_path / "none") == {}


def test_conda_environment_is_an_explicit_list_without_tokens(tmp_path: Path) -> None:
    token = "ab-" + "0" * 8 + "-0000-0000-0000-" + "0" * 12
    packages = [
        {"name": "cudatoolkit", "version": "11.8.0", "build": "h6a", "md5": "0" * 32,
         "url": f"https://conda.anaconda.org/t/{token}/nvidia/linux-64/cudatoolkit-11.8.0-h6a.conda"},
        {"name": "python", "version": "3.11.7", "url": "https://x/python-3.11.7.conda", "dist_name": "python"},
    ]  # fmt: skip
    files = {f"conda-meta/{told['name']}.json": json.dumps(told) for told in packages}
    prefix = write(tmp_path / "env", files | {"conda-meta/broken.json": "{"})
    blobs = FolderBlobs(tmp_path / "blobs")
    found = conda_explicit_list(["/usr/lib", f"{prefix}/lib/python3.11/site-packages"], blobs)
    text = blobs.read(found["conda.sha256"]).decode()
    assert f"/t/[redacted]/nvidia/linux-64/cudatoolkit-11.8.0-h6a.conda#{'0' * 32}" in text
    assert "@EXPLICIT\n" in text and "# broken.json cannot be read" in text
    assert found["conda.cudatoolkit"] == "11.8.0 h6a" and found["conda.packages"] == "3"
    assert conda_explicit_list(["/usr/lib/python3/dist-packages"], blobs) == {}


NVRM = "NVRM version: NVIDIA UNIX {}x86_64 Kernel Module  550.54.15  Release Build\nGCC version: 12.2.0\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build\n"


@pytest.mark.parametrize(
    ("text", "driver"), [(NVRM.format(""), "550.54.15"), (OPEN, "560.35.03"), ("", None)]
)
def test_driver_is_read_from_the_kernel(tmp_path: Path, text: str, driver: str | None) -> None:
    write(tmp_path, {"proc/driver/nvidia/version": text})
    assert describe_gpu_stack([], {}, {}, tmp_path).get("driver") == driver


def test_installed_gpu_libraries_come_from_torch_wheels_and_conda(tmp_path: Path) -> None:
    wheels = {
        "nvidia-cuda-runtime-cu12": "12.1.105",
        "nvidia-cudnn-cu12": "9.1.0.70",
        "nvidia-nccl-cu12": "2.20.5",
    }
    assert describe_gpu_stack([], wheels, {}, tmp_path) == {
        "cuda": "12.1.105", "cudnn": "9.1.0.70", "nccl": "2.20.5"
    }  # fmt: skip
    write(
        tmp_path,
        {"site/torch/version.py": "debug = False\ncuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n"},
    )
    assert describe_gpu_stack([tmp_path / "no", tmp_path / "site"], wheels, {}, tmp_path)["cuda"] == "12.4"
    conda = {"conda.cudatoolkit": "11.8.0 h6a", "conda.nccl": "2.18.3 x"}
    assert describe_gpu_stack([], {}, conda, tmp_path) == {"cuda": "11.8.0", "nccl": "2.18.3"}


class _Ecs(BaseHTTPRequestHandler):
    answer = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ecs() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Ecs)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v4/x"
    server.shutdown()
    thread.join()
    server.server_close()


def test_image_of_a_task_of_ecs_is_what_its_metadata_says(ecs: str) -> None:
    # As the task metadata endpoint version 4 answers, shortened.
    _Ecs.answer = json.dumps(
        {"DockerId": "x-1", "Image": "1.dkr.ecr.eu.amazonaws.com/a:1", "ImageID": DIGEST}
    ).encode()
    image = find_image("mine:1", {"ECS_CONTAINER_METADATA_URI_V4": ecs}, {}, {})
    assert image == Image(DIGEST, "runtime", "1.dkr.ecr.eu.amazonaws.com/a:1")
    _Ecs.answer = b"[]"
    image = find_image(None, {"ECS_CONTAINER_METADATA_URI_V4": ecs}, {}, {})
    assert image.digest is None and "ECS" in str(image.reason)
    assert find_image(None, {"ECS_CONTAINER_METADATA_URI_V4": "file:///etc/passwd"}, {}, {}).digest is None


def test_declared_image_needs_a_digest_and_loses_its_password() -> None:
    image = find_image(f"reg/a:1@{DIGEST}", {}, {}, {"a": "0"})
    assert (image.digest, image.source, image.name) == (DIGEST, "declared", f"reg/a:1@{DIGEST}")
    assert find_image(DIGEST, {}, {}, {}).digest == DIGEST
    tag = find_image("https://me:hunter2hunter2@reg/a:latest", {}, {}, {})
    assert (tag.digest, tag.source, tag.name) == (None, None, "https://reg/a:latest")
    assert "@sha256:" in str(tag.reason)


def test_fingerprint_is_of_system_packages_and_contents() -> None:
    system, contents = {"dpkg.sha256": "1", "kernel": "6"}, {"numpy": "2", "a": "3"}
    first = find_image(None, {}, system, contents)
    assert first.source == "fingerprint" and str(first.digest).startswith("sha256:")
    assert find_image(None, {}, system | {"kernel": "7"}, contents).digest == first.digest
    assert find_image(None, {}, system, contents | {"a": "4"}).digest != first.digest
    assert find_image(None, {}, system | {"dpkg.sha256": "2"}, contents).digest != first.digest
    assert find_image(None, {}, system, {}) == Image()
