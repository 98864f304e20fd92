"""The patch of a snapshot, for people to read and to compare runs by; never what a run is restored from.

Plain text whatever the user's configuration says; binary files are named only; secrets are taken out.
"""

import os
from collections.abc import Sequence

from trainledger_schemas.code_snapshot import RepositorySnapshot

from ..redaction import redact
from .git import Git
from .programs import UnavailableError
from .raw_snapshot import empty_tree

__all__ = ["PATCH_BYTES_MAX", "readable", "readable_patch"]

PATCH_BYTES_MAX = 1 << 20
# Of single files that are asked for: a command line has an end.
FILES_MAX = 500
_FORM = (
    "-r -p --no-color --no-ext-diff --no-textconv --no-renames --full-index --submodule=short "
    "--ignore-submodules=none -U3"
).split()


def readable_patch(
    private: Git, repository: RepositorySnapshot, prefix: str, only: Sequence[bytes] = ()
) -> bytes:
    """From the user's commit (or nothing) to the snapshot, with names below `prefix`; empty without changes. `only`:
    these files alone; of very many the first."""
    before = repository.head if repository.vcs == "git" else None
    if before is None:
        before = empty_tree(repository.object_format)
    names = (f"--src-prefix=a/{prefix}", f"--dst-prefix=b/{prefix}")
    try:
        paths = [os.fsdecode(path) for path in only[:FILES_MAX]]
        patch = private.run("diff-tree", *_FORM, *names, before, repository.snapshot, "--", *paths)
    except UnavailableError as error:
        return f"# no patch of {prefix or 'the repository'}: {error}\n".encode()
    return readable(patch)


def readable(patch: bytes) -> bytes:
    """A patch cut to PATCH_BYTES_MAX, without secrets."""
    if len(patch) > PATCH_BYTES_MAX:
        # Between lines: of a secret that is cut in two the first part would not be known.
        patch = (
            patch[: patch.rindex(b"\n", 0, PATCH_BYTES_MAX) + 1] if b"\n" in patch[:PATCH_BYTES_MAX] else b""
        )
        patch += b"# the patch is longer; the rest is left out here and stands in the snapshot\n"
    text = patch.decode("utf-8", "surrogateescape")
    return redact(text).encode("utf-8", "surrogateescape")
