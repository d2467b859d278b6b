"""Deadlines: no server, however it goes on, holds a client up or fills its memory."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import urllib3

from loadtest.client import Client, Limits, Trust
from loadtest.client.answer import Download
from loadtest.client.fault import UnusableError
from loadtest.client.transfer import fetch
from stub_gateway import APP, sha256

DATA = b"hello"
LIMITS = Limits(silence_seconds=20, request_seconds=0.7, pause_seconds=0, tries=2)
PATIENT = Limits(silence_seconds=20, request_seconds=30, pause_seconds=0, tries=2)
DRIP_SECONDS = 60.0
"""How long a server drips: the client must give up long before, on a slow machine too."""

OK = b"HTTP/1.1 200 OK\r\n"
Talk = Callable[[socket.socket, str], None]


@contextmanager
def served(talk: Talk) -> Iterator[tuple[str, list[str]]]:
    """Run a server that says to each connection what it likes; give its URL, and what is asked."""
    asked: list[str] = []
    ended = threading.Event()

    def answer(line: socket.socket) -> None:
        with line, suppress(OSError):
            line.settimeout(5)
            words = line.recv(65536).decode(errors="replace").split(" ")
            asked.append(words[1] if words[0] == "GET" else "")
            talk(line, asked[-1])

    def listen() -> None:
        while not ended.is_set():
            with suppress(OSError):
                line, _ = server.accept()
                threading.Thread(target=answer, args=(line,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        finally:
            ended.set()
            thread.join()


def drip(head: bytes, again: bytes) -> Talk:
    """Say the head, and then the same again and again, each long before the time-out."""

    def talk(line: socket.socket, _: str) -> None:
        line.sendall(head)
        end = time.monotonic() + DRIP_SECONDS
        while time.monotonic() < end:
            line.sendall(again)
            time.sleep(0.02)

    return talk


DRIPS = {
    "status line": drip(b"", b"H"),
    "100 Continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header line": drip(OK + b"A: ", b"a"),
    "header lines": drip(OK, b"A: b\r\n"),
    "body": drip(OK + b"Content-Length: 4000\r\n\r\n", b"x"),
    "chunk size": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", b"A: b\r\n"),
}


def get(url: str, partial: Path, size: int = len(DATA), limits: Limits = LIMITS) -> None:
    with urllib3.PoolManager() as pool:
        fetch(pool, Download((url + "/a",), size, sha256(DATA), "identity"), partial, limits)


@pytest.mark.parametrize("part", DRIPS)
def test_no_part_of_a_download_drips_for_ever(part: str, tmp_path: Path) -> None:
    """Whichever part comes a byte at a time: the URL is given up at its deadline."""
    began = time.monotonic()
    with served(DRIPS[part]) as (url, _), pytest.raises(UnusableError, match="too slow"):
        get(url, tmp_path / "p", 500)
    assert 0.5 < time.monotonic() - began < DRIP_SECONDS / 2


@pytest.mark.parametrize("part", DRIPS)
def test_no_part_of_an_answer_drips_for_ever(part: str, tmp_path: Path) -> None:
    """A gateway that does so has not answered, and the client asks later."""
    began = time.monotonic()
    with served(DRIPS[part]) as (url, _):
        (result,) = Client(tmp_path, url, {}, [APP], Trust(), LIMITS).update()
    assert (result.outcome, "too slow" in result.detail) == ("unanswered", True)
    assert time.monotonic() - began < DRIP_SECONDS / 2


def test_a_tls_handshake_does_not_drip_for_ever(tmp_path: Path) -> None:
    """Also before there is a line to speak HTTP over."""
    # A handshake record of 16,000 bytes, which begins a certificate message.
    began = time.monotonic()
    with (
        served(drip(b"\x16\x03\x03\x3e\x80\x02", b"\x00")) as (url, _),
        pytest.raises(UnusableError),
    ):
        get(url.replace("http:", "https:"), tmp_path / "p")
    assert time.monotonic() - began < DRIP_SECONDS / 2


def led(*steps: str) -> Talk:
    """Lead from /a to each of the steps in turn, then give the file."""

    def talk(line: socket.socket, path: str) -> None:
        step = 0 if path == "/a" else next(at for at in (1, 2, 3, 4) if path.endswith(f"{at}"))
        if step < len(steps):
            line.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n" % steps[step].encode())
            for _ in range(200):
                line.sendall(bytes(1 << 20))
        else:
            line.sendall(OK + b"Content-Length: 5\r\n\r\n" + DATA)

    return talk


def test_redirects_are_followed_three_times(tmp_path: Path) -> None:
    """Relative ones too; the endless bodies of redirects are not read, a fourth not followed."""
    with served(led("/1", "/c/2", "3")) as (url, asked):
        get(url, tmp_path / "p", limits=PATIENT)
        assert asked == ["/a", "/1", "/c/2", "/c/3"]
    assert (tmp_path / "p").read_bytes() == DATA
    (tmp_path / "p").unlink()
    with served(led("/1", "/2", "/3", "/4")) as (url, asked):
        with pytest.raises(UnusableError, match="again and again"):
            get(url, tmp_path / "p", limits=PATIENT)
        assert asked == ["/a", "/1", "/2", "/3"]
    with served(led("file:///etc/passwd")) as (url, _), pytest.raises(UnusableError, match="leads"):
        get(url, tmp_path / "p", limits=PATIENT)
