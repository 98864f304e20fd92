"""The environment variables that decide what a training computes: by an allow-list of names, without secrets. Pure."""

from collections.abc import Mapping

from ..redaction import is_secret_name, redact

__all__ = ["describe_variables"]

_PREFIXES = tuple(
    "CUDA_ CUBLAS_ CUDNN_ NVIDIA_ NCCL_ TORCH PYTORCH_ OMP_ MKL_ OPENBLAS_ KMP_ BLIS_ NUMEXPR_ XLA_ JAX_ TF_ "
    "TOKENIZERS_ PYTHON SLURM_ OMPI_COMM_ PMI PET_ UCX_ FI_".split()
)
_NAMES = frozenset(
    "HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE LD_LIBRARY_PATH LD_PRELOAD TZ LANG LC_ALL RANK LOCAL_RANK "
    "WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT PL_GLOBAL_SEED VIRTUAL_ENV CONDA_DEFAULT_ENV".split()
)
VALUE_CHARS_MAX = 2000
VARIABLES_MAX = 300


def describe_variables(environ: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The allowed variables, and how many of them were withheld because they look like secrets or are too long."""
    found: dict[str, str] = {}
    withheld = 0
    for name in sorted(environ):
        if name not in _NAMES and not name.startswith(_PREFIXES):
            continue
        value = environ[name]
        is_safe = (
            not is_secret_name(name)
            and redact(value) == value
            and redact(f"{name}={value}") == f"{name}={value}"
        )
        if is_safe and len(value) <= VALUE_CHARS_MAX and len(found) < VARIABLES_MAX:
            found[name] = value
        else:
            withheld += 1
    return found, withheld
