"""An upgrade to the next data format: gateways first, side by side, then whoever publishes.

The next format is made from the current tree (next_format.py): a gateway of it reads this format
and its own, a gateway of today reads this one alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from epochs import WORKSPACE
from gateway import layout
from gateway.keys import Keys
from gateway.pointer import decode_pointer
from installation import Installed, install
from next_format import NEXT, bring_forward, copy_next
from processes import ROOT, Gateway, RedisServer, wait_until
from publishing import plan_files, record
from test_upgrade import move_link, versions
from test_workers import Streams, fetch
from workplace import APP, Ran, Workplace

KEYS = Keys(WORKSPACE)
TEA = "2021000000000002"
OLD, NEW = "1.0.0", "2.0.0"
PAUSE = 0.01
"""Between the checks of a stream: what is shown here needs the processors, too."""


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a gateway of today's format and one of the next; lay out the next one's commands."""
    folder = tmp_path_factory.mktemp("opt")
    for version in (OLD, NEW):
        install(folder / version, version)
    (packages,) = (folder / NEW / "lib").glob("python*/site-packages")
    bring_forward(packages)
    copy_next(folder / "source")
    return folder


@dataclass(frozen=True, kw_only=True)
class Shop(Workplace):
    """An operator whose commands are of today's format or of the next."""

    behind: Installed
    """The gateway that is renewed last."""

    def offer(self, upgrade: str) -> None:
        """Write a plan of two apps: one release each, and how clients are to upgrade."""
        files = plan_files(["2.0"])
        app = files["apps/coffee.yaml"].replace("}\n", f", upgrade: {upgrade}}}\n")
        app = app.replace(f"version: 2.0, upgrade: {upgrade}", "version: 2.0")
        files["apps/coffee.yaml"] = app
        files["apps/tea.yaml"] = app.replace(APP, TEA).replace("Coffee", "Tea")
        for name, text in (files | record("2.0", TEA)).items():
            self.write(name, text)
            for form in json.loads(text)["forms"] if name.endswith(".json") else ():
                path = self.folder / "store" / form["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(form["size"]))
        self.commit(f"upgrade: {upgrade}")

    def type(self, source: Path, *arguments: str, code: int = 0) -> Ran:
        """Run the commands of a source tree."""
        return self.run(*arguments, code=code, cwd=source, PYTHONPATH=str(source))


def answers(*gateways: Gateway) -> list[dict[str, Any]]:
    """Ask each gateway of both apps; give what they say."""
    found = []
    for gateway in gateways:
        for app in (APP, TEA):
            status, text = fetch(f"{gateway.url}/v1/check/{app}")
            assert status == 200
            found.append(json.loads(text))
    return found


def formats(client: Any) -> tuple[int, int, list[int]]:
    """Give the formats of the live epoch: its own, that of its contents, those of its programs."""
    _, digest = decode_pointer(client.get(KEYS.live))
    version = {key: client.get(key)[5] for key in client.keys(KEYS.blob(b"") + "*")}
    signed = layout.unpack_map(layout.Signed, client.get(KEYS.blob(digest))[16:])
    epoch = layout.unpack_map(layout.Epoch, signed["epoch"])
    at = KEYS.blob(epoch["contents"])
    contents = layout.unpack_map(layout.Contents, client.get(at)[16:])
    programs = [version[KEYS.blob(each).encode()] for each in contents["programs"].values()]
    return epoch["format"], contents["format"], sorted(programs)


@pytest.fixture
def shop(server: RedisServer, opt: Path, tmp_path: Path) -> Iterator[Shop]:
    """Publish with today's commands; two gateways of today serve, one of which may be renewed."""
    move_link(opt, OLD)
    trusted = {"TRUSTED_KEYS": str(tmp_path / "keys/ann.pub")}
    pythons = (opt / "current/bin/python", opt / OLD / "bin/python")
    gateways = [
        Installed(tmp_path / f"gateway{at}", server.url, python, **trusted)
        for at, python in enumerate(pythons)
    ]
    shop = Shop(tmp_path, server.url, gateways[0], behind=gateways[1])
    shop.plan.mkdir()
    shop.git("init", "--quiet")
    shop.run("keygen", "ann", "--dir", str(tmp_path / "keys"), "--no-passphrase")
    shop.offer("prompt")
    shop.type(ROOT, "push", str(shop.plan))
    try:
        for gateway in gateways:
            gateway.start()
        yield shop
    finally:
        for gateway in gateways:
            gateway.stop()


def test_gateways_first_then_publishers(server: RedisServer, opt: Path, shop: Shop) -> None:
    """Under load no check fails, from the first new gateway to the first epoch in its format.

    Until the last gateway is new, old publishers publish and new ones are refused; who is still
    old when the format changes serves the last epoch that it can read.
    """
    ahead, behind, plan = shop.gateway, shop.behind, str(shop.plan)
    told = answers(behind)
    with (
        server.client() as client,
        Streams(ahead, kept=2, new=1, pause=PAUSE) as streams,
        Streams(behind, kept=1, new=1, pause=PAUSE) as others,
    ):
        move_link(opt, NEW)
        ahead.reload()
        wait_until(lambda: ahead.events("restarted the workers"), "all of one gateway are new", 60)
        wait_until(lambda: versions(client) == {OLD, NEW}, "old and new serve side by side")
        assert answers(ahead, behind) == told * 2
        refused = shop.type(opt / "source", "push", plan, code=3)
        assert f"Data format {NEXT} cannot be read by" in refused.err
        assert f"(version {OLD})" in refused.err
        assert f"(version {NEW})" not in refused.err
        shop.offer("force")
        shop.type(ROOT, "push", plan)
        told = answers(behind)
        assert answers(ahead, behind) == told * 2
        assert {each["apps"][0]["upgrade"] for each in told} == {"force"}
        others.finish()
        behind.terminate()
        assert behind.wait() == 0
        shop.type(opt / "source", "pause", "tea", "r2.0")  # one program is compiled again
        assert formats(client) == (NEXT, layout.FORMAT, [layout.FORMAT, NEXT])
        assert [each["apps"][0]["status"] for each in answers(ahead)] == ["update", "none"]
        shop.type(opt / "source", "push", plan)
        assert formats(client) == (NEXT, NEXT, [NEXT, NEXT])
        behind.start()
        assert answers(behind) == told
        status, why = fetch(f"{behind.admin_url}/health/ready")
        assert f"in data format {NEXT}, and this Tidegate reads {layout.FORMAT} only" in why
        assert status == 200
        streams.more(100)
    assert streams.failures == others.failures == []
    assert answers(ahead)[0]["apps"] == told[0]["apps"]
    said = shop.type(opt / "source", "history", "verify")
    assert "4 epochs checked, all sound" in said.out
    said = shop.type(ROOT, "push", plan, code=4)
    assert f"data format {NEXT}" in said.err
