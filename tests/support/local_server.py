"""HTTP servers of tests: on a free port of this machine, from a thread of their own, for as long as a block lasts."""

import http.server
import threading
from typing import Any, Self

__all__ = ["LocalServer", "QuietHandler"]


class LocalServer(http.server.ThreadingHTTPServer):
    """A context manager: it serves until the block ends."""

    def __init__(self, handler: type["QuietHandler"]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Says nothing on stderr."""

    def answer(self, status: int, body: bytes = b"", *, kind: str | None = None) -> None:
        """The whole answer."""
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""
