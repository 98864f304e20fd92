"""A webhook that keeps what is posted to it; answers 500 while `is_broken`."""

import json
from typing import Any

from support.local_server import LocalServer, QuietHandler

__all__ = ["Webhook"]


class Webhook(LocalServer):
    """Its address has a token."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.posted: list[dict[str, Any]] = []
        self.is_broken = False

    @property
    def url(self) -> str:
        """Its address, with a token."""
        return f"{super().url}/secret-token"


class _Handler(QuietHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.is_broken:
            self.server.posted.append(json.loads(body))
        self.send_response(500 if self.server.is_broken else 204)
        self.end_headers()
