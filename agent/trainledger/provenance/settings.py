"""Limits of the capture, and the cleaned environment in which it runs programs.

| name | unit | value | why |
|---|---|---|---|
| REQUEST_BYTES_MAX | bytes | 4 MiB | a command line may be 2 MiB long |
| GIT_BUDGET_S | s | 10 | `git status` of 100,000 files takes 0.4 s warm; a cold disk takes longer |
| SNAPSHOT_BUDGET_S | s | 30 | a snapshot of 100,000 files takes 0.8 s warm; large new files must be read |
| CONTENT_BUDGET_S | s | 10 | 50,000 installed files take 0.5 s warm |
| TOTAL_BUDGET_S | s | 60 | the capture must not linger beside a short training |
| WRITE_BUDGET_S | s | 10 | on top, to write what was found; then the kernel ends the process |
| PACKAGES_MAX | packages | 5,000 | ten times a large environment; the claim must fit one record of 256 KiB |
| OUTPUT_BYTES_MAX | bytes | 64 MiB | what is read of one program's output: a list of 500,000 files |
| NICENESS | | 10 | the training goes first |
"""

import os
from collections.abc import Mapping

__all__ = [
    "CONTENT_BUDGET_S",
    "GIT_BUDGET_S",
    "NICENESS",
    "OUTPUT_BYTES_MAX",
    "PACKAGES_MAX",
    "REQUEST_BYTES_MAX",
    "SNAPSHOT_BUDGET_S",
    "TOTAL_BUDGET_S",
    "WRITE_BUDGET_S",
    "program_environment",
]

REQUEST_BYTES_MAX = 4 << 20
GIT_BUDGET_S = 10.0
CONTENT_BUDGET_S = 10.0
SNAPSHOT_BUDGET_S = 30.0
TOTAL_BUDGET_S = 60
WRITE_BUDGET_S = 10
PACKAGES_MAX = 5000
OUTPUT_BYTES_MAX = 64 << 20
NICENESS = 10

# Where git's settings and programs are, not which repository: everything else with this prefix goes. Inside a
# hook, `rebase --exec` or `bisect run`, GIT_DIR and GIT_INDEX_FILE point to another repository or index.
_GIT_KEPT = frozenset(
    {
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_EXEC_PATH",
        "GIT_CEILING_DIRECTORIES",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    }
)


def program_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for git and svn: no variable that points them elsewhere, no prompt, no lock, no fetch."""
    given = os.environ if environ is None else environ
    kept = {k: v for k, v in given.items() if not k.startswith("GIT_") or k in _GIT_KEPT}
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        # What older versions understand: in a partial clone they would fetch what they lack.
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }
