"""git for restoring: in one work tree, without hooks, filters and helpers that a restored repository could name."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trainledger_schemas.errors import NotFoundError, TrainledgerError

__all__ = ["GitCommand", "GitFailedError"]

_SAFE = (
    "-c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.quotePath=false -c protocol.ext.allow=never "
    "-c transfer.fsckObjects=true -c advice.detachedHead=false -c gc.auto=0 -c maintenance.auto=false "
    "-c filter.lfs.smudge= -c filter.lfs.clean= -c filter.lfs.process= -c filter.lfs.required=false"
).split()


class GitFailedError(TrainledgerError):
    """git refused; the message has its first line."""


class GitCommand:
    """Runs git in `top`. Addresses and passwords are those of the user's own git configuration."""

    def __init__(self, top: Path, environment: Mapping[str, str]) -> None:
        self.top = top
        kept = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
        kept |= {n: v for n, v in environment.items() if n.startswith(("GIT_CONFIG_GLOBAL", "GIT_SSH"))}
        self._environment = kept | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
            # What lies above the folder that is filled is no business of ours.
            "GIT_CEILING_DIRECTORIES": str(top.parent),
        }

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What git says; raises GitFailedError. Blocks, also for the network."""
        try:
            done = subprocess.run(
                ["git", *_SAFE, *arguments],
                cwd=self.top,
                env=self._environment,
                input=stdin,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise NotFoundError("git is not installed; restoring code needs it") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit {done.returncode}"]
            raise GitFailedError(f"git {arguments[0]} in {self.top}: {said[-1][:300]}")
        return done.stdout

    def knows(self, commit: str) -> bool:
        """Whether the repository has this commit."""
        try:
            self.run("cat-file", "-e", f"{commit}^{{commit}}")
        except GitFailedError:
            return False
        return True

    def blobs(self, ids: list[str]) -> dict[str, bytes]:
        """The bytes of blobs by id; raises GitFailedError when one is missing."""
        wanted = list(dict.fromkeys(ids))
        answer = self.run("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in wanted).encode())
        found: dict[str, bytes] = {}
        place = 0
        for oid in wanted:
            end = answer.index(b"\n", place)
            head = answer[place:end].split(b" ")
            if len(head) != 3 or head[1] != b"blob":
                raise GitFailedError(f"git cat-file in {self.top}: {os.fsdecode(answer[place:end])}")
            size = int(head[2])
            found[oid] = answer[end + 1 : end + 1 + size]
            place = end + 2 + size
        return found
