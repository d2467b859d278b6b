"""A CDN for tests: a real nginx over the store's folder, and a proxy before it that does harm.

A *fault* makes the reply to one request: it asks what is behind the proxy, and spoils the answer,
or answers by itself. `proxy.fault` is what happens to every request until it is set anew.
"""

import gzip
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from processes import free_port, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
SIGNED = "/signed"
"""The folder of the CDN in which nginx asks for a signature."""

_CONFIG = """daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /files/ {{ root {store}; }}
    location {signed}/files/ {{
      secure_link $arg_md5,$arg_expires;
      secure_link_md5 "$secure_link_expires$uri {secret}";
      if ($secure_link = "") {{ return 403; }}
      if ($secure_link = "0") {{ return 410; }}
      alias {store}/files/;
    }}
  }}
}}
"""


@dataclass(slots=True)
class Nginx:
    """An nginx that can be ended and started again, on the same port."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def base(self) -> str:
        """The base of the CDN, as a plan names it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert NGINX is not None
        with (self.folder / "nginx.log").open("ab") as output:
            self.process = subprocess.Popen(
                [NGINX, "-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "conf")],
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: status_of(f"{self.base}/none") == 404, "nginx answers")

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def nginx(folder: Path, store: Path, secret: str = "no secret at all") -> Iterator[Nginx]:
    """Run an nginx over a store's files; below SIGNED it wants URLs signed with the secret."""
    if NGINX is None:
        pytest.skip("there is no nginx: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    found = Nginx(folder, free_port())
    names = {"folder": folder, "port": found.port, "store": store, "signed": SIGNED}
    (folder / "conf").write_text(_CONFIG.format(**names, secret=secret))
    try:
        found.start()
        yield found
    finally:
        found.stop()


def fetch(url: str) -> tuple[int, bytes]:
    """Get a URL; give status and body."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


def status_of(url: str) -> int:
    """Give the status that a URL is answered with, 0 when nobody answers."""
    try:
        return fetch(url)[0]
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way back: `first` is where in its file the body begins.

    Of the body `sent` bytes are sent, all for None; then, after `stall` seconds, the line is cut.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    first: int = 0
    sent: int | None = None
    stall: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for, and the way to ask it of the server behind."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    upstream: str

    def ask(self) -> Reply:
        """Ask the server behind the proxy."""
        wanted = urllib.request.Request(
            self.upstream + self.path, self.body or None, dict(self.headers), method=self.method
        )
        try:
            answer = urllib.request.urlopen(wanted, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            kept = ("Content-Type", "Content-Range", "Accept-Ranges", "Retry-After")
            headers = {name: answer.headers[name] for name in kept if name in answer.headers}
            span = headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")
            first = int(span[0]) if span[0].isdecimal() else 0
            return Reply(answer.status, headers, answer.read(), first)


Fault = Callable[[Request], Reply]


def none(request: Request) -> Reply:
    """Do no harm."""
    return request.ask()


def cut_after(count: int) -> Fault:
    """Cut every connection after so many bytes of its body."""
    return lambda request: replace(request.ask(), sent=count)


def cut_at(position: int) -> Fault:
    """Cut every connection before this byte of the file."""

    def fault(request: Request) -> Reply:
        reply = request.ask()
        return replace(reply, sent=max(0, position - reply.first))

    return fault


def flipped(position: int, mask: int = 1) -> Fault:
    """Send another byte at this place of the file."""

    def fault(request: Request) -> Reply:
        reply = request.ask()
        at = position - reply.first
        if not 0 <= at < len(reply.body):
            return reply
        body = bytearray(reply.body)
        body[at] ^= mask
        return replace(reply, body=bytes(body))

    return fault


def stalled(count: int, seconds: float) -> Fault:
    """Send so many bytes, and then nothing for so long."""
    return lambda request: replace(request.ask(), sent=count, stall=seconds)


def answered(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer by itself."""
    return lambda request: Reply(status, headers, body)


def restated(status: int) -> Fault:
    """Send the sound body with another status."""
    return lambda request: replace(request.ask(), status=status)


def announced(more: int) -> Fault:
    """Announce so many bytes more than come, or fewer."""

    def fault(request: Request) -> Reply:
        reply = request.ask()
        return replace(
            reply, headers={**reply.headers, "Content-Length": f"{len(reply.body) + more}"}
        )

    return fault


def without_range(request: Request) -> Reply:
    """Ignore the Range, and send the whole."""
    headers = {name: text for name, text in request.headers.items() if name != "Range"}
    return replace(request, headers=headers).ask()


def encoded(request: Request) -> Reply:
    """Compress on the way, as some CDNs do unasked."""
    reply = request.ask()
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    return replace(reply, headers=headers, body=gzip.compress(reply.body))


def another_file(path: str) -> Fault:
    """Serve another file than the one asked for."""
    return lambda request: replace(request, path=path).ask()


def grown(more: int) -> Fault:
    """Send so many bytes behind the file."""

    def fault(request: Request) -> Reply:
        reply = request.ask()
        return replace(reply, body=reply.body + bytes(more))

    return fault


def rewritten(change: Callable[[bytes], bytes]) -> Fault:
    """Send another body."""

    def fault(request: Request) -> Reply:
        reply = request.ask()
        return replace(reply, body=change(reply.body))

    return fault


def only(part: str, fault: Fault) -> Fault:
    """Harm only requests whose path has this part."""
    return lambda request: fault(request) if part in request.path else request.ask()


def first(fault: Fault, then: Fault = none) -> Fault:
    """Do one harm to the first request, and another, or none, to all that follow."""
    left = [fault]

    def harm(request: Request) -> Reply:
        return (left.pop() if left else then)(request)

    return harm


class _Handler(BaseHTTPRequestHandler):
    """Asks the fault for a reply, and sends it as told. One request a connection."""

    server: "_Server"

    def do_GET(self) -> None:
        """Answer a request for a file, or a check."""
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = ("Range", "Content-Type", "Accept", "Accept-Encoding")
        headers = {name: self.headers[name] for name in kept if name in self.headers}
        request = Request(self.command, self.path, headers, body, proxy.upstream)
        proxy.requests.append(request)
        reply = proxy.fault(request)
        self.send_response(reply.status)
        for name, text in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(reply.body[: reply.sent])
        self.wfile.flush()
        time.sleep(reply.stall)

    do_POST = do_GET  # noqa: N815 - the base class's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: the client has hung up."""


@dataclass(slots=True)
class Proxy:
    """A proxy on loopback before one server; `requests` are those that came."""

    upstream: str
    fault: Fault = none
    base: str = ""
    requests: list[Request] = field(default_factory=list)


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before the server of this base URL."""
    found = Proxy(upstream)
    server = _Server(found)
    found.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
