"""A stand-in of S3 that answers every request after a fixed time, to measure a client and not a server.

`python -m bench.slow_store LATENCY_MS` prints its port and serves until it is killed. It keeps names, sizes and MD5
sums of objects in memory, not their bytes. It knows what sending blobs needs: look, put (with `If-None-Match`), list,
remove, and uploads in parts.
"""

import asyncio
import hashlib
import sys
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["SlowStore"]

_DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
_XML = '<?xml version="1.0" encoding="UTF-8"?>'


class SlowStore:
    """Answers requests of any number of connections; `requests` counts them."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._objects: dict[str, tuple[int, str]] = {}
        self._parts: dict[str, dict[int, tuple[int, str]]] = {}
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the client closes it."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                method, target, _ = first.split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
                }
                if headers.get("expect"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await asyncio.sleep(self._latency_s)
                self.requests += 1
                writer.write(self._answer(method, target, headers, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        url = urlsplit(target)
        name, query = unquote(url.path), parse_qs(url.query, keep_blank_values=True)
        if method == "GET" and name == "/requests":
            return _reply(200, str(self.requests))
        if "uploads" in query or "uploadId" in query:
            return self._in_parts(method, name, query, body)
        if method == "PUT":
            if headers.get("if-none-match") and name in self._objects:
                return _reply(412, f"{_XML}<Error><Code>PreconditionFailed</Code></Error>")
            md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self._objects[name] = (len(body), md5)
            return _reply(200, "", f'ETag: "{md5}"')
        if method == "HEAD":
            found = self._objects.get(name)
            if found is None:
                return _reply(404, "")
            return _reply(200, "", f'ETag: "{found[1]}"', f"Last-Modified: {_DATE}", length=found[0])
        if method == "GET":
            return self._list(name.split("/")[1], query)
        self._objects.pop(name, None)
        return _reply(204, "")

    def _list(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        prefix = f"/{bucket}/{query.get('prefix', [''])[0]}"
        names = sorted(name for name in self._objects if name.startswith(prefix))[:1000]
        items = "".join(
            f"<Contents><Key>{name[len(bucket) + 2 :]}</Key><Size>{self._objects[name][0]}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in names
        )
        return _reply(200, f"{_XML}<ListBucketResult><Name>{bucket}</Name>{items}</ListBucketResult>")

    def _in_parts(self, method: str, name: str, query: dict[str, list[str]], body: bytes) -> bytes:
        if method == "POST" and "uploads" in query:
            self._parts[name] = {}
            return _reply(200, f"{_XML}<R><UploadId>{len(self._parts)}</UploadId></R>")
        if method == "PUT":
            md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self._parts[name][int(query["partNumber"][0])] = (len(body), md5)
            return _reply(200, "", f'ETag: "{md5}"')
        if method == "POST":
            self._objects[name] = (sum(size for size, _ in self._parts.pop(name).values()), "parts-1")
            return _reply(
                200, f"{_XML}<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
            )
        return _reply(200, f"{_XML}<ListMultipartUploadsResult></ListMultipartUploadsResult>")


def _reply(status: int, text: str, *headers: str, length: int | None = None) -> bytes:
    body = text.encode()
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _main(latency_s: float) -> None:
    server = await asyncio.start_server(SlowStore(latency_s).serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]) / 1000))
