"""Who this process is, as the kernel sees it: what an agent outside needs to find it again.

Read anew in each process: a forked child has a pid and a start of its own. Where /proc is missing the
numbers are 0, which readers take for unknown.
"""

import os
import pwd
import resource
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.clock import read_boot_id

__all__ = ["ProcessFacts", "cpu_us", "name_launcher", "read_process_facts", "read_start_ticks"]

PARENTS_MAX = 20
# The inode of the machine's own pid namespace (PROC_PID_INIT_INO of the kernel), the same on all machines.
_MACHINE = 0xEFFFFFFC


class ProcessFacts(NamedTuple):
    """A process: (boot, pid namespace, pid, start) names it uniquely for ever."""

    pid: int
    uid: int
    start_ticks: int
    pid_namespace: int
    user: str
    host: str


def read_start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        # The second field is the program's name in brackets and may hold anything: count behind the last one.
        return int(stat[stat.rindex(b")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def read_process_facts() -> ProcessFacts:
    """The facts of the calling process."""
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    pid = os.getpid()
    return ProcessFacts(pid, uid, read_start_ticks(pid), _pid_namespace(), user, os.uname().nodename)


def name_launcher(variable: str | None, value: str) -> str:
    """A name of the process that started the ranks here, unlike any other's; "" when it cannot be seen.

    That is the nearest one above this that was not itself started with the rank in its environment: a shell script
    between `mpirun` and Python has the rank of what it starts.
    """
    pid = os.getppid()
    told = f"{variable}={value}".encode("utf-8", "surrogateescape")
    for _ in range(PARENTS_MAX if variable else 0):
        parent = _parent_of(pid)
        if pid <= 1 or parent is None or told not in _environment_of(pid):
            break
        pid = parent
    space = _pid_namespace()
    # On the machine itself process 1 takes over whoever lost its parent; in a container it is what was started there.
    started = read_start_ticks(pid) if pid > (1 if space == _MACHINE else 0) else 0
    if not started:
        return ""
    # Process 1 of two containers may have begun within one tick.
    within = "" if space == _MACHINE else f":{space}"
    return f"{read_boot_id().hex()}:{pid}:{started}{within}"


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # another user's
        return []


def _parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat[stat.rindex(b")") + 2 :].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def cpu_us() -> int:
    """CPU time of this process and its ended children so far, microseconds."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return round(total * 1e6)
