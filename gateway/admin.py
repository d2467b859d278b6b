"""The admin listener: health for an orchestrator, metrics for Prometheus."""

from collections.abc import Callable

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway import headers
from gateway.follower import Follower
from gateway.problem import CONTENT_TYPE as PROBLEM
from gateway.problem import problem

PATHS = ("/health/live", "/health/ready", "/metrics")

log = structlog.get_logger()


class AdminServer:
    """Answers operators; `draining` makes it unready, so that balancers look elsewhere."""

    def __init__(self, follower: Follower, render_metrics: Callable[[], bytes]) -> None:
        self.draining = False
        self._follower = follower
        self._render_metrics = render_metrics

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer any request. Raises nothing."""
        try:
            return self._route(request)
        except Exception:
            log.exception("an admin request failed", path=request.path)
            return _problem(500, "The gateway failed on this request; its log says why.")

    def _route(self, request: web.BaseRequest) -> web.Response:
        path = request.path
        if path not in PATHS:
            return _problem(404, f"There is nothing at this path; try {', '.join(PATHS)}.")
        if request.method not in ("GET", "HEAD"):
            response = _problem(405, "This path answers GET and HEAD.")
            response.headers["Allow"] = "GET, HEAD"
            return response
        if path == "/metrics":
            return _respond(200, CONTENT_TYPE_LATEST, self._render_metrics())
        if path == "/health/live":
            return _respond(200, headers.JSON, orjson.dumps({"live": True}))
        return self._ready()

    def _ready(self) -> web.Response:
        snapshot = self._follower.snapshot
        if self.draining or snapshot is None:
            why = (
                "This gateway is stopping." if self.draining else "There is no epoch to serve yet."
            )
            response = _problem(503, why)
            response.headers["Retry-After"] = "5"
            return response
        state = {"ready": True, "epoch": snapshot.number, "state": self._follower.state}
        return _respond(200, headers.JSON, orjson.dumps(state))


def _respond(status: int, content_type: str, body: bytes) -> web.Response:
    return web.Response(
        status=status, body=body, headers=headers.answer_headers(content_type, None, ())
    )


def _problem(status: int, sentence: str) -> web.Response:
    return _respond(status, PROBLEM, problem(status, sentence))
