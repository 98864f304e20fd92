"""A run is repeated in its image: by digest, with what it needs and no more, and what is missing is said."""

import os
from pathlib import Path
from typing import Any

import pytest

from trainledger_ingest.reproduce.command import Command
from trainledger_ingest.reproduce.container import (
    Engine,
    Mounts,
    container_command,
    find_engine,
    image_reference,
)
from trainledger_schemas.errors import UsageError

DIGEST = f"sha256:{'a' * 64}"


def recorded(name: str, **told: Any) -> dict[str, Any]:
    return {"image_digest": DIGEST, "image_source": "runtime", "system": {"image.name": name}} | told


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("registry:5000/team/train:v1", "registry:5000/team/train"),
        (f"train@{DIGEST}", "train"),
        ("registry:5000/train", "registry:5000/train"),
    ],
    ids=["tag", "digest", "port"],
)
def test_image_is_named_by_its_digest_whatever_its_tag_says_now(name: str, reference: str) -> None:
    assert image_reference(recorded(name)) == f"{reference}@{DIGEST}"


@pytest.mark.parametrize(
    ("provenance", "why"),
    [
        ({}, "no image is recorded"),
        (recorded("train", image_source="fingerprint"), "only a fingerprint"),
        (recorded(""), f"only the digest {DIGEST}"),
        (recorded("--privileged"), f"only the digest {DIGEST}"),
    ],
    ids=["none", "fingerprint", "nameless", "option"],
)
def test_what_names_no_image_is_refused(provenance: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        image_reference(provenance)


def test_command_mounts_code_and_journals_and_reads_data() -> None:
    variables = {"OMP_NUM_THREADS": "1", "GONE": None, "PYTHONHASHSEED": "0"}
    command = Command(["/opt/bin/python3", "t.py", "--lr=1"], "/new/src", variables)
    mounts = Mounts(["/new", "/journals"], ["/data/a", "/data/a/b", "/new/linked", "/data/ab", "/data/a"])
    words = container_command(
        Engine("podman", 1000, 100, has_gpu=True),
        f"train@{DIGEST}",
        command,
        told={"TRAINLEDGER_RUN_ID": "x"},
        mounts=mounts,
    )
    # The program that waits for the capture is tried in tests/e2e/test_reproduce_image.py.
    del words[-6]
    assert words == [
        "podman", "run", "--rm", "--network=host", "--ipc=host", "--userns=keep-id", "--device=nvidia.com/gpu=all",
        "--mount=type=bind,source=/new,target=/new", "--mount=type=bind,source=/journals,target=/journals",
        "--mount=type=bind,source=/data/a,target=/data/a,readonly",
        "--mount=type=bind,source=/data/ab,target=/data/ab,readonly",
        "-e", "OMP_NUM_THREADS=1", "-e", "PYTHONHASHSEED=0", "-e", f"TRAINLEDGER_IMAGE=train@{DIGEST}",
        "-e", "TRAINLEDGER_RUN_ID=x", "-w", "/new/src", "--entrypoint=", f"train@{DIGEST}",
        "/opt/bin/python3", "-P", "-c", "run", "--", "/opt/bin/python3", "t.py", "--lr=1",
    ]  # fmt: skip


def test_files_belong_to_who_asked_and_a_launcher_is_wrapped_by_the_python_of_the_image() -> None:
    told: dict[str, Any] = {"told": {}, "mounts": Mounts([])}
    command = Command(["torchrun", "t.py"], "/new")
    words = container_command(Engine("docker", 1000, 100), "i@d", command, **told)
    assert words[5:8] == ["--user=1000:100", "-e", "HOME=/tmp"]
    assert words[words.index("i@d") + 1] == "python3"
    assert "--user" not in " ".join(container_command(Engine("docker", 0, 0), "i@d", command, **told))


def test_engine_that_does_not_answer_is_passed_over_and_none_at_all_is_told(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path)}
    docker, podman = tmp_path / "docker", tmp_path / "podman"
    with pytest.raises(
        UsageError, match=r"docker is not in PATH; podman is not in PATH; start or install one"
    ):
        find_engine(environ)
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    with pytest.raises(
        UsageError, match=r"docker does not work: Cannot connect to the daemon; podman is not"
    ):
        find_engine(environ)
    podman.write_text('#!/bin/sh\ntest "$*" = info\n')
    podman.chmod(0o755)
    assert find_engine(environ) == Engine("podman", os.getuid(), os.getgid(), Path("/dev/nvidiactl").exists())
