"""What Ray and torch know of this process's rank, where they are imported and have set it up; nothing is imported here.

Ray Train sets RANK late, or not at all, and one job of Ray runs many trainings: which one is in no variable. A process
group of torch may have been made with rank and size as arguments (`multiprocessing.spawn`). Both are given to
`detect_launch` as if they were variables. Whatever these modules do, nothing is raised.

Ray counts jobs from 1 in each cluster: its session, named after when and by which process it was started, tells
clusters apart. A training of Train V2 has a number of its own, in its internal context alone; in V1 it was a trial of
Tune. The name of its experiment may be used again. Tried with Ray 2.60, V1 and V2.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

from .interruption import is_from_handler

__all__ = ["framework_variables"]


def framework_variables() -> dict[str, str]:
    """RAY_SESSION, _JOB_ID, _TRIAL_ID, RANK and the like, PROCESS_GROUP_RANK and _SIZE, as far as they are known."""
    found: dict[str, str] = {}
    for read in (_ray_job, _ray_train, _process_group):
        found |= _read(read) or {}
    return found


def _ray_job() -> dict[str, str]:
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    found = {"RAY_JOB_ID": str(context.get_job_id())}
    # Older versions of Ray do not tell the session: the address of the cluster's head is nearly as good.
    session = _read(lambda: context.get_session_name()) or _read(lambda: context.gcs_address)
    return found | {"RAY_SESSION": str(session)} if session else found


def _ray_train() -> dict[str, str]:
    train: Any = sys.modules.get("ray.train")
    if train is None or not sys.modules["ray"].is_initialized():
        return {}
    context = train.get_context()
    internal: Any = sys.modules.get("ray.train.v2._internal.execution.context")
    trial = (
        _read(lambda: internal.get_train_context().train_run_context.run_id)
        or _read(lambda: context.get_trial_id())
        or _read(lambda: context.get_experiment_name())
    )
    return {
        "RAY_TRIAL_ID": str(trial or ""),
        "RANK": str(context.get_world_rank()),
        "LOCAL_RANK": str(context.get_local_rank()),
        "WORLD_SIZE": str(context.get_world_size()),
        "NODE_RANK": str(context.get_node_rank()),
    }


def _process_group() -> dict[str, str]:
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return {}
    return {
        "PROCESS_GROUP_RANK": str(distributed.get_rank()),
        "PROCESS_GROUP_SIZE": str(distributed.get_world_size()),
    }


def _read(read: "Callable[[], Any]") -> Any:
    """What `read` finds; None where that is another version, or not set up yet."""
    try:
        # Ray warns of what it will remove, in a job whose author did not ask for it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return read()
    except Exception as error:
        if is_from_handler(error):
            raise
        return None
