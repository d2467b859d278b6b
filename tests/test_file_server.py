"""The stand-in for a CDN: package files and nothing else, and never a traceback."""

import http.client
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.commands.file_server import serve_files


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Serve a store with one package, and with what nobody may read."""
    (tmp_path / "files" / "ab").mkdir(parents=True)
    (tmp_path / "files" / "ab" / "package.zip").write_bytes(b"package" * 1_000_000)
    (tmp_path / "live").write_text("1 ab")
    server = serve_files(tmp_path, "127.0.0.1", 0)
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask for a path as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_package_files_alone_are_served(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A package is sent; whatever else is asked for is not found, and told so."""
    assert get(port, "/files/ab/package.zip") == (200, b"package" * 1_000_000)
    long = "a" * 5000
    for path in ("/", "/live", "/files/../live", "/files/", "/files/ab", "/files/%00", "/none/"):
        assert get(port, path)[0] == 404, path
    assert get(port, f"/files/{long}")[0] == 404
    assert capfd.readouterr().err == ""


def test_a_client_that_hangs_up_is_no_news(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Who resets the connection in the middle of a file leaves no trace on the terminal."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /files/ab/package.zip HTTP/1.0\r\n\r\n")
        client.recv(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.3)
    assert get(port, "/files/ab/package.zip")[0] == 200
    assert capfd.readouterr().err == ""
