"""OpenCost's API with answers of the form of its allocation_json.go: numbers as floats, a map for each step."""

import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["OpenCost", "allocation", "opencost"]

DAY = "2026-03-20"


def allocation(
    namespace: str,
    pod: str,
    *,
    node: str = "node-a",
    start: str = "10:00",
    end: str = "12:00",
    cores: str = "1",
    gpus: str = "0",
) -> dict[str, Any]:
    """An entry of a container that had so many cores and GPUs from hour to hour of DAY, its window's whole length."""
    first, last = (datetime.fromisoformat(f"{DAY}T{moment}:00+00:00") for moment in (start, end))
    hours = Decimal((last - first).seconds) / 3600
    times = {"start": f"{DAY}T{start}:00Z", "end": f"{DAY}T{end}:00Z"}
    place = {
        "cluster": "c1",
        "node": node,
        "container": "main",
        "controller": "web",
        "controllerKind": "deployment",
    }
    return {
        "name": f"c1/{node}/{namespace}/{pod}/main",
        "properties": place | {"namespace": namespace, "pod": pod, "providerID": node},
        "window": times,
        **times,
        "minutes": float(hours * 60),
        "cpuCores": float(cores),
        "cpuCoreHours": float(Decimal(cores) * hours),
        "cpuCost": 0.0632,
        "gpuCount": float(gpus),
        "gpuHours": float(Decimal(gpus) * hours),
        "gpuCost": 0.0,
        "ramByteHours": 1073741824.0,
        "totalCost": 0.0632,
    }


class OpenCost(http.server.ThreadingHTTPServer):
    """Serves what it is given; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.entries: Sequence[dict[str, Any]] = ()
        self.asked: list[dict[str, list[str]]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: OpenCost

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(parse_qs(parts.query))
        found = parts.path == "/allocation"
        body = json.dumps(
            {"code": 200, "data": [{entry["name"]: entry for entry in self.server.entries}]}
        ).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not to stderr."""


@contextmanager
def opencost() -> Iterator[OpenCost]:
    """A running API."""
    server = OpenCost()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
