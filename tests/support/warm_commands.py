"""Commands in processes that have imported the product before: each is a fork of one that waits for that.

Imports are half of what a command on a small home costs, and the tests run a thousand of them. A fork has a process,
environment, folder, home lock and exit status of its own, and calls what the console script calls. What is decided
before that is the same for all of them, so a command that wants other variables of Python, of the dynamic loader or of
the locale is not for it (`serves`). The engine is not loaded before the fork: it has threads.

Client and server speak over a socket pair of packets: a request is JSON with three file descriptors (stdout, stderr,
and a pipe on which the server tells {"pid": N} and then {"status": N}). The server ends when the client does.
"""

import atexit
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["WarmCommands"]

REQUEST_BYTES_MAX = 1 << 17
# Read by Python, the loader, the C library or a module before a command begins.
_READ_EARLY = (
    "LD_",
    "PYTHON",
    "LC_",
    "LANG",
    "TZ",
    "MALLOC_",
    "OPENBLAS_",
    "OMP_",
    "FORCE_COLOR",
    "NO_COLOR",
    "TERM",
)
# They come and go, and what they start is their own: these have a start of their own always.
_OWN_START = ("run", "up", "agent", "ingest")


class WarmCommands:
    """The server process, and `run` to ask it for a command."""

    def __init__(self, script: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * REQUEST_BYTES_MAX)
        self._socket = ours
        # Without threads of its linear algebra, which a fork would not have.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno()), str(script)],
            env=self._environment | {"OPENBLAS_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        atexit.register(self.close)

    def serves(self, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fork would be the same as a process that starts with this environment."""
        if not arguments or arguments[0] in _OWN_START:
            return False
        changed = {name for name, _ in self._environment.items() ^ environment.items()}
        return not any(name.startswith(_READ_EARLY) for name in changed)

    def run(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        """One command to its end. Raises TimeoutExpired, after killing it."""
        request = {
            "arguments": list(arguments), "folder": str(folder), "environment": dict(environment), "umask": _umask(),
        }  # fmt: skip
        told, tell = os.pipe()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                fds = [out.fileno(), err.fileno(), tell]
                socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
            finally:
                os.close(tell)
            with os.fdopen(told, "rb", buffering=0) as answers:
                status = _wait(answers, arguments, timeout_s)
            texts = [_text(file) for file in (out, err)]
        return subprocess.CompletedProcess(list(arguments), status, *texts)

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait()


def _wait(answers: Any, arguments: Sequence[str], timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    pid, text = 0, b""
    while True:
        if not select.select([answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if pid:
                os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout_s)
        read = answers.read(4096)
        assert read, f"the server of warm commands ended before {arguments} did"
        text += read
        for line in text.splitlines():
            answer = json.loads(line)
            pid = answer.get("pid", pid)
            if "status" in answer:
                return int(answer["status"])


def _text(file: Any) -> str:
    file.seek(0)
    # As subprocess with text=True: a carriage return of a progress line is a line's end.
    text: str = file.read().decode()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _umask() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("Umask:")[2].split()[0], 8)


# -- the server --------------------------------------------------------------------------------------


def _serve(server: socket.socket) -> dict[str, Any] | None:
    """Answer requests until the client has gone: None. In a fork, the request that it is for."""
    chosen = selectors.DefaultSelector()
    chosen.register(server, selectors.EVENT_READ)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for key, _ in chosen.select():
            if key.fileobj is server:
                packet, fds, _, _ = socket.recv_fds(server, REQUEST_BYTES_MAX, 3)
                if not packet:
                    return None
                request: dict[str, Any] = json.loads(packet)
                pid = os.fork()
                if pid == 0:
                    _take_over(request, fds)
                    server.close()
                    return request
                for fd in fds[:2]:
                    os.close(fd)
                os.write(fds[2], json.dumps({"pid": pid}).encode() + b"\n")
                ended = os.pidfd_open(pid)
                running[ended] = (pid, fds[2])
                chosen.register(ended, selectors.EVENT_READ)
            else:
                ended = key.fd
                pid, tell = running.pop(ended)
                chosen.unregister(ended)
                os.close(ended)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                try:
                    os.write(tell, json.dumps({"status": status}).encode() + b"\n")
                except BrokenPipeError:
                    pass  # it was killed because nobody waits any more
                os.close(tell)


def _take_over(request: dict[str, Any], fds: Sequence[int]) -> None:
    """Make this fork what the request wants."""
    for number, fd in ((1, fds[0]), (2, fds[1])):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])


def main() -> int:
    """Import what commands need, and wait to be forked."""
    server, script = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    # Ctrl-C is for the tests; they end this by closing their side.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command_line = import_module("trainledger.cli").main
    import_module("trainledger_ingest.cli.app").make_app()
    import_module("trainledger_ingest.embedded")
    # Else each fork copies every page with objects on it as soon as its collector looks at them.
    gc.collect()
    gc.freeze()
    request = _serve(server)
    if request is None:
        return 0
    sys.argv = [script, *request["arguments"]]
    return int(command_line())


if __name__ == "__main__":
    sys.exit(main())
