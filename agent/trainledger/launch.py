"""Which rank this process is, in which launch, and which run that launch is; from its variables alone. Pure.

Precedence: our own variables > torchrun (Accelerate) > DeepSpeed, Horovod, Ray > Open MPI, PMI > JAX and XGBoost in
Kubeflow > srun with several tasks > a process group of torch > bare RANK and WORLD_SIZE > single. What an inner
launcher says counts: torchrun inside srun sees srun's variables too, where PROCID is the node's.

Ranks of one launch find the same run id without a network: a hash of `key`, which only they share: the `scope` (the
job of a scheduler) and in it the `launch_id`, in this order: a real id of torchrun (its default is the word `none`),
the step of srun, on one node the process that launched them, the namespace of PMIx, the step, the address of their
master. A training of Ray is in its scope: the address of its master is another when it is started again. Never in it:
a clock, a restart count, a rank, a host's name.

`is_weak`: others may have the same key: the address of a master without a job, a process when it is not known whether
the ranks are all on its node, a short id of torchrun without a job. Such runs are marked (view run_writers).

`resume_key` is what a job keeps when its scheduler starts it again. `restart_hint` is torchrun's count, which differs
between nodes and decides nothing; `scheduler_restart` is the job's.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Launch", "detect_launch", "rank_variable", "run_id_of"]


class _Source(NamedTuple):
    """Variables of one launcher; it is there if `needed` is."""

    launcher: str
    rank: str
    local_rank: str
    size: str
    node_rank: str
    needed: str


_TORCHRUN = "TORCHELASTIC_RUN_ID"
_SOURCES = tuple(
    _Source(*line.split())
    for line in f"""
    explicit TRAINLEDGER_RANK TRAINLEDGER_LOCAL_RANK TRAINLEDGER_WORLD_SIZE TRAINLEDGER_NODE_RANK TRAINLEDGER_RANK
    torchrun RANK LOCAL_RANK WORLD_SIZE GROUP_RANK {_TORCHRUN}
    deepspeed RANK LOCAL_RANK WORLD_SIZE CROSS_RANK CROSS_SIZE
    horovod HOROVOD_RANK HOROVOD_LOCAL_RANK HOROVOD_SIZE HOROVOD_CROSS_RANK HOROVOD_RANK
    ray RANK LOCAL_RANK WORLD_SIZE NODE_RANK RAY_JOB_ID
    openmpi OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_SIZE - OMPI_COMM_WORLD_RANK
    mvapich MV2_COMM_WORLD_RANK MV2_COMM_WORLD_LOCAL_RANK MV2_COMM_WORLD_SIZE - MV2_COMM_WORLD_RANK
    mpich PMI_RANK MPI_LOCALRANKID PMI_SIZE - PMI_RANK
    jax JAX_PROCESS_ID - JAX_NUM_PROCESSES - JAX_PROCESS_ID
    xgboost DMLC_TASK_ID - DMLC_NUM_WORKER - DMLC_TASK_ID
    slurm SLURM_PROCID SLURM_LOCALID SLURM_STEP_NUM_TASKS SLURM_NODEID SLURM_PROCID
    process_group PROCESS_GROUP_RANK LOCAL_RANK PROCESS_GROUP_SIZE NODE_RANK PROCESS_GROUP_RANK
    bare RANK LOCAL_RANK WORLD_SIZE NODE_RANK RANK
    """.strip().splitlines()
)
# Here a size of 1 says nothing: an inner launcher may have many ranks in the one task.
_OUTER = ("slurm", "process_group", "bare")
_LOCAL_SIZES = (
    "LOCAL_WORLD_SIZE LOCAL_SIZE HOROVOD_LOCAL_SIZE OMPI_COMM_WORLD_LOCAL_SIZE MV2_COMM_WORLD_LOCAL_SIZE "
    "MPI_LOCALNRANKS"
).split()
_MASTERS = ("MASTER_ADDR", "JAX_COORDINATOR_ADDRESS", "DMLC_TRACKER_URI")
_LOOPBACK = ("localhost", "127.", "::1")
_ELASTIC = "elastic "
_TRIAL = "trial"
_DIGITS_MAX = 9
# Shorter ids of torchrun are made up by people, or copied from a manual.
_ELASTIC_ID_CHARACTERS_MIN = 8


class Launch(NamedTuple):
    """A place in a launch; a single process has no rank. `key` is what all ranks share, if anything.

    `ordinal`: how many launches with this scope and id have finished before (see launch_record).
    """

    launcher: str = "single"
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    restart_hint: int | None = None
    key: str | None = None
    is_weak: bool = False
    resume_key: str | None = None
    node_rank: int | None = None
    scope: str | None = None
    launch_id: str | None = None
    scheduler_restart: int | None = None
    ordinal: int = 0

    def numbered(self, number: int) -> "Launch":
        """The launch of a process's run after `number` others: all ranks make the same runs in the same order."""
        return self._replace(key=f"{self.key}|run {number}") if self.key and number else self

    def repeated(self, ordinal: int) -> "Launch":
        """The same launch after `ordinal` others that have finished."""
        if not self.key or not ordinal:
            return self
        return self._replace(key=f"{self.key}|launch {ordinal}", ordinal=ordinal)

    def may_repeat(self) -> bool:
        """Whether a later launch may have the same scope and id."""
        return self.key is not None and self.launch_id != _TRIAL

    def is_elastic(self) -> bool:
        """Whether ranks are dealt anew at each start, to whichever nodes there are."""
        return (self.launch_id or "").startswith(_ELASTIC)

    def joins(self) -> str | None:
        """How well ranks are known to belong together: strong, weak, or None for a single process."""
        return None if self.key is None else "weak" if self.is_weak else "strong"


def detect_launch(environ: Mapping[str, str], *, parent: str = "", boot: str = "") -> Launch:
    """Read the variables of the known launchers; nonsense (rank beyond size) counts as single.

    `environ`: the environment, with what `frameworks` adds to it. `parent` names the process that started the ranks
    here, on this boot of this machine; "" when it cannot be seen. `boot`: the id of this boot.
    """
    scheduler_restart = _first_number(environ, "TRAINLEDGER_RESTART_COUNT", "SLURM_RESTART_COUNT")
    restart = _number(environ, "TORCHELASTIC_RESTART_COUNT")
    alone = Launch(
        restart_hint=scheduler_restart if restart is None else restart,
        resume_key=_resume_key(environ),
        scope=_scope(environ) or None,
        scheduler_restart=scheduler_restart,
    )
    source = _source(environ)
    if source is None:
        return _launch_of_nodes(environ, alone, boot)
    rank, size = _number(environ, source.rank), _number(environ, source.size)
    if rank is None or size is None or size == 1:
        return alone
    launch_id, is_weak = _launch_id(environ, source.launcher, size, parent=parent, boot=boot)
    key = f"{_scope(environ)}|{launch_id}" if launch_id else None
    is_accelerate = source.launcher == "torchrun" and any(name.startswith("ACCELERATE_") for name in environ)
    return alone._replace(
        launcher="accelerate" if is_accelerate else source.launcher,
        rank=rank,
        local_rank=_number(environ, source.local_rank),
        world_size=size,
        node_rank=_first_number(environ, source.node_rank, "PET_NODE_RANK"),
        key=key,
        is_weak=is_weak,
        launch_id=launch_id,
        resume_key=alone.resume_key or key,
    )


def rank_variable(environ: Mapping[str, str]) -> str | None:
    """The variable that says the rank of this process; None for a single one."""
    source = _source(environ)
    return None if source is None else source.rank


def run_id_of(key: str) -> bytes:
    """The run id that every rank of a launch computes: 128 bits of a SHA-256 in the form of a UUID."""
    # Not at the top: it loads OpenSSL, 4 ms that a single process need not pay.
    import hashlib

    raw = bytearray(hashlib.sha256(b"run/1\0" + key.encode("utf-8", "replace")).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def _source(environ: Mapping[str, str]) -> _Source | None:
    """The launcher that counts; None when none says a rank that makes sense."""
    bare_size = _number(environ, "WORLD_SIZE") or 0
    for source in _SOURCES:
        rank, size = _number(environ, source.rank), _number(environ, source.size)
        if source.needed not in environ or rank is None or size is None or not 0 <= rank < size:
            continue
        if source.launcher in _OUTER and size == 1:
            continue
        # One task a node that starts a process for each of its GPUs: what these were told is the finer.
        if source.launcher == "slurm" and bare_size > size and (_number(environ, "RANK") or 0) < bare_size:
            continue
        return source
    return None


def _launch_of_nodes(environ: Mapping[str, str], alone: Launch, boot: str) -> Launch:
    """A process around a launcher on each of several nodes (PET_ variables): it has no rank, but a launch."""
    nodes = environ.get("PET_NNODES", "")
    if not nodes or nodes == "1":
        return alone
    launch_id, is_weak = _launch_id(environ, "nodes", 0, boot=boot)
    if launch_id is None:
        return alone
    key = f"{_scope(environ)}|{launch_id}"
    node_rank = _number(environ, "PET_NODE_RANK")
    return alone._replace(
        launcher="torchrun", key=key, is_weak=is_weak, launch_id=launch_id, node_rank=node_rank
    )


def _launch_id(
    environ: Mapping[str, str], launcher: str, size: int, *, parent: str = "", boot: str
) -> tuple[str | None, bool]:
    """What names the launch inside its scope, and whether that is weak."""
    scope, step = _scope(environ), environ.get("SLURM_STEP_ID")
    if launcher == "ray" and environ.get("RAY_TRIAL_ID"):
        # In its scope already, whatever address and size its workers have when they are started again.
        return _TRIAL, False
    elastic = _elastic_id(environ)
    if elastic:
        return f"{_ELASTIC}{elastic}", not scope and len(elastic) < _ELASTIC_ID_CHARACTERS_MIN
    if launcher == "slurm" and scope and step:
        return f"step {step}", False
    if parent and _is_on_one_node(environ, size):
        return f"launched by {parent} of {size}", False
    if environ.get("PMIX_NAMESPACE"):
        return f"pmix {environ['PMIX_NAMESPACE']}{_transport(environ)} of {size}", False
    if scope and step:
        return f"step {step}", False
    for address, port in (
        ("MASTER_ADDR", "MASTER_PORT"),
        ("PET_MASTER_ADDR", "PET_MASTER_PORT"),
        ("HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_RENDEZVOUS_PORT"),
        ("DMLC_TRACKER_URI", "DMLC_TRACKER_PORT"),
    ):
        if environ.get(address) and environ.get(port):
            # Every machine has that address.
            where = f" on {boot}" if environ[address].startswith(_LOOPBACK) else ""
            return f"master {environ[address]}:{environ[port]}{where} of {size}", not scope
    for place, word in (("PET_RDZV_ENDPOINT", "rendezvous"), ("JAX_COORDINATOR_ADDRESS", "master")):
        if environ.get(place):
            return f"{word} {environ[place]} of {size}", not scope
    if scope:
        return f"of {size}", False
    return (f"launched by {parent} of {size}", True) if parent else (None, False)


def _transport(environ: Mapping[str, str]) -> str:
    """Of a number that Open MPI draws for each job; its namespaces are unique on one host only."""
    drawn = environ.get("OMPI_MCA_orte_precondition_transports")
    return f" {run_id_of(drawn).hex()[:16]}" if drawn else ""


def _scope(environ: Mapping[str, str]) -> str:
    """The job of the scheduler, and Ray's in it. Nothing that differs between its nodes or pods belongs here."""
    if "RAY_JOB_ID" not in environ:
        return _scheduler_job(environ)
    # Jobs of Ray are counted from 1 in each of its clusters.
    ray = [environ.get(name) for name in ("RAY_SESSION", "RAY_JOB_ID", "RAY_TRIAL_ID")]
    return "/".join(part for part in (_scheduler_job(environ), "ray", *ray) if part)


def _scheduler_job(environ: Mapping[str, str]) -> str:
    if environ.get("TRAINLEDGER_SCOPE"):
        return environ["TRAINLEDGER_SCOPE"]
    if environ.get("SLURM_JOB_ID"):
        # The parts of a heterogeneous job have ids of their own; that of the first stands for all.
        job = environ.get("SLURM_JOB_ID_HET_GROUP_0") or environ["SLURM_JOB_ID"]
        parts = (environ.get("SLURM_CLUSTER_NAME"), job, environ.get("SLURM_ARRAY_TASK_ID"))
        return "/".join(part for part in parts if part)
    return next((environ[name] for name in ("PBS_JOBID", "LSB_JOBID") if environ.get(name)), "")


def _resume_key(environ: Mapping[str, str]) -> str | None:
    scope, elastic = _scope(environ), _elastic_id(environ)
    return f"{scope}|{_ELASTIC}{elastic or ''}" if scope or elastic else None


def _elastic_id(environ: Mapping[str, str]) -> str | None:
    for name in (_TORCHRUN, "ELASTIC_RUN_ID", "PET_RDZV_ID"):
        if environ.get(name, "none") not in ("none", ""):
            return environ[name]
    return None


def _is_on_one_node(environ: Mapping[str, str], size: int) -> bool:
    """Whether one launcher started all ranks here. One that says it started fewer is one of several on this machine."""
    sizes = [found for name in _LOCAL_SIZES if (found := _number(environ, name)) is not None]
    if sizes:
        return size in sizes
    return any(environ.get(name, "").startswith(_LOOPBACK) for name in _MASTERS)


def _first_number(environ: Mapping[str, str], *names: str) -> int | None:
    return next((number for name in names if (number := _number(environ, name)) is not None), None)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= _DIGITS_MAX else None
