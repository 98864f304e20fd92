"""Every TRAINLEDGER_* variable of the SDK, once, with unit, default, range and reason.

| variable | unit, range | default | why |
|---|---|---|---|
| TRAINLEDGER_DIR | folder | none: see placement | where journals go |
| TRAINLEDGER_HOME | folder | $XDG_STATE_HOME/trainledger | spool, tables and the local API's socket |
| TRAINLEDGER_PROJECT | text | name of the repository or folder | project of runs that name none |
| TRAINLEDGER_EXPERIMENT, _TEAM, _NAME, _GROUP | text | none | the same for these |
| TRAINLEDGER_TAGS | texts with commas | none | tags of runs that name none |
| TRAINLEDGER_RUN_ID | UUID, or any text | none: a new run | the run to join; set by `trainledger run` and `init` |
| TRAINLEDGER_PARENT | pid:journal[:marks] | none | who set the run id; set with it, not by hand |
| TRAINLEDGER_WRAPPED | 1 | none | set by `trainledger run` for the command it wraps |
| TRAINLEDGER_RANK, _LOCAL_RANK, _WORLD_SIZE | number >= 0 | from the launcher | when no known launcher set them |
| TRAINLEDGER_NODE_RANK | number >= 0 | from the launcher | the node's number in the launch |
| TRAINLEDGER_SCOPE | text | the scheduler's job | what all ranks of a job share and no other job has: a JobSet's uid |
| TRAINLEDGER_RESTART_COUNT | number >= 0 | from the scheduler | grows when the scheduler starts the job again |
| TRAINLEDGER_MODE | on, disabled | on | `disabled` (also off, 0, false, no, none) records nothing, creates nothing |
| TRAINLEDGER_FINISH_WAIT_S | s, 0 to 3,600 | 0 | wait for the agent: for pods and spot nodes |
| TRAINLEDGER_ALLOW_NETWORK_DISK | 0, 1 | 0 | a stalled file server would stall training |
| TRAINLEDGER_CAPTURE | on, off | on | whether `init` captures code and environment |
| TRAINLEDGER_IMAGE | NAME@sha256:... | none | the container image, told by whoever starts it |
| TRAINLEDGER_INCLUDE | patterns with commas | none | ignored files that are code: `conf/local.yaml, gen/**/*.py` |
| TRAINLEDGER_BUDGET_MIB | MiB, 1 to 1,048,576 | 256 with an agent, 4,096 without | a journal's unread bytes |
| TRAINLEDGER_NODE | text | host name | the node's id, read by the agent |
| TRAINLEDGER_KAFKA, _CLICKHOUSE | address | none | read by the agent and by ingest, listed here for checks |
| TRAINLEDGER_ENGINE_MEMORY_MB | MB, 512 to 1,048,576 | 4,096 | read by the embedded tables, listed here for checks |
| TRAINLEDGER_BLOBS | s3://bucket/prefix | none: beside the journals alone | read by the agent and commands |
| TRAINLEDGER_ALERT_WEBHOOK, _ALERT_SMTP | URL | none | where `up` and `ingest` send alerts |
| TRAINLEDGER_ALERT_STALL_MINUTES | min, 0 to 10,080 | 10 | of those: a living run without a step; 0 = off |
| TRAINLEDGER_ALERT_IDLE_GPU_MINUTES | min, 0 to 1,380 | 30 | of those: a GPU without use; 0 = off |
| TRAINLEDGER_CURRENCY | code, as EUR | none: that of each price | what `cost` reports in by default |
| TRAINLEDGER_EC2 | auto, on, off | auto | of the agent: whether EC2 is asked which machine this is |
| TRAINLEDGER_SCHEDULERS | names with commas | all | of the schedulers whose reservations the agent counts |
| TRAINLEDGER_KUBELET | folder | /var/lib/kubelet | of the kubelet, where the agent runs beside one |
| TRAINLEDGER_NVIDIA_DRIVER | file | /proc/driver/nvidia/version | which driver is loaded, read by the agent |
| TRAINLEDGER_BLOBS_LOCAL_MIB | MiB, 0 to 1,073,741,824 | none: nothing is removed | copies that the agent keeps here |
| TRAINLEDGER_BLOBS_AT_ONCE | 1 to 64 | 16 | blobs that the agent sends side by side |

Nothing else in the SDK reads or writes the environment. Unknown names warn with the nearest known one; a value
out of range warns and the default holds, because a typing error must not stop a training.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from .spelling import nearest_name

__all__ = [
    "PARENT",
    "PREFIX",
    "RUN_ID",
    "VARIABLES",
    "WRAPPED",
    "Settings",
    "process_arguments",
    "process_environment",
    "set_variables",
]

PREFIX = "TRAINLEDGER_"
RUN_ID = "TRAINLEDGER_RUN_ID"
PARENT = "TRAINLEDGER_PARENT"
WRAPPED = "TRAINLEDGER_WRAPPED"

VARIABLES = frozenset(
    PREFIX + name
    for name in (
        "DIR HOME PROJECT EXPERIMENT TEAM NAME GROUP TAGS RUN_ID PARENT WRAPPED RANK LOCAL_RANK "
        "WORLD_SIZE NODE_RANK SCOPE RESTART_COUNT MODE "
        "NODE FINISH_WAIT_S ALLOW_NETWORK_DISK CAPTURE IMAGE BUDGET_MIB KAFKA CLICKHOUSE ENGINE_MEMORY_MB "
        "BLOBS BLOBS_LOCAL_MIB BLOBS_AT_ONCE SCHEDULERS KUBELET NVIDIA_DRIVER EC2 ALERT_WEBHOOK ALERT_SMTP "
        "ALERT_STALL_MINUTES ALERT_IDLE_GPU_MINUTES CURRENCY"
    ).split()
)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})
FINISH_WAIT_S_MAX = 3600.0
BUDGET_MIB_MAX = 1 << 20
BLOBS_LOCAL_MIB_MAX = 1 << 30
BLOBS_AT_ONCE_MAX = 64
# A password may stand in them, in the last one by mistake.
_UNSHOWN = ("kafka", "clickhouse", "blobs")


class Settings(NamedTuple):
    """What the environment says, checked; `warnings` are for the one who can print them."""

    dir: Path | None = None
    home: Path = Path("~/.local/state/trainledger")
    state_home: Path = Path("~/.local/state")
    project: str | None = None
    experiment: str | None = None
    team: str | None = None
    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    run_id: str | None = None
    parent: str | None = None
    wrapped: bool = False
    mode: str = "on"
    finish_wait_s: float = 0.0
    allow_network_disk: bool = False
    capture: bool = True
    include: tuple[str, ...] = ()
    image: str | None = None
    budget_mib: int | None = None
    # Addresses may hold a password: not printed.
    kafka: str | None = None
    clickhouse: str | None = None
    blobs: str | None = None
    blobs_local_mib: int | None = None
    blobs_at_once: int | None = None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = {name: value for name, value in self._asdict().items() if name not in _UNSHOWN}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check the variables; never raises, see `warnings`."""
        reader = _Reader(environ)
        state_home = _state_home(environ)
        return cls(
            dir=reader.path("DIR"),
            home=reader.path("HOME") or state_home / "trainledger",
            state_home=state_home,
            project=reader.text("PROJECT"),
            experiment=reader.text("EXPERIMENT"),
            team=reader.text("TEAM"),
            name=reader.text("NAME"),
            group=reader.text("GROUP"),
            tags=_listed(reader.text("TAGS")),
            run_id=reader.text("RUN_ID"),
            parent=reader.text("PARENT"),
            wrapped=reader.switch("WRAPPED", default=False),
            mode=reader.mode(),
            finish_wait_s=reader.number("FINISH_WAIT_S", 0.0, FINISH_WAIT_S_MAX) or 0.0,
            allow_network_disk=reader.switch("ALLOW_NETWORK_DISK", default=False),
            capture=reader.switch("CAPTURE", default=True),
            image=reader.text("IMAGE"),
            include=_listed(reader.text("INCLUDE")),
            budget_mib=_whole(reader.number("BUDGET_MIB", 1, BUDGET_MIB_MAX)),
            kafka=reader.text("KAFKA"),
            clickhouse=reader.text("CLICKHOUSE"),
            blobs=reader.text("BLOBS"),
            blobs_local_mib=_whole(reader.number("BLOBS_LOCAL_MIB", 0, BLOBS_LOCAL_MIB_MAX)),
            blobs_at_once=_whole(reader.number("BLOBS_AT_ONCE", 1, BLOBS_AT_ONCE_MAX)),
            warnings=tuple(reader.warnings + reader.unknown_names()),
        )


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def process_environment() -> MutableMapping[str, str]:
    """The environment of this process; `init` exports the run in it and `finish` takes it back."""
    return os.environ


def process_arguments() -> list[str]:
    """The command line of this process, the interpreter and its options too."""
    return [str(argument) for argument in getattr(sys, "orig_argv", sys.argv)]


def set_variables(values: Mapping[str, str | None]) -> None:
    """Set variables of this process's environment; None takes one away."""
    environ = process_environment()
    for name, value in values.items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value


def _state_home(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):  # the XDG rules say: relative paths are to be ignored
        return Path(given)
    # Stays relative ("~") for a user without a home: placement refuses it with a reason.
    return Path(environ.get("HOME") or os.path.expanduser("~")) / ".local" / "state"


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


class _Reader:
    """Takes values out of the environment and collects what was wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.warnings: list[str] = []

    def text(self, name: str) -> str | None:
        return self._environ.get(PREFIX + name, "").strip() or None

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        if text is None:
            return None
        # os.path, not Path: it leaves an unknown ~user as it is where Path raises.
        path = Path(os.path.expanduser(text))
        try:
            return path.absolute()
        except OSError:  # the working folder is gone
            self.warnings.append(f"{PREFIX}{name}={text!r} is relative to a folder that is gone; ignored")
            return None

    def switch(self, name: str, *, default: bool) -> bool:
        text = self._environ.get(PREFIX + name)
        if text is None:
            return default
        if text.strip().lower() not in _TRUE | _FALSE:
            self.warnings.append(f"{PREFIX}{name}={text!r} is neither on nor off; taken as {default}")
            return default
        return text.strip().lower() in _TRUE

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        text = (self.text(name) or choices[0]).lower()
        if text not in choices:
            self.warnings.append(
                f"{PREFIX}{name}={text!r} is not one of {', '.join(choices)}; taken as {choices[0]}"
            )
            return choices[0]
        return text

    def mode(self) -> str:
        text = (self.text("MODE") or "on").lower()
        if text in _TRUE:
            return "on"
        return "disabled" if text in _FALSE or text == "none" else self.choice("MODE", ("on", "disabled"))

    def number(self, name: str, low: float, high: float) -> float | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            self.warnings.append(f"{PREFIX}{name}={text!r} is not a number from {low:g} to {high:g}; ignored")
            return None
        return value

    def unknown_names(self) -> list[str]:
        found = []
        for name in sorted(self._environ):
            if name.startswith(PREFIX) and name not in VARIABLES:
                nearest = nearest_name(name, VARIABLES)
                meant = f"; did you mean {nearest}?" if nearest else ""
                found.append(f"{name} is not a known setting{meant}")
        return found
