"""Nodes of a cluster on one machine: each a network namespace with its own address on a common bridge.

Needs root, as CI has it. Each has its own journals, home, node id and host name; processes started on it see only its
network. What listens on loopback outside (a broker) is reached on the same port of its loopback through a relay, so
that addresses which a server advertises hold inside too. All are removed at the end, with what still runs on them.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.installation import BIN, Installation
from support.polling import poll_until

__all__ = ["NetworkNode", "network_nodes"]

# Two ends: one listens on a unix socket, which network namespaces share, the other on TCP inside.
_RELAY = """
import asyncio, sys
listen, connect = sys.argv[1:]

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    try:
        if connect.isdecimal():
            far = await asyncio.open_connection("127.0.0.1", int(connect))
        else:
            far = await asyncio.open_unix_connection(connect)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))

async def main():
    if listen.isdecimal():
        server = await asyncio.start_server(serve, "127.0.0.1", int(listen))
    else:
        server = await asyncio.start_unix_server(serve, listen)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class NetworkNode:
    """One node: `address` on the bridge, and an installation that a user of it has."""

    def __init__(self, name: str, namespace: str, address: str, folder: Path) -> None:
        self.name = name
        self.address = address
        self.installation = Installation(folder)
        self.installation.environment |= {"TRAINLEDGER_NODE": name}
        self._inside = ["ip", "netns", "exec", namespace]

    def shell(self) -> str:
        """The beginning of a shell command that runs the rest of it on this node, in its environment."""
        ours = self.installation.environment.items()
        told = [f"{name}={value}" for name, value in ours if name.startswith("TRAINLEDGER_")]
        return shlex.join([*self._inside, "env", *told])

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a command on this node."""
        return subprocess.Popen(
            [*self._inside, *command],
            cwd=self.installation.folder,
            env=self.installation.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def agent(self) -> "subprocess.Popen[str]":
        """Start the node's agent; returns when it watches."""
        with (self.installation.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                [*self._inside, str(BIN / "trainledger"), "agent"],
                cwd=self.installation.folder,
                env=self.installation.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None and process.stdout.readline().startswith("ready")
        return process


@contextmanager
def network_nodes(
    folder: Path, names: Sequence[str], *, loopback_port: int | None = None
) -> Iterator[list[NetworkNode]]:
    """Nodes with these names; `loopback_port` of this machine's loopback is theirs too."""
    tag = f"tl{os.getpid() % 100_000}"
    bridge, block = f"{tag}b", f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("link", "set", bridge, "up")
        relay_socket = None
        if loopback_port is not None:
            relay_socket = str(folder / "relay")
            _relay(stack, [], relay_socket, str(loopback_port))
        nodes = []
        for number, name in enumerate(names, 1):
            namespace, address = f"{tag}n{number}", f"{block}.{number}"
            _ip("netns", "add", namespace)
            stack.callback(_remove, namespace)
            _ip("link", "add", f"{tag}v{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", f"{tag}v{number}", "master", bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
            (folder / name).mkdir()
            nodes.append(NetworkNode(name, namespace, address, folder / name))
            if relay_socket is not None:
                _relay(stack, ["ip", "netns", "exec", namespace], str(loopback_port), relay_socket)
        yield nodes


def _relay(stack: ExitStack, inside: Sequence[str], listen: str, connect: str) -> None:
    process = subprocess.Popen(
        [*inside, sys.executable, "-c", _RELAY, listen, connect], stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        process.kill()
        process.communicate()

    stack.callback(end)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


def _remove(namespace: str) -> None:
    def pids() -> list[str]:
        return subprocess.run(
            ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True
        ).stdout.split()

    for pid in pids():
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            pass
    poll_until(lambda: not pids())
    _ip("netns", "del", namespace)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
