"""The processes of a campaign beside the training: agent and worker in one, or agent, broker and worker.

A daemon here is killed, frozen and started again at any moment, in the middle of its start too. It may end by
itself only when it is told to; anything else is the failure of the campaign, with the end of what it printed.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from faults.checker import PRICE_PER_HOUR
from support.broker import Broker
from support.installation import BIN, Installation
from support.polling import poll_until

__all__ = ["Daemon", "Deployment", "UnexpectedEndError", "make_kafka", "make_spool"]

OUTPUT_TAIL_CHARACTERS = 3000


class UnexpectedEndError(Exception):
    """A part of the product ended by itself, or did not end when told to."""


class Victim(Protocol):
    """What a campaign may do to a process."""

    def kill(self) -> None:
        """SIGKILL."""

    def start(self) -> object:
        """Start it again; harmless when it runs."""

    def pause(self) -> None:
        """SIGSTOP."""

    def resume(self) -> None:
        """SIGCONT."""


class Daemon:
    """`trainledger ARGUMENTS`, which runs until it is told to end."""

    def __init__(self, name: str, arguments: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._command = [str(BIN / "trainledger"), *arguments]
        self.environment = dict(environment)
        self._output = folder / f"{name}.output"
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0

    def start(self) -> None:
        self.check()
        if self._process is not None:
            return
        with self._output.open("ab") as output:
            self._began = output.tell()
            self._process = subprocess.Popen(
                self._command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises UnexpectedEndError when it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise UnexpectedEndError(
                f"{self.name} ended with status {self._process.returncode}: {self._tail()}"
            )

    def kill(self) -> None:
        if self._process is not None:
            self.check()
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        if self._process is not None:
            self.check()
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ctrl-C once it is ready, and wait; raises UnexpectedEndError if its status is not 0."""
        if self._process is None:
            return
        poll_until(self._is_ready, deadline_s=90, pause_s=0.05)
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(60)
        except subprocess.TimeoutExpired:
            raise UnexpectedEndError(
                f"{self.name} did not end within 60 s of SIGINT: {self._tail()}"
            ) from None
        self._process = None
        if status:
            raise UnexpectedEndError(f"{self.name} ended with status {status} at SIGINT: {self._tail()}")

    def _is_ready(self) -> bool:
        self.check()
        with self._output.open("rb") as output:
            output.seek(self._began)
            return any(line.startswith(b"ready") for line in output)

    def _tail(self) -> str:
        return self._output.read_text(errors="replace")[-OUTPUT_TAIL_CHARACTERS:]


class OneShot:
    """`trainledger sync` while no daemon runs: killed, or frozen for a while, in the middle of its work."""

    def __init__(self, daemon: Daemon, chance: random.Random) -> None:
        self._daemon = daemon
        self._chance = chance
        self._node = daemon.environment
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """Kill the daemon and then the command that does its work, at any point of it."""
        self._daemon.kill()
        self._begin()
        self._end()

    def pause(self) -> None:
        self._daemon.kill()
        self._begin()
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(60)
            self._process = None

    def start(self) -> None:
        """Nothing: the daemon is started by the campaign."""

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [str(BIN / "trainledger"), "sync"],
            env=self._node,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(self._chance.uniform(0, 2))

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Deployment:
    """What runs, what may be killed, and how to bring everything into the tables in the end."""

    def __init__(self, node: Installation, *, broker: Broker | None = None) -> None:
        self.node = node
        self.broker = broker
        self.daemons: dict[str, Daemon] = {}
        self.victims: dict[str, Victim] = {}
        self.query_environment: dict[str, str] = dict(node.environment)

    def settle(self) -> None:
        """All processes go on, then end in order; what is left to be read is read."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill what still runs."""
        for daemon in self.daemons.values():
            try:
                daemon.kill()
            except UnexpectedEndError:
                continue
        if self.broker is not None and self.broker.pid is not None:
            os.kill(self.broker.pid, signal.SIGCONT)
            self.broker.kill()

    def start(self) -> None:
        """Start every daemon."""
        for daemon in self.daemons.values():
            daemon.start()

    def must(self, *arguments: str, **environment: str) -> None:
        """Run a command that has to succeed."""
        done = self.node.command(*arguments, **environment)
        if done.returncode:
            raise UnexpectedEndError(
                f"{' '.join(arguments)}: status {done.returncode}: {done.stderr[-OUTPUT_TAIL_CHARACTERS:]}"
            )


class SpoolDeployment(Deployment):
    """Embedded: `up` is agent and worker."""

    def __init__(self, node: Installation, seed: int) -> None:
        super().__init__(node)
        self.must("price", "set", "--node", "*", "--usd-per-hour", PRICE_PER_HOUR)
        up = Daemon("up", ["up"], node.environment, node.folder)
        self.daemons = {"up": up}
        self.victims = {"up": up, "sync": OneShot(up, random.Random(seed))}

    def settle(self) -> None:
        up = self.daemons["up"]
        up.resume()
        up.start()
        up.end()
        self.must("sync")
        self.must("admin", "verify")
        # It compares old and new tables run by run, so what the checker sees next holds for both.
        self.must("admin", "rebuild")


class KafkaDeployment(Deployment):
    """Agent, broker and worker, each by itself; the tables are chDB's in a home of their own."""

    def __init__(self, node: Installation, broker: Broker) -> None:
        super().__init__(node, broker=broker)
        kafka = {"TRAINLEDGER_KAFKA": broker.bootstrap}
        tables = str(node.folder / "tables")
        self.must("admin", "topics", **kafka)
        environment = node.environment | kafka
        self.query_environment = environment | {"TRAINLEDGER_HOME": tables}
        self._agent_once = (["agent", "--once"], kafka)
        self._ingest_once = (["ingest", "--once", "--home", tables], kafka)
        agent = Daemon("agent", ["agent"], environment, node.folder)
        worker = Daemon("worker", ["ingest", "--home", tables], environment, node.folder)
        self.daemons = {"agent": agent, "worker": worker}
        self.victims = {"agent": agent, "worker": worker, "broker": broker}

    def settle(self) -> None:
        assert self.broker is not None
        if self.broker.is_running():
            self.broker.resume()
        self.broker.start()
        for daemon in self.daemons.values():
            daemon.resume()
            daemon.start()
            daemon.end()
        for arguments, environment in (self._agent_once, self._ingest_once):
            self.must(*arguments, **environment)


def make_spool(folder: Path, seed: int) -> Deployment:
    """A node by itself below `folder`."""
    return SpoolDeployment(Installation(folder), seed)


def make_kafka(folder: Path, seed: int) -> Deployment:
    """A node, a broker of its own and tables behind it, below `folder`."""
    del seed  # nothing here is left to chance
    broker = Broker(folder / "broker").start()
    try:
        return KafkaDeployment(Installation(folder), broker)
    except BaseException:
        broker.kill()
        raise
