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
        found = super().translate_path(path)
        files = Path(self.directory, "files").resolve()
        inside = Path(found).resolve().is_relative_to(files) and Path(found).is_file()
        return found if path.startswith(FILES) and inside else str(files / "\0")

    def end_headers(self) -> None:
        """Add what a CDN would be told: the name is the content, so it never changes."""
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet: this is a sample, and its log would hide the gateway's."""


def serve_files(store: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Serve a store's package files from a thread until `shutdown()`. Raises OSError."""
    server = ThreadingHTTPServer((host, port), partial(_Handler, directory=str(store)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
