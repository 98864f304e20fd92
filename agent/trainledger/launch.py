"""Which rank this process is, in which launch, and which run that launch is; from the environment alone.

Precedence: our own variables > torchrun > Open MPI, PMI > srun with several tasks > bare RANK and WORLD_SIZE >
single. Ranks of one launch find the same run id without a network: a hash of what only they share. A launch
whose variables name nothing shared (torchrun's default id is the word `none`) gets the address of its master.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "detect_launch", "run_id_of"]

_RANKS = (
    ("explicit", "TRAINLEDGER_RANK", "TRAINLEDGER_LOCAL_RANK", "TRAINLEDGER_WORLD_SIZE", None),
    ("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    ("openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", None),
    ("mpich", "PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", None),
    ("slurm", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", None),
    ("bare", "RANK", "LOCAL_RANK", "WORLD_SIZE", None),
)


@dataclass(frozen=True, slots=True)
class Launch:
    """A place in a launch; a single process has no rank. `key` is what all ranks share, if anything."""

    launcher: str = "single"
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    restart_hint: int | None = None
    key: str | None = None


def detect_launch(environ: Mapping[str, str]) -> Launch:
    """Read the variables of the known launchers; nonsense (rank beyond size) counts as single."""
    for launcher, rank_name, local_name, size_name, needed in _RANKS:
        rank, size = _number(environ, rank_name), _number(environ, size_name)
        if (needed and needed not in environ) or rank is None or size is None or not 0 <= rank < size:
            continue
        if size == 1:
            continue
        return Launch(
            launcher,
            rank,
            _number(environ, local_name),
            size,
            _number(environ, "TORCHELASTIC_RESTART_COUNT"),
            _shared_key(environ, size),
        )
    return Launch()


def run_id_of(key: str) -> bytes:
    """The run id that every rank of a launch computes: 128 bits of a SHA-256 in the form of a UUID."""
    raw = bytearray(hashlib.sha256(b"run/1\0" + key.encode("utf-8", "replace")).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def _shared_key(environ: Mapping[str, str], size: int) -> str | None:
    scope = "/".join(
        environ[name]
        for name in ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX")
        if environ.get(name)
    )
    elastic = environ.get("TORCHELASTIC_RUN_ID")
    if elastic and elastic != "none":
        return f"{scope}|elastic {elastic}"
    if environ.get("PMIX_NAMESPACE"):
        return f"{scope}|pmix {environ['PMIX_NAMESPACE']}"
    if "SLURM_JOB_ID" in environ and environ.get("SLURM_STEP_ID"):
        return f"{scope}|step {environ['SLURM_STEP_ID']}"
    if environ.get("MASTER_ADDR") and environ.get("MASTER_PORT"):
        return f"{scope}|master {environ['MASTER_ADDR']}:{environ['MASTER_PORT']} of {size}"
    return None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else None
