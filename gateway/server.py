"""The client listener's shell: a check is read, probed, looked up, answered, counted.

A report is read and counted; nothing is waited for but its body.

Routing, headers and errors are in one place each, so that a quicker path can write the same bytes.
Nothing that a client sends makes a traceback: what is not foreseen is logged and answered 500.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast
from urllib.parse import unquote

import msgpack
import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway import headers, ofrep, openapi, report
from gateway.check import Check
from gateway.errors import RequestError
from gateway.flag_server import FlagServer, authorization
from gateway.follower import Follower
from gateway.lookup import Lookup
from gateway.metrics import CHECK, OTHER_PATH, REPORT, SWITCHES, Metrics
from gateway.problem import CONTENT_TYPE as PROBLEM
from gateway.problem import EMPTY, EMPTY_RETRY_SECONDS, overloaded, problem, unavailable
from gateway.request import BODY_BYTES, parse_body, parse_query, too_large
from gateway.seats import Seats
from gateway.snapshot import Snapshot
from gateway.waiting import Waiting

CHECK_PATH = "/v1/check"
REPORT_PATH = "/v1/report"
OPENAPI_PATH = "/openapi.json"
BODY_SECONDS = 10.0
"""A body that takes longer is given up, with 408."""
log = structlog.get_logger()

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


class ClientServer:
    """Answers clients; `busy` holds the connections with a request under way."""

    def __init__(
        self,
        follower: Follower,
        lookup: Lookup,
        seats: Seats,
        metrics: Metrics,
        waiting: Waiting,
    ) -> None:
        """Let no more checks wait for Redis than `waiting` says; one more is refused with 503."""
        self.draining = False
        self.busy: set[asyncio.BaseProtocol] = set()
        self._follower = follower
        self._lookup = lookup
        self._seats = seats
        self._metrics = metrics
        self._waiting = waiting
        self._flags = FlagServer(follower, lookup, metrics, waiting, _read)

        self._paths: dict[str, dict[str, Handler]] = {
            CHECK_PATH: {"POST": self._post},
            REPORT_PATH: {"POST": self._report},
            OPENAPI_PATH: {"GET": self._openapi, "HEAD": self._openapi},
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer any request. Raises nothing."""
        started = time.perf_counter()
        protocol = request.protocol
        self.busy.add(protocol)
        cast("Any", protocol).begun = True  # listener.py: it is past its half-sent head
        try:
            response = await self._route(request)
        except RequestError as fault:
            response = self._problem(request, fault.status, str(fault))
        except Exception:
            self._metrics.failures += 1
            log.exception("a request failed", method=request.method)
            response = self._problem(
                request, 500, "The gateway failed on this request; its log says why."
            )
        finally:
            self.busy.discard(protocol)
        if self.draining:
            response.force_close()
        taken = time.perf_counter() - started
        self._metrics.respond(_place(request.rel_url.raw_path), response.status, taken)
        return response

    async def _route(self, request: web.BaseRequest) -> web.Response:
        path = request.rel_url.raw_path
        if path.startswith(ofrep.ROOT):
            return await self._flags.route(request, path)
        if self._waiting.late and path.startswith((CHECK_PATH, REPORT_PATH)):
            return self._overloaded(request)
        methods = self._paths.get(path)
        if methods is not None:
            return await self._dispatch(request, methods)
        app = path.removeprefix(CHECK_PATH + "/")
        if app != path and app and "/" not in app:
            return await self._dispatch(request, {"GET": self._get, "HEAD": self._get})
        return self._problem(
            request,
            404,
            f"There is nothing at this path; checks go to POST {CHECK_PATH}, "
            f"reports to POST {REPORT_PATH}.",
        )

    async def _dispatch(
        self, request: web.BaseRequest, methods: dict[str, Handler]
    ) -> web.Response:
        handler = methods.get(request.method)
        if handler is not None:
            return await handler(request)
        allowed = ", ".join((*methods, "OPTIONS"))
        if request.method == "OPTIONS":
            origin = request.headers.get("Origin")
            fields = headers.preflight_headers(allowed, origin, self._origins())
            return web.Response(status=204, headers=fields)
        response = self._problem(
            request, 405, f"This path answers {allowed}; it does not answer this method."
        )
        response.headers["Allow"] = allowed
        return response

    async def _post(self, request: web.BaseRequest) -> web.Response:
        body = await _read(request)
        packed = headers.is_msgpack(request.headers.get("Content-Type"))
        return await self._answer(request, parse_body(body, packed=packed))

    async def _get(self, request: web.BaseRequest) -> web.Response:
        app = unquote(request.rel_url.raw_path.rpartition("/")[2])
        return await self._answer(request, parse_query(app, request.rel_url.raw_query_string))

    async def _report(self, request: web.BaseRequest) -> web.Response:
        body = await _read(request)
        packed = headers.is_msgpack(request.headers.get("Content-Type"))
        reports = report.read_reports(body, packed=packed)
        snapshot = self._follower.snapshot
        if snapshot is None:
            return self._empty(request)
        if snapshot.identity is not None:
            second = int(time.time())
            user, device, outcome = snapshot.identity.who(authorization(request), second)
            reports = replace(reports, ids={"device": device, "user": user})
            self._metrics.identify(outcome)
        found = report.known(reports, snapshot.apps)
        if not reports.dry_run:
            subject = report.subject(reports, snapshot.settings)
            for place in found:
                self._metrics.report(place, subject)
            self._metrics.reports_passed_over += reports.sent - len(found)
        said = {"accepted": len(found), "passed_over": reports.sent - len(found)}
        if headers.wants_msgpack(request.headers.get("Accept")):
            return self._respond(request, 202, headers.MSGPACK, msgpack.packb(said))
        return self._respond(request, 202, headers.JSON, orjson.dumps(said))

    async def _openapi(self, request: web.BaseRequest) -> web.Response:
        return self._respond(request, 200, headers.JSON, openapi.DOCUMENT_BYTES)

    async def _answer(self, request: web.BaseRequest, check: Check) -> web.Response:
        snapshot = self._follower.snapshot  # one reference: an answer comes from one epoch
        if snapshot is None:
            return self._empty(request)
        if snapshot.identity is not None:
            outcome = snapshot.identify(check, authorization(request), int(time.time()))
            self._metrics.identify(outcome)
        members: dict[int, int | None] = {}
        probes = snapshot.probes(check)
        if probes:
            if self._waiting.is_full():
                return self._overloaded(request)
            self._waiting.now += 1
            try:
                members = await self._lookup.members(snapshot, probes)
            finally:
                self._waiting.now -= 1
        packed = headers.wants_msgpack(request.headers.get("Accept"))
        second = int(time.time())
        body, outcomes = snapshot.answer(check, members, second, msgpack=packed)
        if not body:
            if self._waiting.is_full():
                return self._overloaded(request)
            seats = await self._seated(snapshot, check, members, second)
            body, outcomes = snapshot.answer(check, members, second, packed, seats)
        if not check.dry_run:
            device, user = check.device_hash, check.user_hash
            self._metrics.count(outcomes, user if device is None else device)
        return self._respond(request, 200, headers.MSGPACK if packed else headers.JSON, body)

    async def _seated(
        self, snapshot: Snapshot, check: Check, members: dict[int, int | None], second: int
    ) -> dict[str, int]:
        """Ask in which of the windows the client sits."""
        asks = snapshot.asks(check, members, second)
        self._waiting.now += 1
        try:
            return await self._seats.seats(snapshot.number, asks, dry_run=check.dry_run)
        finally:
            self._waiting.now -= 1

    def _origins(self) -> list[str]:
        snapshot = self._follower.snapshot
        return [] if snapshot is None else snapshot.settings["cors"]

    def _respond(
        self, request: web.BaseRequest, status: int, content_type: str, body: bytes
    ) -> web.Response:
        origin = request.headers.get("Origin")
        fields = headers.answer_headers(content_type, origin, self._origins())
        return web.Response(status=status, headers=fields, body=body)

    def _problem(self, request: web.BaseRequest, status: int, sentence: str) -> web.Response:
        if request.rel_url.raw_path.startswith(ofrep.ROOT):
            return self._flags.fail(request, status, sentence)
        return self._respond(request, status, PROBLEM, problem(status, sentence))

    def _empty(self, request: web.BaseRequest) -> web.Response:
        origin = request.headers.get("Origin")
        return _later(unavailable(EMPTY, EMPTY_RETRY_SECONDS, origin, self._origins()))

    def _overloaded(self, request: web.BaseRequest) -> web.Response:
        self._metrics.overloads += 1
        return _later(overloaded(request.headers.get("Origin"), self._origins()))


def _place(path: str) -> int:
    """Tell what an answer is about, for the metrics."""
    if path.startswith(ofrep.ROOT):
        return SWITCHES
    if path == REPORT_PATH:
        return REPORT
    return CHECK if path.startswith(CHECK_PATH) else OTHER_PATH


def _later(answer: tuple[int, dict[str, str], bytes]) -> web.Response:
    status, fields, body = answer
    response = web.Response(status=status, headers=fields, body=body)
    response.force_close()  # the next connection begins on the quick path again
    return response


async def _read(request: web.BaseRequest) -> bytes:
    """Read a body within the limits of size and time. Raises RequestError."""
    if (request.content_length or 0) > BODY_BYTES:
        raise too_large()
    content = request.content
    if content.is_eof():  # it came together with its head: no waiting, no timer
        body = content.read_nowait()
        if len(body) > BODY_BYTES:
            raise too_large()
        return body
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # or aiohttp takes the answer itself for begun
    pieces = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while piece := await content.readany():
                pieces += piece
                if len(pieces) > BODY_BYTES:
                    raise too_large()
    except TimeoutError:
        raise RequestError(
            408, f"The body did not come within {BODY_SECONDS:.0f} seconds."
        ) from None
    except (HttpProcessingError, web.RequestPayloadError):
        raise RequestError(
            400, "The body cannot be read: it breaks off, or is not encoded as its head says."
        ) from None
    return bytes(pieces)
