"""`python -m gateway`: settings from the environment, one event loop, until a signal."""

import asyncio
import os
import sys
from typing import Any

import structlog
import uvloop

from gateway.channel import Seat, take_seat
from gateway.config import ConfigError, read_config, usage
from gateway.errors import StoreError
from gateway.service import serve
from gateway.worker import work
from gateway.workers import supervise

SWITCH_SECONDS = 0.001
"""While an epoch is built in a thread, the event loop gets its turn back this soon."""


def main() -> int:
    """Run a gateway; exit code 0 after a signal, 2 for settings it cannot start with, else 4."""
    if len(sys.argv) > 1:
        helped = sys.argv[1:] in (["--help"], ["-h"])
        print(usage(), file=sys.stdout if helped else sys.stderr)
        return 0 if helped else 2
    seat = take_seat(os.environ)
    _log_to_stderr(seat)
    try:
        return _run(seat)
    except ConfigError as fault:
        print("\n".join(fault.faults), file=sys.stderr)  # noqa: T201
        return 2
    except StoreError as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        return 4


def _run(seat: Seat | None) -> int:
    """Run the only process, a worker, or the workers' parent. Raises ConfigError, StoreError."""
    config = read_config(os.environ)
    if seat is None and config.workers > 1:
        return asyncio.run(supervise(config))
    sys.setswitchinterval(SWITCH_SECONDS)
    uvloop.run(serve(config) if seat is None else work(config, seat))
    return 0


def _log_to_stderr(seat: Seat | None) -> None:
    """Write one line of JSON an event, or colours where a person watches; say which worker it is.

    A line is one write, so that those of several workers do not mix.
    """

    def add_worker(_logger: Any, _method: str, event: Any) -> Any:
        return event if seat is None else event | {"worker": seat.slot}

    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            add_worker,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
