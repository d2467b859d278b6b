"""Requests that end: one deadline each, over name, connection, TLS, head, body and trailers.

A time-out on a socket ends silence alone: who sends one byte before each has a client wait for
ever. So a watchdog shuts the connection down at the deadline, whatever is being read from it.
"""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class LateError(Exception):
    """A request took longer than it may."""


class _Watch:
    """Holds a second handle on the connection in use, and shuts that down when time is up."""

    def __init__(self, seconds: float) -> None:
        self.late = False
        self._held: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(max(0.0, seconds), self._shut)
        self._timer.daemon = True
        self._timer.start()

    def hold(self, connection: socket.socket) -> None:
        with self._lock:
            self._let_go()
            # Of its own: TLS takes the first handle over.
            self._held = socket.socket(fileno=os.dup(connection.fileno()))
            if self.late:
                self._cut()

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._let_go()

    def _shut(self) -> None:
        with self._lock:
            self.late = True
            self._cut()

    def _cut(self) -> None:
        if self._held is not None:
            with suppress(OSError):  # it is cut already
                self._held.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


_WATCH: ContextVar[_Watch] = ContextVar("the watch over the request of this thread")


class _Watched(HTTPConnection):
    """Shows its socket to the watch: as soon as it is there, and when it is used again."""

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        _WATCH.get().hold(made)
        return made

    def request(self, *arguments: Any, **named: Any) -> None:
        sock: socket.socket | None = self.sock
        if sock is not None:
            _WATCH.get().hold(sock)
        super().request(*arguments, **named)


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


@contextmanager
def asked(
    pool: urllib3.PoolManager,
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    body: bytes | None = None,
    silence: float,
    seconds: float,
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Ask a URL; give the answer once its head is here. Redirects are not followed.

    `silence` and `seconds` are the longest pause and the longest time until the block ends.
    Raises LateError, and what urllib3 raises (HTTPError, ValueError, OSError), also
    from within the block. What is not read of the answer is never waited for.
    """
    watch = _Watch(seconds)
    token = _WATCH.set(watch)
    try:
        host = pool.connection_from_url(url)
        host.ConnectionCls = _WatchedTLS if host.scheme == "https" else _Watched
        response = pool.request(
            method,
            url,
            body=body,
            headers=dict(headers),
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
            timeout=silence,
        )
        try:
            yield response
        finally:
            response.close()
    except (urllib3.exceptions.HTTPError, OSError):
        if watch.late:
            raise LateError from None
        raise
    else:
        if watch.late:  # a cut is the end of some heads and bodies
            raise LateError
    finally:
        _WATCH.reset(token)
        watch.end()
