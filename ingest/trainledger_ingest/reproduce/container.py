"""Repeating a run in its image: which container engine is here, and what it is told. The command is pure.

The image is taken by the digest that was recorded, never by a tag; the engine pulls it where it has none, with the
user's own configuration. In the container the recorded command runs under `trainledger run` of the image's own Python,
as the user who asks, and sees the restored code, the journals, and, read-only, the data that was recorded or given.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from trainledger_schemas.errors import UsageError

from .command import Command

__all__ = [
    "ENGINES",
    "ENGINE_FAILED",
    "Engine",
    "Mounts",
    "container_command",
    "find_engine",
    "image_reference",
]

ENGINES = ("docker", "podman")
ASK_S_MAX = 30.0
# The status with which both say that no container was started.
ENGINE_FAILED = 125
CAPTURE_S_MAX = 90
# The first process of a container ends all others with itself: it waits for the capture, which lasts longer than a
# short training, and not for ever for what the training may have left behind.
_WRAPPER = f"""\
import os, signal, sys
from trainledger.cli import main

def left(*_):
    raise ChildProcessError

status = main()
signal.signal(signal.SIGALRM, left)
signal.alarm({CAPTURE_S_MAX})
try:
    while os.getpid() == 1:
        os.wait()
except ChildProcessError:
    pass
sys.exit(status)
"""
_GPU_DEVICE = "/dev/nvidiactl"


@dataclass(frozen=True, slots=True)
class Engine:
    """`program` is one of ENGINES; `user` and `group` are those that the container has."""

    program: str
    user: int
    group: int
    has_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Mounts:
    """Folders that the container sees at the same places: `written` to, and only `read`."""

    written: Sequence[str]
    read: Sequence[str] = ()


def image_reference(provenance: Mapping[str, Any]) -> str:
    """NAME@sha256:... of the image that the run had. Raises UsageError where none is recorded."""
    digest, source = provenance.get("image_digest"), provenance.get("image_source")
    if not digest or source == "fingerprint":
        raise UsageError(
            "--environment image: no image is recorded for this run"
            + (" (only a fingerprint of what was installed)" if source == "fingerprint" else "")
            + "; it is where the agent may ask the container runtime, or TRAINLEDGER_IMAGE=NAME@sha256:... is set; "
            "use venv, uv or here"
        )
    told = str((provenance.get("system") or {}).get("image.name") or "").partition("@")[0]
    folder, slash, last = told.rpartition("/")
    name = f"{folder}{slash}{last.partition(':')[0]}"
    # What looks like an option would be one.
    if not name or name.startswith("-") or any(character.isspace() for character in name):
        raise UsageError(
            f"--environment image: of the image only the digest {digest} is recorded, and no name under which it could "
            "be had; use venv, uv or here"
        )
    return f"{name}@{str(digest).rpartition('@')[2]}"


def find_engine(environ: Mapping[str, str]) -> Engine:
    """The first container engine that answers; blocks for seconds. Raises UsageError that says what each lacks."""
    problems = []
    for name in ENGINES:
        program = shutil.which(name, path=environ.get("PATH"))
        problem = "is not in PATH" if program is None else _problem(program)
        if problem is None:
            return Engine(name, os.getuid(), os.getgid(), os.path.exists(_GPU_DEVICE))
        problems.append(f"{name} {problem}")
    raise UsageError(
        f"--environment image: no container engine can be used: {'; '.join(problems)}; start or install one, or use "
        "--environment venv, uv or here"
    )


def container_command(
    engine: Engine, image: str, command: Command, *, told: Mapping[str, str], mounts: Mounts
) -> list[str]:
    """The engine's command line; `told`: variables beside the recorded ones."""
    words = [engine.program, "run", "--rm", "--network=host", "--ipc=host", *_user(engine)]
    if engine.has_gpu:
        words.append("--gpus=all" if engine.program == "docker" else "--device=nvidia.com/gpu=all")
    # The one way of writing a mount in which a path may hold a colon.
    for place in mounts.written:
        words.append(f"--mount=type=bind,source={place},target={place}")
    for place in _outermost(mounts.read, mounts.written):
        words.append(f"--mount=type=bind,source={place},target={place},readonly")
    variables = {name: value for name, value in command.variables.items() if value is not None}
    variables |= {**told, "TRAINLEDGER_IMAGE": image}
    for variable, value in sorted(variables.items()):
        words += ["-e", f"{variable}={value}"]
    python = command.argv[0] if PurePath(command.argv[0]).name.startswith("python") else "python3"
    inside = [python, "-P", "-c", _WRAPPER, "run", "--", *command.argv]
    return [*words, "-w", command.cwd, "--entrypoint=", image, *inside]


def _problem(program: str) -> str | None:
    """What an engine says when it cannot be used, on one line."""
    try:
        done = subprocess.run(
            [program, "info"], capture_output=True, text=True, errors="replace", timeout=ASK_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be started: {error}"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return f"does not work: {lines[-1][:200] if lines else f'exit status {done.returncode}'}"


def _user(engine: Engine) -> list[str]:
    """Files of the repetition belong to who asked for it."""
    if engine.user == 0:
        return []
    if engine.program == "podman":
        return ["--userns=keep-id"]
    # A user that the image does not know has no home folder.
    return [f"--user={engine.user}:{engine.group}", "-e", "HOME=/tmp"]


def _outermost(places: Sequence[str], written: Sequence[str]) -> list[str]:
    """Each place that is not in another one."""
    found: list[str] = []
    for place in sorted(set(places)):
        if not any(place == outer or place.startswith(f"{outer}/") for outer in (*found, *written)):
            found.append(place)
    return found
