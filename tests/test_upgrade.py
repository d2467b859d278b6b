"""An upgrade as the guide tells it: the link moves to the new version, and a reload follows."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from epochs import WORKSPACE, make_epoch
from gateway.keys import Keys
from installation import Installed, install
from processes import RedisServer, wait_until
from test_workers import Streams

KEYS = Keys(WORKSPACE)
STEPS = ("2.0.0", "1.0.0", "2.0.0") if "TIDEGATE_SOAK" in os.environ else ("2.0.0",)


def move_link(folder: Path, version: str) -> None:
    """Let `current` name a version, as `ln -s` and `mv -T` do: there is no moment without."""
    (folder / "next").symlink_to(version)
    (folder / "next").replace(folder / "current")


def versions(client: Any) -> set[str]:
    """Give the versions that running workers announce."""
    names = [name.decode() for name in client.zrange(KEYS.gateways, 0, -1)]
    texts = [client.get(KEYS.gateway(name)) for name in names]
    return {json.loads(text)["version"] for text in texts if text}


def restarted(gateway: Installed) -> int:
    """Count the rolling restarts that are over."""
    return len(gateway.events("restarted the workers"))


def test_a_rolling_upgrade_costs_no_check(server: RedisServer, tmp_path: Path) -> None:
    """Old and new workers serve side by side under load until all are new; the old files may go."""
    opt = tmp_path / "opt"
    for version in ("1.0.0", "2.0.0"):
        install(opt / version, version)
    move_link(opt, "1.0.0")
    gateway = Installed(tmp_path / "gateway", server.url, opt / "current/bin/python")
    with server.client() as client:
        make_epoch(1).write(client)
        try:
            gateway.start()
            wait_until(lambda: versions(client) == {"1.0.0"}, "the old version says so")
            with Streams(gateway, kept=2, new=2) as streams:
                for restarts, version in enumerate(STEPS, 1):
                    move_link(opt, version)
                    gateway.reload()
                    wait_until(lambda n=restarts: restarted(gateway) == n, "all are new", 60)
                    wait_until(lambda v=version: versions(client) == {v}, f"all are {version}")
                    streams.more(100)
            assert streams.failures == []
            shutil.rmtree(opt / "1.0.0")
            with Streams(gateway, kept=1, new=1) as streams:
                streams.more(100)
            assert streams.failures == []
            gateway.terminate()
            assert gateway.wait() == 0
        finally:
            gateway.stop()
