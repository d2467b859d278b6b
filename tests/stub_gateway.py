"""A gateway and a CDN in one small server that says what it is told to, faults and lies too.

For tests of clients alone; the real gateway meets the client in laws/test_phones.py.
"""

import gzip
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import bsdiff4
import pyrage
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.api_jws import PyJWS

from loadtest.client.trust import thumbprint

APP = "2021000000000001"


@dataclass
class Fault:
    """What is wrong with one file's delivery."""

    status: int = 200
    cut_after: int | None = None
    """Bytes after which each answer is cut off."""
    no_ranges: bool = False
    wrong_range: bool = False
    longer_by: int = 0
    silent: bool = False
    chunked: bool = False
    times: int = 1_000_000
    """How many requests it lasts."""


@dataclass
class Request:
    """A request that came for a file."""

    path: str
    range: str | None


@dataclass
class StubGateway:
    """What is served: `apps` in the next answer, or `raw` as (status, body) instead."""

    apps: list[dict[str, Any]] = field(default_factory=list)
    raw: tuple[int, bytes] | None = None
    check_after: int = 1800
    report_status: int = 202
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[Request] = field(default_factory=list)
    url: str = ""
    on_fetch: Callable[[str], None] = lambda _path: None

    def put(self, data: bytes, name: str | None = None) -> str:
        """Serve bytes; give their URL."""
        name = name or hashlib.sha256(data).hexdigest()
        self.files[f"/{name}"] = data
        return f"{self.url}/{name}"

    def reset(self) -> None:
        """Forget files, faults and what came."""
        fresh = StubGateway()
        for name in vars(fresh):
            if name != "url":
                setattr(self, name, getattr(fresh, name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's acknowledgement
    stub: StubGateway

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stub = self.stub
        if self.path == "/v1/report":
            stub.reports.append(body)
            self._answer(stub.report_status, b"")
            return
        stub.checks.append(body)
        answer = {"epoch": 1, "check_after": stub.check_after, "apps": stub.apps}
        self._answer(*(stub.raw or (200, json.dumps(answer).encode())))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        stub, asked = self.stub, self.headers["Range"]
        stub.fetched.append(Request(self.path, asked))
        stub.on_fetch(self.path)
        fault = stub.faults.get(self.path, Fault())
        fault.times -= 1
        if fault.times < 0:
            fault = Fault()
        data = stub.files.get(self.path)
        if data is None or fault.status != 200:
            self._answer(404 if data is None else fault.status, b"no")
            return
        if fault.silent:
            time.sleep(1)
            self.close_connection = True
            return
        self._send(data, fault, asked)

    def _send(self, data: bytes, fault: Fault, asked: str | None) -> None:
        start = 0 if asked is None or fault.no_ranges else int(asked[6:].rstrip("-"))
        if start >= len(data) > 0 and start:
            self._answer(416, b"")
            return
        body = data[start:] + bytes(fault.longer_by)
        self.send_response(206 if start else 200)
        if start:
            shown = start - 1 if fault.wrong_range else start
            self.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        if fault.chunked:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.cut_after is not None:
            body = body[: fault.cut_after]
            self.close_connection = True
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def stub_gateway() -> Iterator[StubGateway]:
    """Run one on a free port of loopback."""
    stub = StubGateway()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sha256(data: bytes) -> str:
    """Give the hex digest."""
    return hashlib.sha256(data).hexdigest()


def package(seed: int, size: int = 20_000) -> bytes:
    """Make a version's bytes: mostly the same whatever the seed, and half compressible."""
    data = bytearray(random.Random(7).randbytes(size // 2) + b"page " * (size // 10))
    chance = random.Random(seed)
    for _ in range(6):
        at = chance.randrange(len(data))
        data[at : at + 8] = chance.randbytes(8)
    return bytes(data)


def compressed(form: str, data: bytes) -> bytes:
    """Make a form of a package as it travels."""
    if form == "gzip":
        return gzip.compress(data, 9, mtime=0)
    if form == "zstd":
        return zstandard.ZstdCompressor(level=5).compress(data)
    return data


def patch(form: str, old: bytes, new: bytes) -> bytes:
    """Make a patch."""
    if form == "bsdiff4":
        made: bytes = bsdiff4.diff(old, new)
        return made
    parameters = zstandard.ZstdCompressionParameters.from_level(
        9, window_log=max(10, (len(old) + len(new)).bit_length()), write_content_size=True
    )
    base = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=base, compression_params=parameters).compress(new)


def offer(
    stub: StubGateway,
    version: str,
    data: bytes,
    *,
    form: str = "identity",
    base: tuple[str, str, bytes] | None = None,
    recipients: Sequence[Any] = (),
    signers: Sequence[Ed25519PrivateKey] = (),
    **more: Any,
) -> dict[str, Any]:
    """Serve a package, and give what a gateway says of it; `base` is (format, version, bytes)."""
    entry: dict[str, Any] = {
        "app": APP,
        "status": "update",
        "version": version,
        "release": "stable",
        "upgrade": "silent",
        "download": "any",
        "install": "on_open",
    }
    travels = _closed(compressed(form, data), recipients)
    found: dict[str, Any] = {"size": len(data), "sha256": sha256(data)}
    found["urls"] = [stub.put(travels)]
    if form != "identity":
        found["compression"] = form
    if form != "identity" or recipients:
        found |= {"transfer_size": len(travels), "transfer_sha256": sha256(travels)}
    entry["package"] = found
    if base is not None:
        made = _closed(patch(base[0], base[2], data), recipients)
        entry["patch"] = {
            "from": base[1],
            "format": base[0],
            "urls": [stub.put(made)],
            "transfer_size": len(made),
            "transfer_sha256": sha256(made),
        }
    if recipients:
        entry["encryption"] = {"format": "age", "key_id": "coffee-2026"}
    if signers:
        entry["signatures"] = [signed(key, version, data) for key in signers]
    return entry | more


def _closed(data: bytes, recipients: Sequence[Any]) -> bytes:
    return pyrage.encrypt(data, list(recipients)) if recipients else data


def signed(key: Ed25519PrivateKey, version: str, data: bytes, /, **other: Any) -> str:
    """Sign a package as its developer does; `other` claims replace the true ones."""
    claims = {"app": APP, "version": version, "size": len(data), "sha256": sha256(data)}
    claims |= {"created": 1_790_000_000, **other}
    header = {"kid": thumbprint(key.public_key()), "typ": "tidegate-package+jws"}
    return PyJWS().encode(json.dumps(claims).encode(), key, "EdDSA", headers=header)
