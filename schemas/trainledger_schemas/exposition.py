"""Numbers of a daemon as Prometheus reads them: GET /metrics, text, on a thread of its own.

Limits: plain HTTP without a password, so it listens where it is told and nowhere else; every other path is 404;
a slow reader is cut off after 5 s.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .errors import SettingsError

__all__ = ["Exposition", "Sample", "render"]

READ_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One number; a name that ends in `_total` is a counter, any other a gauge."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def render(samples: Iterable[Sample]) -> bytes:
    """The text format, version 0.0.4: the samples of a name stand together under one TYPE line."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    lines: list[str] = []
    for name, group in by_name.items():
        lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}")
        lines += [f"{name}{_labels(sample.labels)} {_number(sample.value)}" for sample in group]
    return ("\n".join(lines) + "\n").encode()


class Exposition:
    """Serves `samples()` until `close`; they are asked for from threads of its own."""

    def __init__(self, address: str, samples: Callable[[], Iterable[Sample]]) -> None:
        """`address`: HOST:PORT, port 0 for a free one. Raises SettingsError when it cannot be listened on."""
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise SettingsError(f"--metrics {address!r} is not HOST:PORT")
        try:
            self._server = ThreadingHTTPServer(
                (host.strip("[]") or "127.0.0.1", int(port)), _handler(samples)
            )
        except (OSError, OverflowError) as error:
            raise SettingsError(f"--metrics cannot listen on {address}: {error}") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="trainledger-metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT as it is."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(samples: Callable[[], Iterable[Sample]]) -> type[BaseHTTPRequestHandler]:
    class MetricsHandler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = render(samples())
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged: one each few seconds says nothing."""

    return MetricsHandler


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
