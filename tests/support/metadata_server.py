"""An EC2 metadata service (IMDSv2) on a local port: no token, no answer; a token is refused once it has been revoked."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["MetadataServer"]

FACTS = {
    "instance-id": "i-0123456789abcdef0",
    "instance-type": "p5.48xlarge",
    "instance-life-cycle": "on-demand",
    "placement/region": "us-east-1",
    "placement/availability-zone": "us-east-1d",
    "placement/availability-zone-id": "use1-az1",
}


class MetadataServer:
    """`facts` by path may be changed while it serves; a context manager. `asked`: every path that was answered."""

    def __init__(self) -> None:
        self.facts = dict(FACTS)
        self.tokens: set[str] = set()
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))

    def __enter__(self) -> "MetadataServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    service: MetadataServer

    def do_PUT(self) -> None:
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
            self._answer(400, "")
            return
        token = f"token-{len(self.service.asked)}=="
        self.service.tokens.add(token)
        self._answer(200, token)

    def do_GET(self) -> None:
        path = self.path.removeprefix("/latest/meta-data/")
        if self.headers.get("X-aws-ec2-metadata-token") not in self.service.tokens:
            self._answer(401, "Unauthorized")
        elif path in self.service.facts:
            self.service.asked.append(path)
            self._answer(200, self.service.facts[path])
        else:
            self._answer(404, "Not Found")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""
