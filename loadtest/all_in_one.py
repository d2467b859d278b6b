"""`tidegate up` in a load test: run to the end of a block, and where it says that everything is."""

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtest.plans import COFFEE
from loadtest.servers import Failed, Server, running


@contextmanager
def process(*command: str, port: int, **environment: str) -> Iterator[Server]:
    """Run a command that listens on a port until the end of the block; what it says is dropped."""
    with running(command, port, Path(os.devnull), os.environ | environment) as server:
        yield server


def settings(folder: Path) -> dict[str, str]:
    """Read what `tidegate up` says of where everything is."""
    lines = (folder / "env").read_text().splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines)
    return {name: value.strip("'") for name, value in pairs}


def wait_for_epoch(port: int, epoch: int) -> bytes:
    """Ask for the sample's app until a gateway answers from this epoch; give that answer."""
    for _ in range(500):
        url = f"http://127.0.0.1:{port}/v1/check/{COFFEE}?installed=1.0.0.1"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
            body: bytes = response.read()
            if json.loads(body)["epoch"] == epoch:
                return body
        time.sleep(0.02)  # 503 before the first epoch
    raise Failed(f"the gateway does not serve epoch {epoch}")
