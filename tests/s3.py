"""An S3 service for tests: moto's server as a process of its own, and a line to it that breaks."""

import hashlib
import json
import select
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

import obstore
import pytest

from compiler.storage.store import Store, open_store
from processes import free_port, wait_until

BUCKET = "tides"
NO_METADATA = "http://127.0.0.1:9"
"""Where nobody listens: tests ask no cloud for a machine's role."""


class S3Server:
    """Moto's S3 on a free port, in memory; `environment` is what a command needs to reach it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "s3.log"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Give the usual variables, for the service or for a line to it at another port."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_METADATA_ENDPOINT": NO_METADATA,
        }

    def start(self) -> None:
        """Start it, and make the bucket."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=output,
                stderr=output,
            )
        wait_until(self._answers, f"S3 answers on port {self.port}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with suppress(OSError):
            self.ask("PUT", f"/{BUCKET}")
            return True
        return False

    def ask(self, method: str, path: str, data: bytes | None = None) -> None:
        """Send a plain request. Raises OSError."""
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, data, headers, method=method)
        urllib.request.urlopen(request, timeout=30).close()

    def make_key(self) -> dict[str, str]:
        """Make credentials that may do anything, for when the service is strict."""
        import boto3

        given = self.environment()
        iam = boto3.client(
            "iam",
            region_name=given["AWS_REGION"],
            endpoint_url=given["AWS_ENDPOINT_URL"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        )
        iam.create_user(UserName="ann")
        rule = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        iam.put_user_policy(UserName="ann", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        iam.close()
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Let it look at signatures and rights, which it else leaves alone."""
        self.ask("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self.ask("POST", "/moto-api/reset-auth", b"inf")


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run the service."""
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Line:
    """A TCP line to a port that can be cut after so many bytes, and is dead from then on."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._left: int | None = None
        self._lasting = True
        self._age = 0
        self.cuts = 0
        self.sent = 0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def cut_after(self, size: int | None, *, lasting: bool = True) -> None:
        """Cut after so many more bytes to the service; None mends the line."""
        with self._lock:
            self._left, self._lasting, self.cuts, self.sent = size, lasting, 0, 0

    def close(self) -> None:
        """End every connection and the listener."""
        self._age = -1
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in [self._accepting, *self._threads]:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._carry, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket) -> None:
        age = self._age
        with client, suppress(OSError):
            if self._left == 0:
                return
            with socket.create_connection(("127.0.0.1", self._target), 5) as service:
                while age == self._age:
                    ready, _, _ = select.select([client, service], [], [], 0.05)
                    for end in ready:
                        data = end.recv(16_384)
                        if not data:
                            return
                        if end is service:
                            client.sendall(data)
                        else:
                            service.sendall(self._allowed(data))

    def _allowed(self, data: bytes) -> bytes:
        with self._lock:
            self.sent += len(data)
            if self._left is None:
                return data
            data, self._left = data[: self._left], max(self._left - len(data), 0)
            if self._left == 0:
                self.cuts += 1
                self._age += 1  # every connection ends
                self._left = 0 if self._lasting else None
            return data


class Reader:
    """Somebody who reads whatever is in the store all the time, and finds it whole each time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.seen = 0
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _read(self) -> None:
        while not self._ended.is_set():
            for path in self._store.list_named("files"):
                data = self._store.get_named(path)
                if data is not None:
                    self.seen += 1
                    name = path.rpartition("/")[2].partition(".")[0]
                    if hashlib.sha256(data).hexdigest() != name:
                        self.broken.append(path)
            self._ended.wait(0.02)


def headers_of(store: Store, path: str) -> dict[str, str]:
    """Ask for an object's headers by plain HTTP; their names are in lower case."""
    url = obstore.sign(store._backend, "HEAD", path, timedelta(minutes=5))
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=30) as response:
        return {name.lower(): text for name, text in response.headers.items()}


def open_bucket_store(
    server: S3Server, prefix: str, port: int | None = None, **changed: str
) -> Store:
    """Open a store in the bucket, over the line at `port` or with a `changed` environment."""
    from gateway.store_place import open_bucket

    with pytest.MonkeyPatch.context() as patch:
        for name, text in (server.environment(port) | changed).items():
            if text:
                patch.setenv(name, text)
            else:
                patch.delenv(name, raising=False)
        open_bucket.cache_clear()
        return open_store(f"s3://{BUCKET}/{prefix}")
