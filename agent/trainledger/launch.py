"""Which rank this process is, in which launch, and which run that launch is; from the environment alone.

Precedence: our own variables > torchrun > Open MPI, PMI > srun with several tasks > bare RANK and WORLD_SIZE >
single. Ranks of one launch find the same run id without a network: a hash of what only they share. That is, in
this order: a real id of torchrun (its default is the word `none`), the step of srun, on one node the process
that launched them, the namespace of PMIx, the address of their master. The last is shared by every launch of
that size on that address: `is_weak` says so, and `init` asks for TRAINLEDGER_RUN_ID.

`resume_key` is what a job keeps when its scheduler starts it again: the job of SLURM, or torchrun's real id.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Launch", "detect_launch", "run_id_of"]

_RANKS = (
    ("explicit", "TRAINLEDGER_RANK", "TRAINLEDGER_LOCAL_RANK", "TRAINLEDGER_WORLD_SIZE", None),
    ("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    ("openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", None),
    ("mpich", "PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", None),
    ("slurm", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", None),
    ("bare", "RANK", "LOCAL_RANK", "WORLD_SIZE", None),
)


_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_LOOPBACK = ("localhost", "127.", "::1")
_DIGITS_MAX = 9


class Launch(NamedTuple):
    """A place in a launch; a single process has no rank. `key` is what all ranks share, if anything."""

    launcher: str = "single"
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    restart_hint: int | None = None
    key: str | None = None
    is_weak: bool = False
    resume_key: str | None = None

    def numbered(self, number: int) -> "Launch":
        """The launch of a process's run after `number` others: all ranks make the same runs in the same order."""
        return self._replace(key=f"{self.key}|run {number}") if self.key and number else self


def detect_launch(environ: Mapping[str, str], *, parent: str = "") -> Launch:
    """Read the variables of the known launchers; nonsense (rank beyond size) counts as single.

    `parent` names the process that started this one, on this boot of this machine; "" when it cannot be seen.
    """
    restart = _number(environ, "TORCHELASTIC_RESTART_COUNT")
    restart = _number(environ, "SLURM_RESTART_COUNT") if restart is None else restart
    resume_key = _resume_key(environ)
    for launcher, rank_name, local_name, size_name, needed in _RANKS:
        rank, size = _number(environ, rank_name), _number(environ, size_name)
        if (needed and needed not in environ) or rank is None or size is None or not 0 <= rank < size:
            continue
        if size == 1:
            continue
        key, is_weak = _shared_key(environ, launcher, size, parent)
        local = _number(environ, local_name)
        return Launch(launcher, rank, local, size, restart, key, is_weak, resume_key or key)
    return Launch(restart_hint=restart, resume_key=resume_key)


def run_id_of(key: str) -> bytes:
    """The run id that every rank of a launch computes: 128 bits of a SHA-256 in the form of a UUID."""
    # Not at the top: it loads OpenSSL, 4 ms that a single process need not pay.
    import hashlib

    raw = bytearray(hashlib.sha256(b"run/1\0" + key.encode("utf-8", "replace")).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def _shared_key(environ: Mapping[str, str], launcher: str, size: int, parent: str) -> tuple[str | None, bool]:
    scope, step = _scope(environ), environ.get("SLURM_STEP_ID")
    elastic = _elastic_id(environ)
    if elastic:
        return f"{scope}|elastic {elastic}", False
    if launcher == "slurm" and scope and step:
        return f"{scope}|step {step}", False
    if parent and _is_on_one_node(environ, size):
        return f"{scope}|launched by {parent}", False
    if environ.get("PMIX_NAMESPACE"):
        return f"{scope}|pmix {environ['PMIX_NAMESPACE']} of {size}", False
    if scope and step:
        return f"{scope}|step {step}", False
    if environ.get("MASTER_ADDR") and environ.get("MASTER_PORT"):
        master = f"{environ['MASTER_ADDR']}:{environ['MASTER_PORT']}"
        return f"{scope}|master {master} of {size}", not scope
    return None, False


def _scope(environ: Mapping[str, str]) -> str:
    """The job of the scheduler. Nothing that differs between its nodes or pods belongs here."""
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID")
    return (
        "/".join(environ[name] for name in names if environ.get(name)) if environ.get("SLURM_JOB_ID") else ""
    )


def _resume_key(environ: Mapping[str, str]) -> str | None:
    scope, elastic = _scope(environ), _elastic_id(environ)
    return f"{scope}|elastic {elastic or ''}" if scope or elastic else None


def _elastic_id(environ: Mapping[str, str]) -> str | None:
    elastic = environ.get("TORCHELASTIC_RUN_ID")
    return elastic if elastic and elastic != "none" else None


def _is_on_one_node(environ: Mapping[str, str], size: int) -> bool:
    if any(_number(environ, name) == size for name in _LOCAL_SIZES):
        return True
    return environ.get("MASTER_ADDR", "").startswith(_LOOPBACK)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= _DIGITS_MAX else None
