"""A SLURM cluster of two nodes on this machine: a controller and two slurmd, in a folder, on free ports.

Needs root, as CI has it, and slurmd, slurmctld, slurm-client and munge. Ends with the context; jobs are cancelled.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.polling import poll_until

__all__ = ["slurm_cluster"]

NODES = ("node-a", "node-b")
_CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=1
SlurmdParameters=config_overrides
{gres}
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 SocketsPerBoard=1 "
    "CoresPerSocket=16 ThreadsPerCore=1 RealMemory=500{gres}"
)


@contextmanager
def slurm_cluster(folder: Path, *, gpus: int = 0) -> Iterator[dict[str, str]]:
    """Start it; gives the variables with which `srun`, `sbatch` and the like find it. `folder` has a short path.

    `gpus`: how many each node has, as far as SLURM knows; their device files are those of /dev/null."""
    (folder / "state").mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    controller, *ports = _free_ports(1 + len(NODES))
    host = socket.gethostname()
    nodes = "\n".join(
        _NODE.format(name=name, host=host, port=port, gres=f" Gres=gpu:{gpus}" if gpus else "")
        for name, port in zip(NODES, ports, strict=True)
    )
    for number in range(gpus):
        (folder / f"nvidia{number}").symlink_to("/dev/null")
    if gpus:
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/nvidia[0-{gpus - 1}]\n")
    config = folder / "slurm.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder, controller=controller, nodes=nodes, gres="GresTypes=gpu" if gpus else ""
        )
    )
    environment = {"SLURM_CONF": str(config)}
    munge = {name: f"{folder}/munge.{name}" for name in ("sock", "pid", "log", "seed")}
    with ExitStack() as stack:
        _start(
            stack,
            f"munged --foreground --force --key-file={key} --socket={munge['sock']} --pid-file={munge['pid']} "
            f"--log-file={munge['log']} --seed-file={munge['seed']}",
        )
        poll_until(lambda: Path(munge["sock"]).exists())
        _start(stack, f"slurmctld -D -f {config}")
        for name in NODES:
            _start(stack, f"slurmd -D -f {config} -N {name}")

        def idle() -> bool:
            command = ["sinfo", "--noheader", "--Node", "--format=%T"]
            done = subprocess.run(
                command, env=os.environ | environment, capture_output=True, text=True, timeout=30
            )
            return done.stdout.split() == ["idle"] * len(NODES)

        poll_until(idle, deadline_s=60, pause_s=0.2)
        stack.callback(subprocess.run, ["scancel", "--me"], env=os.environ | environment, timeout=30)
        yield environment


def _start(stack: ExitStack, command: str) -> None:
    process = subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(made.getsockname()[1]) for made in sockets]
