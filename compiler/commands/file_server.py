"""A stand-in for the CDN on one machine: the store's package files over HTTP, nothing else."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FILES = "/files/"


class _Handler(SimpleHTTPRequestHandler):
    """Serves package files only: the store holds keys to the kingdom besides."""

    def translate_path(self, path: str) -> str:
        """Map a path to the store; anything but a file below /files/ is mapped to nothing."""
        files = Path(self.directory, "files").resolve()
        nothing = f"{files}/none/"  # what ends so and is no folder is answered with 404
        try:
            found = Path(super().translate_path(path))
            inside = found.resolve().is_relative_to(files) and found.is_file()
        except (OSError, ValueError):  # a name that no file can have
            return nothing
        return str(found) if path.startswith(FILES) and inside else nothing

    def end_headers(self) -> None:
        """Add what a CDN would be told: the name is the content, so it never changes."""
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet: this is a sample, and its log would hide the gateway's."""


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up in the middle of a file."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: the other end is gone, and nobody reads a traceback."""


def serve_files(store: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Serve a store's package files from a thread until `shutdown()`. Raises OSError."""
    server = _Server((host, port), partial(_Handler, directory=str(store)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
