"""`python -m gateway`: settings from the environment, one event loop, until a signal."""

import os
import sys

import structlog
import uvloop

from gateway.config import ConfigError, read_config, usage
from gateway.errors import StoreError
from gateway.service import serve

SWITCH_SECONDS = 0.001
"""While an epoch is built in a thread, the event loop gets its turn back this soon."""


def main() -> int:
    """Run a gateway; exit code 0 after a signal, 2 for settings it cannot start with, else 4."""
    if len(sys.argv) > 1:
        helped = sys.argv[1:] in (["--help"], ["-h"])
        print(usage(), file=sys.stdout if helped else sys.stderr)
        return 0 if helped else 2
    _log_to_stderr()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvloop.run(serve(read_config(os.environ)))
    except ConfigError as fault:
        print("\n".join(fault.faults), file=sys.stderr)  # noqa: T201
        return 2
    except StoreError as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        return 4
    return 0


def _log_to_stderr() -> None:
    """Write one line of JSON an event, or colours where a person watches."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
