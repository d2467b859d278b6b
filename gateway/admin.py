"""The admin listener: health for an orchestrator, metrics for Prometheus."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway import headers
from gateway.follower import Follower
from gateway.lifecycle import State
from gateway.problem import CONTENT_TYPE as PROBLEM
from gateway.problem import problem

PATHS = ("/health/live", "/health/ready", "/metrics")

log = structlog.get_logger()


class Ready(NamedTuple):
    """What is served: an epoch's number, and whether it is the one that Redis names, or why not."""

    epoch: int
    state: State
    why: str = ""


Readiness = Callable[[], Ready | str]
"""Tells what is served, or in a sentence why nothing is."""


def staleness(silence: float, max_stale: float | None) -> str | None:
    """Say that Redis has been silent for longer than TIDEGATE_MAX_STALE; both in seconds."""
    if max_stale is None or silence <= max_stale:
        return None
    return (
        f"Redis has not answered for {silence:.0f} s, and TIDEGATE_MAX_STALE is {max_stale:g}. "
        "Checks are answered all the same."
    )


def readiness(follower: Follower, max_stale: float | None = None) -> Readiness:
    """Give the readiness of one process, which ends `max_stale` seconds after Redis's last word."""

    def ready() -> Ready | str:
        if follower.snapshot is None:
            why = f" ({follower.why})" if follower.why else ""
            return f"There is no epoch to serve yet{why}."
        if max_stale is not None:
            fault = staleness(follower.silence(), max_stale)
            if fault is not None:
                return fault
        return Ready(follower.snapshot.number, follower.state, follower.why)

    return ready


class AdminServer:
    """Answers operators; `draining` makes it unready, so that balancers look elsewhere."""

    def __init__(
        self,
        ready: Readiness,
        render_metrics: Callable[[], bytes],
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`refresh` is awaited before metrics are rendered."""
        self.draining = False
        self._is_ready = ready
        self._render_metrics = render_metrics
        self._refresh = refresh

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer any request. Raises nothing."""
        try:
            return await self._route(request)
        except Exception:
            log.exception("an admin request failed", path=request.path)
            return _problem(500, "The gateway failed on this request; its log says why.")

    async def _route(self, request: web.BaseRequest) -> web.Response:
        path = request.path
        if path not in PATHS:
            return _problem(404, f"There is nothing at this path; try {', '.join(PATHS)}.")
        if request.method not in ("GET", "HEAD"):
            response = _problem(405, "This path answers GET and HEAD.")
            response.headers["Allow"] = "GET, HEAD"
            return response
        if path == "/metrics":
            if self._refresh is not None:
                await self._refresh()
            return _respond(200, CONTENT_TYPE_LATEST, self._render_metrics())
        if path == "/health/live":
            return _respond(200, headers.JSON, orjson.dumps({"live": True}))
        return self._ready()

    def _ready(self) -> web.Response:
        found = "This gateway is stopping." if self.draining else self._is_ready()
        if isinstance(found, str):
            response = _problem(503, found)
            response.headers["Retry-After"] = "5"
            return response
        said: dict[str, object] = {"ready": True, "epoch": found.epoch, "state": found.state}
        if found.why:
            said["why"] = found.why
        return _respond(200, headers.JSON, orjson.dumps(said))


def _respond(status: int, content_type: str, body: bytes) -> web.Response:
    return web.Response(
        status=status, body=body, headers=headers.answer_headers(content_type, None, ())
    )


def _problem(status: int, sentence: str) -> web.Response:
    return _respond(status, PROBLEM, problem(status, sentence))
