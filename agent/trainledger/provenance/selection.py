"""Which of the changed and new files a snapshot takes. Pure.

| limit | value | why |
|---|---|---|
| FILE_BYTES_MAX | 10 MiB | a larger file is data or a model, and has its own place |
| FILES_BYTES_MAX | 200 MiB | all files of one repository |
| FILES_MAX | 5,000 | the same |
| NAMES_MAX | 20,000 | what is looked at |

Nothing is left out in silence: each file that is not taken is named with the reason. Folders that never hold code of
the run (virtual environments, caches, other trackers' output) are passed over as a whole.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

__all__ = [
    "FILES_BYTES_MAX",
    "FILE_BYTES_MAX",
    "NAMES_MAX",
    "Candidate",
    "Choice",
    "choose_files",
    "passed_over",
]

FILE_BYTES_MAX = 10 << 20
FILES_BYTES_MAX = 200 << 20
FILES_MAX = 5000
NAMES_MAX = 20_000
_NEVER = frozenset(
    "__pycache__ node_modules .ipynb_checkpoints wandb mlruns .git .svn .hg .tox .nox .mypy_cache .pytest_cache "
    ".ruff_cache".split()
)
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")


class Candidate(NamedTuple):
    """A file that could be taken: path relative to its repository, size in bytes."""

    path: bytes
    size_bytes: int


class Choice(NamedTuple):
    """What is taken, and what is left out with the reason."""

    taken: list[Candidate]
    left_out: list[tuple[Candidate, str]]


def choose_files(candidates: Iterable[Candidate]) -> Choice:
    """Apply the limits: the largest files are left out first."""
    choice = Choice([], [])
    total = 0
    for candidate in sorted(candidates, key=lambda c: (c.size_bytes, c.path)):
        if candidate.size_bytes > FILE_BYTES_MAX:
            why = f"larger than {FILE_BYTES_MAX >> 20} MiB"
        elif total + candidate.size_bytes > FILES_BYTES_MAX:
            why = f"all files together are larger than {FILES_BYTES_MAX >> 20} MiB"
        elif len(choice.taken) >= FILES_MAX:
            why = f"more than {FILES_MAX} files"
        else:
            choice.taken.append(candidate)
            total += candidate.size_bytes
            continue
        choice.left_out.append((candidate, why))
    return choice


def passed_over(paths: Sequence[bytes]) -> set[bytes]:
    """Those of these untracked paths that lie in folders which never hold code of the run."""
    environments = set()
    for path in paths:
        parts = PurePath(os.fsdecode(path)).parts
        for mark in _ENVIRONMENT_MARKS:
            if mark in parts[1:]:
                environments.add(os.fsencode("/".join(parts[: parts.index(mark)])) + b"/")
    return {
        path
        for path in paths
        if not _NEVER.isdisjoint(os.fsdecode(path).rstrip("/").split("/"))
        or any(path.startswith(folder) for folder in environments)
    }
