"""An EC2 metadata service (IMDSv2) on a local port: no token, no answer; a token is refused once it has been revoked."""

from support.local_server import LocalServer, QuietHandler

__all__ = ["MetadataServer"]

FACTS = {
    "instance-id": "i-0123456789abcdef0",
    "instance-type": "p5.48xlarge",
    "instance-life-cycle": "on-demand",
    "placement/region": "us-east-1",
    "placement/availability-zone": "us-east-1d",
    "placement/availability-zone-id": "use1-az1",
}


class MetadataServer(LocalServer):
    """`facts` by path may be changed while it serves; a context manager. `asked`: every path that was answered."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.facts = dict(FACTS)
        self.tokens: set[str] = set()
        self.asked: list[str] = []


class _Handler(QuietHandler):
    server: MetadataServer

    def do_PUT(self) -> None:
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
            self.answer(400)
            return
        token = f"token-{len(self.server.asked)}=="
        self.server.tokens.add(token)
        self.answer(200, token.encode())

    def do_GET(self) -> None:
        path = self.path.removeprefix("/latest/meta-data/")
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
            self.answer(401, b"Unauthorized")
        elif path in self.server.facts:
            self.server.asked.append(path)
            self.answer(200, self.server.facts[path].encode())
        else:
            self.answer(404, b"Not Found")
