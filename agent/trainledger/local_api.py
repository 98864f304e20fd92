"""Questions to the local API, with standard library sockets and a limit of time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["ask", "ask_run_cost"]

TIMEOUT_S = 0.2
ANSWER_BYTES_MAX = 65_536


def ask_run_cost(socket_path: Path, run_id: str) -> "Decimal | None":
    """The cost so far; None when nobody answers within 200 ms or the cost is unknown."""
    # Not at the top, as below: a training that never asks need not load it.
    from decimal import Decimal, InvalidOperation

    cost = ask(socket_path, f"/run-cost?run_id={run_id}").get("cost")
    try:
        return None if cost is None else Decimal(str(cost))
    except InvalidOperation:
        return None


def ask(socket_path: Path, target: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The JSON object that a GET answers; empty when nobody answers in time, or with none."""
    # Not at the top: it takes 4 ms to load, and a training that never asks need not pay them.
    import socket

    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(socket_path))
            connection.sendall(request.encode())
            answer = b""
            while len(answer) < ANSWER_BYTES_MAX and (part := connection.recv(ANSWER_BYTES_MAX)):
                answer += part
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
