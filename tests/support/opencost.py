"""OpenCost's API with answers of the form of its allocation_json.go: numbers as floats, a map for each step."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.local_server import LocalServer, QuietHandler

__all__ = ["OpenCost", "allocation"]

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


class OpenCost(LocalServer):
    """Serves what it is given; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.entries: Sequence[dict[str, Any]] = ()
        self.asked: list[dict[str, list[str]]] = []


class _Handler(QuietHandler):
    server: OpenCost

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(parse_qs(parts.query))
        found = parts.path == "/allocation"
        body = json.dumps(
            {"code": 200, "data": [{entry["name"]: entry for entry in self.server.entries}]}
        ).encode()
        self.answer(200 if found else 404, body)
