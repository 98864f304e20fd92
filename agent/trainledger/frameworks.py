"""What Ray and torch know of this process's rank, where they are imported and have set it up; nothing is imported here.

Ray Train sets RANK late, and one job of Ray runs many trials: its trial is in no variable. A process group of torch
may have been made with rank and size as arguments (`multiprocessing.spawn`). Both are given to `detect_launch` as if
they were variables. Whatever these modules do, nothing is raised.
"""

import sys
from typing import Any

from .interruption import is_from_handler

__all__ = ["framework_variables"]


def framework_variables() -> dict[str, str]:
    """RAY_JOB_ID, RAY_TRIAL_ID, PROCESS_GROUP_RANK and PROCESS_GROUP_SIZE, as far as they are known."""
    found: dict[str, str] = {}
    for read in (_ray, _process_group):
        try:
            found |= read()
        except Exception as error:  # another version, or not set up yet
            if is_from_handler(error):
                raise
    return found


def _ray() -> dict[str, str]:
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    found = {"RAY_JOB_ID": str(ray.get_runtime_context().get_job_id())}
    train: Any = sys.modules.get("ray.train")
    if train is not None:
        context = train.get_context()
        found["RAY_TRIAL_ID"] = str(context.get_trial_id() or "")
        found |= {
            "RANK": str(context.get_world_rank()),
            "LOCAL_RANK": str(context.get_local_rank()),
            "WORLD_SIZE": str(context.get_world_size()),
            "NODE_RANK": str(context.get_node_rank()),
        }
    return found


def _process_group() -> dict[str, str]:
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return {}
    return {
        "PROCESS_GROUP_RANK": str(distributed.get_rank()),
        "PROCESS_GROUP_SIZE": str(distributed.get_world_size()),
    }
