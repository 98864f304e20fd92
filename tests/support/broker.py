"""One real Kafka broker in a folder: broker and controller in one Java process on loopback.

Guarantees: `start` returns when the broker answers a request; what it acknowledged before `stop` or `kill` is
there after the next `start` on the same folder, on the same ports. The broker dies with the process that
started it, even when that one is killed.
Limits: one node, no passwords, no TLS; a first start takes 2 to 5 s, one after `kill` about 3 s (the old
session has to run out first). Linux only. Not for two threads at once.
Needs `java` on the path and the jars that `make kafka-jars` brings; without them `start` raises RuntimeError.
"""

import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from string import Template
from typing import Self

from trainledger_schemas.clock import Clock, SystemClock

__all__ = ["Broker", "java_command"]

KAFKA_FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kafka"
JAR_FOLDER = KAFKA_FOLDER / "lib"
TEMPLATE = KAFKA_FOLDER / "server.properties.template"

# Any fixed id will do: a folder holds one node of one cluster.
CLUSTER_ID = "dHJhaW5sZWRnZXItdGVzdA"
# The first compiler alone: the second costs CPU that a broker of a few minutes never earns back.
JAVA_FLAGS = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
START_S_MAX = 90.0
STOP_S_MAX = 20.0
LOG_TAIL_BYTES = 4_000
# Ports below the range the kernel gives to outgoing connections. Inside that range a client that keeps trying to
# reach a dead broker may be given the broker's own port: it connects to itself, and the broker cannot start.
PORT_FIRST = 15_000
PORT_COUNT = 15_000
# ApiVersions, version 0, correlation id 7, no client id: the request any broker answers before all else.
API_VERSIONS_REQUEST = struct.pack(">ihhih", 10, 18, 0, 7, -1)

_ports_tried = itertools.count()


class Broker:
    """A broker process in `folder` (made when missing), on `port` or on a free one that the folder remembers.

    `kill` and `pause` are what a test does to it; `log_path` has all that Kafka and Java printed.
    """

    def __init__(self, folder: Path, port: int | None = None, *, clock: Clock | None = None) -> None:
        self.folder = folder.resolve()
        self.log_path = self.folder / "broker.log"
        self._clock = clock or SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._properties = self.folder / "server.properties"
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self._known_ports()
        self.port = port or known.get("port") or _free_port()
        self._controller_port = known.get("controller_port") or _free_port()

    @property
    def bootstrap(self) -> str:
        """What a client calls `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        return self._process.pid if self.is_running() and self._process is not None else None

    def is_running(self) -> bool:
        """Whether the process lives (paused counts as living)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start, and return once it answers; harmless when it runs already.

        Raises RuntimeError: Java or the jars are missing, the port is taken, it ended, or it did not answer
        in time (with the end of its log).
        """
        if self.is_running():
            return self
        java = java_command()
        for port in (self.port, self._controller_port):
            # Without this, a stranger that answers on our port would pass for our broker.
            if not _is_free(port, reuse=True):
                what = f"cannot start: port {port} is taken; `ss -ltnp` shows by whom"
                raise RuntimeError(self._trouble(what))
        self._write_properties()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(java)
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal must reach only the owner, who then stops the broker.
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(self._properties)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard = _guard_of(self._process.pid)
        self._await_answer()
        return self

    def stop(self) -> None:
        """End it in order (SIGTERM); harmless when it does not run.

        Raises RuntimeError when it had to be killed because it did not end in time.
        """
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(self._trouble(f"did not end within {STOP_S_MAX:.0f} s of SIGTERM")) from None
        self._reaped()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a power cut or the OOM killer does; harmless when it does not run."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._reaped()

    def pause(self) -> None:
        """Freeze it (SIGSTOP), and return when it stands: connections stay open and nothing answers."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        # WNOWAIT leaves the end of the process, should it come first, to Popen.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused broker go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or not self.is_running():
            raise RuntimeError(self._trouble("is not running; start() it first"))
        return self._process

    def _reaped(self) -> None:
        self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _known_ports(self) -> dict[str, int]:
        """The ports of the broker that used this folder before: its clients and its quorum know them."""
        try:
            lines = (self.folder / "ports").read_text(encoding="ascii").split()
        except FileNotFoundError:
            return {}
        return {name: int(number) for name, number in (line.split("=") for line in lines)}

    def _write_properties(self) -> None:
        values = {"port": str(self.port), "controller_port": str(self._controller_port)}
        (self.folder / "ports").write_text("".join(f"{k}={v}\n" for k, v in values.items()), encoding="ascii")
        template = Template(TEMPLATE.read_text(encoding="utf-8"))
        self._properties.write_text(
            template.safe_substitute(values, data=str(self.folder / "data")), encoding="utf-8"
        )

    def _format(self, java: list[str]) -> None:
        """Write the empty log folder that Kafka wants to find; about 2 s, once a folder."""
        command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._properties)]
        with self.log_path.open("ab") as log:
            done = subprocess.run(command, cwd=self.folder, stdout=log, stderr=log, timeout=START_S_MAX)
        if done.returncode:
            raise RuntimeError(self._trouble(f"could not format its folder (exit status {done.returncode})"))

    def _await_answer(self) -> None:
        deadline_ns = self._clock.monotonic_ns() + round(START_S_MAX * 1e9)
        while not _answers(self.port):
            if not self.is_running():
                status = self._process.returncode if self._process else None
                self._reaped()
                raise RuntimeError(self._trouble(f"ended with status {status} before it answered"))
            if self._clock.monotonic_ns() > deadline_ns:
                self.kill()
                raise RuntimeError(self._trouble(f"did not answer within {START_S_MAX:.0f} s"))
            self._clock.sleep(0.05)

    def _trouble(self, what: str) -> str:
        try:
            tail = self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        except FileNotFoundError:
            tail = "(no log yet)"
        return f"the Kafka broker on {self.bootstrap} {what}; the end of {self.log_path}:\n{tail}"


def java_command() -> list[str]:
    """`java` with our flags and class path; RuntimeError says what to install."""
    java = shutil.which("java")
    if java is None:
        raise RuntimeError(
            "a test broker needs java 17 or newer, and there is none on the path; "
            "install it (Debian: openjdk-17-jre-headless), then run `make kafka-jars`"
        )
    # Sorted: the order of the class path must not depend on the file system.
    jars = sorted(str(path) for path in JAR_FOLDER.glob("*.jar"))
    if not any(Path(jar).name.startswith("kafka_2.13-") for jar in jars):
        raise RuntimeError(f"the Kafka jars are missing in {JAR_FOLDER}; run `make kafka-jars`")
    return [java, *JAVA_FLAGS, "-cp", os.pathsep.join(jars)]


def _guard_of(pid: int) -> subprocess.Popen[bytes]:
    """A shell that waits until our end of its pipe closes, which only our death does, and then kills `pid`.

    PR_SET_PDEATHSIG would not do: the kernel binds it to the thread that started the broker, so a broker that
    was restarted from a thread would die with that thread.
    """
    script = f"read -r _; kill -KILL {pid}"
    return subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _free_port() -> int:
    """A port that nothing listens on now, starting at a place that differs between processes."""
    first = os.getpid() * 31
    for _ in range(PORT_COUNT):
        port = PORT_FIRST + (first + next(_ports_tried)) % PORT_COUNT
        if _is_free(port, reuse=False):
            return port
    raise RuntimeError(f"no free port from {PORT_FIRST} to {PORT_FIRST + PORT_COUNT - 1}")


def _is_free(port: int, *, reuse: bool) -> bool:
    """Whether one may listen on `port`; with `reuse`, as Java does it, fading connections do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    """Whether a broker answers ApiVersions. Kafka opens the port last, so an answer means that it serves."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.sendall(API_VERSIONS_REQUEST)
            header = link.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(header) == 8 and struct.unpack(">ii", header)[1] == 7
