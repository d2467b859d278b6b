"""The ordinary path of OFREP: requests for switches that the quick path did not take.

Those of browsers, which send an Origin; all that cannot be read; and whatever came behind it.
"""

import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from gateway import headers, ofrep
from gateway.errors import RequestError
from gateway.follower import Follower
from gateway.lookup import Lookup
from gateway.metrics import Metrics
from gateway.ofrep import Reply
from gateway.problem import EMPTY, EMPTY_RETRY_SECONDS
from gateway.waiting import Waiting

_METHODS = "POST, OPTIONS"


class FlagServer:
    """Answers below /ofrep; what it shares with the server of checks it is given."""

    def __init__(
        self,
        follower: Follower,
        lookup: Lookup,
        metrics: Metrics,
        waiting: Waiting,
        read: Callable[[web.BaseRequest], Awaitable[bytes]],
    ) -> None:
        """`read` reads a body within the limits, and raises RequestError."""
        self._follower = follower
        self._lookup = lookup
        self._metrics = metrics
        self._waiting = waiting
        self._read = read

    async def route(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer a request whose raw path begins with ofrep.ROOT."""
        below = path.removeprefix(ofrep.FLAGS_PATH)
        if below == path or (below and not below.startswith("/")) or "/" in below[1:]:
            sentence = f"There is nothing at this path; switches are at POST {ofrep.FLAGS_PATH}."
            return self.fail(request, 404, sentence)
        if request.method == "OPTIONS":
            origin = request.headers.get("Origin")
            fields = headers.preflight_headers(_METHODS, origin, self._origins(), ofrep.CREDENTIALS)
            return web.Response(status=204, headers=fields)
        if request.method != "POST":
            sentence = f"This path answers {_METHODS}; it does not answer this method."
            response = self.fail(request, 405, sentence)
            response.headers["Allow"] = _METHODS
            return response
        return await self._answer(request, unquote(below[1:]) if below else None)

    async def _answer(self, request: web.BaseRequest, key: str | None) -> web.Response:
        if self._waiting.late:
            return self._overloaded(request, key)
        try:
            body = await self._read(request)
            snapshot = self._follower.snapshot  # one reference: an answer comes from one epoch
            placeholders = () if snapshot is None else snapshot.settings["placeholders"]
            check = ofrep.parse_context(body, placeholders)
        except RequestError as fault:
            return self._respond(request, ofrep.fault_of(key, fault))
        if snapshot is None:
            origin = request.headers.get("Origin")
            return _later(ofrep.later(key, EMPTY, EMPTY_RETRY_SECONDS, origin, self._origins()))
        if snapshot.identity is not None:
            outcome = snapshot.identify(check, authorization(request), int(time.time()))
            self._metrics.identify(outcome)
        if key is None:
            matches = ",".join(request.headers.getall("If-None-Match", ())) or None
            reply = ofrep.unchanged(snapshot, check, int(time.time()), matches)
            if reply is not None:
                return self._respond(request, reply)
        members: dict[int, int | None] = {}
        probes = snapshot.probes(check)
        if probes:
            if self._waiting.is_full():
                return self._overloaded(request, key)
            self._waiting.now += 1
            try:
                members = await self._lookup.members(snapshot, probes)
            finally:
                self._waiting.now -= 1
        return self._respond(
            request, ofrep.evaluate(snapshot, check, members, int(time.time()), key)
        )

    def fail(self, request: web.BaseRequest, status: int, sentence: str) -> web.Response:
        """Answer an error that is about no switch, in the protocol's notation."""
        return self._respond(request, Reply(status, ofrep.failure(None, ofrep.GENERAL, sentence)))

    def _respond(self, request: web.BaseRequest, reply: Reply) -> web.Response:
        self._metrics.evaluate(reply.outcome)
        fields = ofrep.reply_headers(reply, request.headers.get("Origin"), self._origins())
        return web.Response(status=reply.status, headers=fields, body=reply.body)

    def _overloaded(self, request: web.BaseRequest, key: str | None) -> web.Response:
        self._metrics.overloads += 1
        return _later(ofrep.overloaded(key, request.headers.get("Origin"), self._origins()))

    def _origins(self) -> list[str]:
        snapshot = self._follower.snapshot
        return [] if snapshot is None else snapshot.settings["cors"]


def authorization(request: web.BaseRequest) -> bytes | None:
    """Give the value of Authorization, if there is one; several make none that is well-formed."""
    values = request.headers.getall("Authorization", ())
    return ",".join(values).encode(errors="surrogateescape") if values else None


def _later(answer: tuple[int, dict[str, str], bytes]) -> web.Response:
    status, fields, body = answer
    response = web.Response(status=status, headers=fields, body=body)
    response.force_close()  # the next connection begins on the quick path again
    return response
