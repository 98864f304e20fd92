"""A webhook that keeps what is posted to it; answers 500 while `is_broken`."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Webhook(http.server.ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[dict[str, Any]] = []
        self.is_broken = False

    @property
    def url(self) -> str:
        """Its address, with a token."""
        return f"http://127.0.0.1:{self.server_address[1]}/secret-token"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.is_broken:
            self.server.posted.append(json.loads(body))
        self.send_response(500 if self.server.is_broken else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not to stderr."""


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A running webhook."""
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
