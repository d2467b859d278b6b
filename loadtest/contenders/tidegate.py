"""Tidegate itself: a plan published with the usual commands, and a gateway with all that it has on.

Epochs are signed and the gateway is told the key; it counts its metrics and follows the pointer.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from loadtest import plans
from loadtest.servers import Failed, Server, free_port, running

_READY_SECONDS = 120.0
_TIDEGATE = (sys.executable, "-m", "compiler.cli")


def publish(folder: Path, redis: str, workspace: str, apps: Sequence[plans.App], ids: int) -> float:
    """Publish a workspace as epoch 1; give the seconds that the push took. Raises Failed."""
    plans.write_plan(folder / "plan", workspace, apps, ids)
    plans.write_packages(folder / "store")
    _run("keygen", "bench", "--dir", str(folder / "keys"), "--no-passphrase")
    began = time.monotonic()
    _run(
        *("push", str(folder / "plan"), "--key", str(folder / "keys" / "bench.pem")),
        *("--redis", redis, "--store", str(folder / "store")),
    )
    return time.monotonic() - began


def _run(*arguments: str) -> None:
    done = subprocess.run(
        [*_TIDEGATE, *arguments], env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"`tidegate {arguments[0]}` ended with {done.returncode}:\n{done.stderr}")


@contextmanager
def gateway(folder: Path, redis: str, workspace: str, *, plain: bool) -> Iterator[Server]:
    """Run a gateway of a published workspace until the end of the block. Raises Failed.

    It is compiled if this process is, but for a `plain` one, which runs from the sources.
    """
    port, admin = free_port(), free_port()
    settings = {
        "TIDEGATE_WORKSPACE": workspace,
        "TIDEGATE_LISTEN": f"127.0.0.1:{port}",
        "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "TIDEGATE_REDIS": redis,
        "TIDEGATE_CACHE": str(folder / ("cache-plain" if plain else "cache")),
        "TIDEGATE_TRUSTED_KEYS": str(folder / "keys" / "bench.pub"),
        "TIDEGATE_DRAIN_SECONDS": "0",
    }
    command = (sys.executable, "-m", "gateway")
    log = folder / ("plain.log" if plain else "gateway.log")
    environment = _environment() | settings
    for name in ("PYTHONPATH", "PYTHONSAFEPATH") if plain else ():
        environment.pop(name, None)
    with running(command, port, log, environment) as server:
        _wait(admin, log)
        yield replace(server, admin=admin)


def _environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}


def _wait(admin: int, log: Path) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        with (
            suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/health/ready", timeout=5),
        ):
            return
        time.sleep(0.05)
    raise Failed(f"The gateway does not get ready. It said:\n{log.read_text()[-2000:]}")
