"""The version that git keeps of a path: commit, path in the repository, and whether it lies as it was committed."""

import os
from pathlib import Path

from trainledger_schemas.clock import Clock

from ..provenance.git import open_git
from ..provenance.programs import Programs, UnavailableError
from ..provenance.settings import GIT_BUDGET_S, program_environment
from .references import Reference

__all__ = ["git_reference"]


def git_reference(path: Path, *, clock: Clock) -> Reference | None:
    """None where git does not have the path in its newest commit; runs nothing of the repository, fetches nothing."""
    folder = path if path.is_dir() else path.parent
    try:
        git, _ = open_git(folder, Programs(program_environment(), clock=clock, budget_s=GIT_BUDGET_S))
        inner = os.path.relpath(os.path.realpath(path), os.path.realpath(git.top))
        commit = git.ask("rev-parse", "--verify", "-q", "HEAD")
        if commit is None:
            return None
        if inner != "." and not git.lines("ls-tree", "-z", "--full-tree", "HEAD", "--", inner):
            return None
        pathspec = f":(top,literal){inner}" if inner != "." else ":(top)"
        changes = git.lines("status", "--porcelain", "-z", "--no-renames", "--ignored", "--", pathspec)
    except UnavailableError:
        return None  # no repository, no git, or one that does not answer
    reasons = ("files differ from the commit, or are not in it",) if changes else ()
    return Reference(
        "git", f"{os.fsdecode(commit)}:{'' if inner == '.' else inner}", is_fixed=not changes, reasons=reasons
    )
