"""The launch that this process belongs to, as `init` and the wrapper find it: what `launch` decides, with its facts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainledger_schemas.clock import SystemClock, read_boot_id

from .frameworks import framework_variables
from .launch import Launch, detect_launch, rank_variable
from .launcher_command import launcher_variables
from .placement import Placement
from .process_facts import name_launcher, read_process_facts
from .settings import process_environment

if TYPE_CHECKING:
    from .launch_record import LaunchRecord

__all__ = ["find_launch", "is_first_on_node"]


def find_launch(
    place: Placement, *, number: int, is_told: bool, command: Sequence[str] = ()
) -> "tuple[Launch, LaunchRecord | None]":
    """The launch of this process's run after `number` others, and its line in the node's record of launches.

    `is_told`: the run is known by other means, so that nothing has to be written down. `command`: what the wrapper is
    about to start, which may be a launcher on one of several nodes.
    """
    environ = dict(process_environment()) | framework_variables() | launcher_variables(command)
    variable = rank_variable(environ)
    parent = name_launcher(variable, environ[variable]) if variable is not None else ""
    launch = detect_launch(environ, parent=parent, boot=read_boot_id().hex()).numbered(number)
    if is_told or not launch.may_repeat() or place.folder is None:
        return launch, None
    # Not at the top: 2 ms that a single process need not pay.
    from .launch_record import record_launch

    ordinal, record = record_launch(
        place.folder, launch, parent=parent, facts=read_process_facts(), clock=SystemClock()
    )
    return launch.repeated(ordinal), record


def is_first_on_node(launch: Launch) -> bool:
    """Whether this process is the first of its launch on this node, which captures the code for all."""
    return not (launch.rank if launch.local_rank is None else launch.local_rank)
