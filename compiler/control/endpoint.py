"""The controller's own listener: whether it lives, and what it has counted."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from compiler.control.counts import Counts

LIVE, METRICS = "/health/live", "/metrics"
SILENT_SECONDS = 10.0
"""After so long without a word a connection is ended."""


def serve(host: str, port: int, counts: Counts, is_well: Callable[[], bool]) -> ThreadingHTTPServer:
    """Answer from threads until `shutdown()`. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD at two paths."""

        timeout = SILENT_SECONDS

        def do_GET(self) -> None:
            """Answer."""
            path = self.path.partition("?")[0]
            if path == METRICS:
                self._respond(200, CONTENT_TYPE_LATEST, counts.render())
            elif path == LIVE:
                well = is_well()
                text = b'{"live": true}' if well else b'{"live": false}'
                self._respond(200 if well else 503, "application/json", text)
            else:
                text = f"There is nothing at this path; try {LIVE}, {METRICS}.\n".encode()
                self._respond(404, "text/plain; charset=utf-8", text)

        do_HEAD = do_GET  # noqa: N815 - the base class calls it

        def _respond(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def version_string(self) -> str:
            """Say nothing of Python."""
            return "tidegate"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Keep quiet: a probe a second would hide the rest."""

    server = _Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: the other end is gone, and nobody reads a traceback."""
