"""One listening socket and its connections, from the bind to a stop that loses no request."""

import asyncio
import errno
import socket
import sys
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import structlog
from aiohttp import web

from gateway import headers
from gateway.config import ConfigError, Endpoint, Variable
from gateway.problem import CONTENT_TYPE as PROBLEM
from gateway.problem import problem
from gateway.quick import IDLE_SECONDS, Quick

BACKLOG = 4096
SETTLE_SECONDS = 0.25
"""After the last accept: time for what is on its way to arrive and be answered."""

LINGER_SECONDS = 5.0
"""After an early refusal: how long the rest of a body is read, and thrown away."""

UNREAD_SECONDS = 30
"""How long a client may read nothing of what was sent to it, before the kernel cuts it off."""

TURN_SECONDS = 0.01
FINISH_TURNS = 1_200
"""How often a stop looks whether requests are under way: a body may take ten seconds."""

HTTP_SENTENCE = "This is not HTTP/1.1, or its head is over the limits of 8,190 bytes a line."

log = structlog.get_logger()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def bind(endpoint: Endpoint, variable: Variable, *, shared: bool = False) -> socket.socket:
    """Bind a listening socket. Raises ConfigError that names the line to type.

    Several that are `shared` may be bound to one port; the kernel spreads connections over them.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        bound = socket.create_server(endpoint, family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as fault:
        place = f"{endpoint.host}:{endpoint.port}"
        sentence = f"cannot listen on {place}: {fault.strerror or fault}."
        if fault.errno == errno.EADDRINUSE:
            spare = f"{endpoint.host}:{endpoint.port % 65_535 + 1}"
            line = f"{variable.name}={spare} python -m gateway"
            sentence = f"{place} is in use. Choose another port, for example: {line}"
        raise ConfigError((f"{variable.name}: {sentence}",)) from None
    if sys.platform == "linux":
        # What is accepted inherits it. aiohttp has no timer for a client that does not read, and
        # closing waits for it too: without this, such a connection stays for ever.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1_000)
    return bound


def bind_several(endpoint: Endpoint, variable: Variable, count: int) -> list[socket.socket]:
    """Bind so many listening sockets to one port. Raises ConfigError as `bind` does."""
    if endpoint.port:
        # A second gateway started by mistake would be let in to share the port: ask first.
        bind(endpoint, variable).close()
    bound = [bind(endpoint, variable, shared=True)]
    same = Endpoint(endpoint.host, bound[0].getsockname()[1])
    while len(bound) < count:
        bound.append(bind(same, variable, shared=True))
    return bound


def shown(bound: socket.socket) -> str:
    """Write where a socket listens, as HOST:PORT."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Connection(web.RequestHandler):
    """aiohttp's connection, whose own errors are problem+json like all others.

    `begun` tells whether it has come to a request; until then its head may be half sent.
    """

    __slots__ = ("begun",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begun = False

    def log_exception(self, *args: Any, **details: Any) -> None:
        """Log a fault of the gateway; what a client did to its own connection is none."""
        if not isinstance(details.get("exc_info"), web.RequestPayloadError | ConnectionError):
            log.error("a connection failed", why=args[0], exc_info=details.get("exc_info"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused, or what escaped a handler (which is a bug)."""
        del message  # it quotes the request, over several lines
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun") from exc
        sentence = HTTP_SENTENCE if status < 500 else "The gateway failed on this request."
        fields = headers.answer_headers(PROBLEM, None, ())
        response = web.Response(status=status, body=problem(status, sentence), headers=fields)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # aiohttp's way to say: none
        )


class Listener:
    """Serves one bound socket."""

    def __init__(
        self,
        bound: socket.socket,
        handle: Handler,
        front: Callable[[Callable[[], Any]], Quick] | None = None,
    ) -> None:
        """`front` makes what stands before aiohttp, from what makes aiohttp's connections."""
        self.address = shown(bound)
        self._bound = bound
        self._handle = handle
        self._make_front = front
        self._front: Quick | None = None
        self._http: _Server
        self._server: asyncio.Server

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._http = _Server(self._handle)
        self._spare = self._bound.dup()
        if self._make_front is not None:
            self._front = self._make_front(self._http)
        self._server = await loop.create_server(
            self._front or self._http, sock=self._bound, backlog=BACKLOG
        )

    def drain(self) -> None:
        """Let each quick connection end with its next answer."""
        if self._front is not None:
            self._front.draining = True

    def is_empty(self) -> bool:
        """Tell whether there is no connection."""
        return not self._http.connections and not (self._front and self._front.connections)

    async def stop(self, busy: Collection[object]) -> None:
        """Stop accepting, let what came be answered, close. `busy` are connections with work."""
        await self.stop_accepting()
        await asyncio.sleep(SETTLE_SECONDS)
        for _ in range(FINISH_TURNS):
            for connection in self._http.connections:
                if connection not in busy:
                    connection.close()
            quick = set(self._front.connections) if self._front is not None else set()
            for each in quick:
                if each.idle():
                    each.close()
            if not busy and not quick:
                break
            await asyncio.sleep(TURN_SECONDS)
        await self._http.shutdown(1.0)

    async def stop_accepting(self) -> None:
        """Close the listening socket, but first accept whoever the kernel has accepted already.

        They would get a reset otherwise, perhaps with a request on its way. The duplicate keeps
        the socket open until its queue is empty. (What other processes have open too would not
        need that, nor is it harmed.) Once is enough; more often does nothing.
        """
        if self._spare.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        self._server.close()
        await asyncio.sleep(0.01)  # the event loop lets go of its descriptor in its next turns
        self._spare.setblocking(False)
        waiting = []
        while True:
            try:
                waiting.append(self._spare.accept()[0])
            except OSError:
                break
        self._spare.close()
        for connection in waiting:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._front or self._http, connection)
