"""The agent's numbers as Prometheus reads them: GET /metrics, text, on a thread of its own.

Limits: plain HTTP without a password, so it listens where it is told and nowhere else; every other path is 404;
a slow reader is cut off after 5 s.
"""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args

from trainledger_schemas.errors import SettingsError

__all__ = ["METRICS", "Exposition", "MetricName", "render"]

MetricName = Literal[
    "trainledger_agent_live_writers",  # gauge: processes that write a journal now
    "trainledger_agent_journal_reads_total",  # counter: journals that had something new, each pass counted
    "trainledger_agent_points_total",  # counter: metric points spooled
    "trainledger_agent_journal_bytes_total",  # counter: bytes read from journals
    "trainledger_agent_events_total",  # counter: the agent's own events spooled
    "trainledger_agent_failed_rounds_total",  # counter: rounds of the loop that failed
    "trainledger_agent_spool_bytes",  # gauge: bytes in the spool
    "trainledger_agent_unpublished_records",  # gauge: spooled records that the broker has not acknowledged
    "trainledger_agent_published_records_total",  # counter: records that the broker acknowledged
    "trainledger_agent_publisher_connected",  # gauge: 1 while a producer is at work
    "trainledger_agent_publisher_failed",  # gauge: 1 when publishing stopped for good
    "trainledger_agent_in_flight_bytes",  # gauge: bytes sent and not acknowledged
    "trainledger_agent_producers_total",  # counter: producers made; each after the first follows an error
]
METRICS: tuple[str, ...] = get_args(MetricName)
READ_TIMEOUT_S = 5.0


def render(values: Mapping[MetricName, float]) -> bytes:
    """The text format, version 0.0.4."""
    lines: list[str] = []
    for name, value in values.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# TYPE {name} {kind}", f"{name} {value:g}" if value % 1 else f"{name} {int(value)}"]
    return ("\n".join(lines) + "\n").encode()


class Exposition:
    """Serves `values()` until `close`."""

    def __init__(self, address: str, values: Callable[[], Mapping[MetricName, float]]) -> None:
        """`address`: HOST:PORT, port 0 for a free one. Raises SettingsError when it cannot be listened on."""
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise SettingsError(f"--metrics {address!r} is not HOST:PORT")
        try:
            self._server = ThreadingHTTPServer((host.strip("[]") or "127.0.0.1", int(port)), _handler(values))
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


def _handler(values: Callable[[], Mapping[MetricName, float]]) -> type[BaseHTTPRequestHandler]:
    class MetricsHandler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = render(values())
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged: one each few seconds says nothing."""

    return MetricsHandler
