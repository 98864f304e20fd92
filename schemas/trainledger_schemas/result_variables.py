"""The environment variables that decide what a training computes, by name. Pure.

They are recorded with a run and set again when it is repeated; all others are neither.
"""

__all__ = ["is_launch_variable", "is_result_variable"]

_PREFIXES = tuple(
    "CUDA_ CUBLAS_ CUDNN_ NVIDIA_ NCCL_ TORCH PYTORCH_ OMP_ MKL_ OPENBLAS_ KMP_ BLIS_ NUMEXPR_ XLA_ JAX_ "
    # Not TF_ alone: TF_VAR_ and TF_CLI_ are Terraform's.
    "TF_CPP_ TF_CUDNN_ TF_DETERMINISTIC_ TF_DISABLE_ TF_ENABLE_ TF_FORCE_ TF_GPU_ TF_NUM_ TF_XLA_ "
    "TOKENIZERS_ PYTHON UCX_ FI_".split()
)
_NAMES = frozenset(
    "HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE LD_LIBRARY_PATH LD_PRELOAD TZ LANG LC_ALL "
    "PL_GLOBAL_SEED VIRTUAL_ENV CONDA_DEFAULT_ENV TRAINLEDGER_INCLUDE".split()
)
_LAUNCH_PREFIXES = ("SLURM_", "OMPI_COMM_", "PMI", "PET_", "TORCHELASTIC_")
_LAUNCH_NAMES = frozenset(
    "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE MASTER_ADDR MASTER_PORT".split()
)


def is_result_variable(name: str) -> bool:
    """Whether the value of this variable can change a result."""
    return (name in _NAMES or name.startswith(_PREFIXES)) and not is_launch_variable(name)


def is_launch_variable(name: str) -> bool:
    """Whether a launcher or scheduler set it: recorded, but another launch has its own."""
    return name in _LAUNCH_NAMES or name.startswith(_LAUNCH_PREFIXES)
