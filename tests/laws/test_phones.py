"""Law 10, end to end: a client ends on a verified target, or stays where it was.

Redis, the gateway, nginx and the reference client are the real ones; a proxy before nginx, one
before the gateway, and the disk do harm: test_phones_lines.py (what a CDN sends), _trust.py (what
nobody signed), _ends.py (kills and full disks). Whatever happened, `Phone.round` holds the phone
to the law, and a later round in which nothing goes wrong (`heal`) ends on the target.
"""

import random
import shutil
from pathlib import Path

import pytest
import redis

import cdn
from gateway.keys import Keys
from loadtest.client import Client, Trust
from phone_shop import (
    BACK,
    BOTH,
    COUNTED,
    DEAD,
    ENDED,
    FAR,
    GONE,
    LEFT,
    NEAR,
    NEW,
    OLD,
    PLAIN,
    QUICK,
    SAME,
    SECRET,
    VANT,
    Phone,
    Shop,
)
from phone_ways import BSDIFF, FEW, GZIP, PATCHES, WAYS, ZPATCH, ZSTD, downloads, forged, phone
from processes import free_port, wait_until
from workplace import REAL


@pytest.mark.parametrize("way", WAYS)
def test_every_way_leads_to_the_target(world: Shop, way: str) -> None:
    """One download of the form asked for, and the phone has its target; the next round is quiet."""
    found = phone(world, way)
    result = found.round()
    assert result.version == found.target, result
    assert result.outcome == ("rolled_back" if "rollback" in way else "installed")
    (request,) = downloads(world)
    patched = not found.fresh and set(WAYS[way][2]) & {"bsdiff4", "zstd-patch"}
    assert bool(patched) == request.path.removesuffix(".age").endswith(PATCHES)
    assert request.path.endswith(".age") == way.startswith("encrypted")
    assert found.round().outcome == "latest"
    assert len(downloads(world)) == 1
    held = found.held()
    assert held is not None and held.may_open


def test_nothing_is_deleted_on_an_answer_without_a_package(world: Shop, tmp_path: Path) -> None:
    """`latest`, `none` and `unknown` change nothing; `withdrawn` stops a package, and keeps it."""
    for app, outcome in ((SAME, "latest"), (ENDED, "none"), (LEFT, "unknown"), (GONE, "withdrawn")):
        found = world.phone(tmp_path / app, app)
        result = found.round()
        assert (result.outcome, result.version) == (outcome, OLD)
        held = found.held()
        assert held is not None and held.may_open is (app != GONE)
        if app == GONE:
            found.gateway = world.gate.base
            world.gate.fault = forged(lambda said: said.update(status="none"))
            found.round()
            reinstated = found.held()
            assert reinstated is not None and reinstated.may_open
        stranger = world.phone(tmp_path / f"{app}-new", app, fresh=True)
        assert stranger.round().version == (OLD if app == SAME else None)


def test_one_apps_fault_is_its_own(world: Shop, tmp_path: Path) -> None:
    """Of five apps in one round the one whose download fails, or is unknown, harms no other."""
    for app in (SECRET, BACK, GONE, LEFT):
        shutil.copytree(world.roots / app, tmp_path, dirs_exist_ok=True)
    found = phone(world, "full, gzip")
    world.proxy.fault = cdn.only(_path(world, found), cdn.answered(404))
    phone_of_five = {"region": NEAR, "device": "five", "accept": GZIP}
    apps = (PLAIN, SECRET, BACK, GONE, LEFT)
    trust = Trust(identities=world.trust[SECRET].identities)
    client = Client(tmp_path, world.place.gateway.url, phone_of_five, apps, trust, QUICK)
    said = {each.app: (each.outcome.value, each.version) for each in client.update()}
    assert said == {
        PLAIN: ("failed", None),
        SECRET: ("installed", NEW),
        BACK: ("rolled_back", OLD),
        GONE: ("withdrawn", OLD),
        LEFT: ("unknown", OLD),
    }


def _path(world: Shop, found: Phone) -> str:
    """Name the file that a new phone of PLAIN fetches."""
    found.round()
    (request,) = downloads(world)
    return request.path


def test_what_was_begun_and_is_offered_no_more_is_forgotten(world: Shop) -> None:
    """Half of one form was fetched; then the phone opens another: it ends on the target, tidy."""
    found = phone(world, "full, gzip")
    world.proxy.fault = cdn.cut_at(5_000)
    assert found.round().outcome == "failed"
    assert [path.stat().st_size for path in (found.root / "downloads").iterdir()] == [5_000]
    found.members["accept"] = ZSTD
    found.heal()


def test_a_patch_that_cannot_be_had_leads_to_the_full_package(world: Shop) -> None:
    """In the same round: patch files are gone, damaged, or cut; the full package is sound."""
    for way in (each for each in WAYS if "patch" in each or "bsdiff4" in each):
        for fault in (cdn.answered(404), cdn.flipped(40), cdn.cut_at(30), cdn.answered(500)):
            found = phone(world, way, accept=["zstd", *WAYS[way][2]])

            def harm(request: cdn.Request, fault: cdn.Fault = fault) -> cdn.Reply:
                patch = request.path.removesuffix(".age").endswith(PATCHES)
                return fault(request) if patch else request.ask()

            world.proxy.fault = harm
            result = found.round()
            assert result.version == found.target
            assert "by the full package" in result.detail


def test_a_patch_for_another_version_is_not_asked_for(world: Shop) -> None:
    """What it is made from is compared with what is installed, before a byte is fetched."""
    found = phone(world, "bsdiff4")
    found.gateway = world.gate.base
    world.gate.fault = forged(lambda app: app["patch"].update({"from": "0.9"}))
    assert found.round().version == NEW
    assert not any(each.path.endswith(PATCHES) for each in downloads(world))


def _garbage() -> list[bytes]:
    chance = random.Random(7)
    deep = b"[" * 100_000
    return [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"apps": {}}',
        b'{"apps": [], "check_after": -1}',
        b'{"apps": [7, null, {"app": 1}], "check_after": 60}',
        b'{"apps": [{"app": "plain"}], "check_after": 60}',
        b'{"apps": [{"app": "plain", "status": "delete"}], "check_after": 60}',
        b'{"apps": [{"app": "plain", "status": "update"}], "check_after": 60}',
        b'{"apps": [{"app": "plain", "status": "update", "package": 7}], "check_after": 60}',
        b"<html>log in to this network</html>",
        b'{"apps": ' + deep,
        deep,
        chance.randbytes(1000),
        b" " * 10_000_000,
    ]


def test_a_gateway_that_misbehaves(world: Shop) -> None:
    """Down, 503, or anything that is no answer: what is installed stays, and is asked later."""
    faults = [cdn.answered(503), cdn.answered(500), cdn.answered(404), cdn.cut_at(0)]
    faults += [
        cdn.restated(503),
        cdn.restated(404),
        cdn.cut_after(60),
        cdn.stalled(20, 0.1),
        cdn.announced(50),
    ]
    faults += [cdn.answered(200, body) for body in _garbage()]
    for way in ("full", "zstd-patch"):
        for fault in faults:
            found = phone(world, way)
            found.gateway = world.gate.base
            world.gate.fault = fault
            result = found.round()
            assert result.version == found.before, result
            assert downloads(world) == []
            assert 0 < found.client().seconds_left() <= 1800
        found.heal()
        found = phone(world, way)
        found.gateway = f"http://127.0.0.1:{free_port()}"
        assert (found.round().outcome, found.version) == ("unanswered", found.before)
        found.gateway = ""
        found.heal()


def test_a_cdn_that_is_down(world: Shop) -> None:
    """Nobody listens at the first base: the second serves; at the only one: the old one stays."""
    for way in FEW:
        found = phone(world, way, region="dead-both")
        assert found.round().version == found.target
        found = phone(world, way, region=DEAD)
        assert (found.round().outcome, found.version) == ("failed", found.before)
        found.members["region"] = FAR
        found.heal()
    world.nginx.stop()
    try:
        found = phone(world, "zstd-patch", region=BOTH)
        assert (found.round().outcome, found.version) == ("failed", OLD)
    finally:
        world.nginx.start()
    found.heal()


def test_reports_are_counted_by_phones(world: Shop, tmp_path: Path) -> None:
    """Of each release and event as many phones as took part, however often they say so."""
    phones = 20
    for number in range(phones):
        found = world.phone(tmp_path / f"counted-{number}", COUNTED)
        if number < 5:
            world.proxy.fault = cdn.answered(404)
            for _ in range(2):
                assert found.round().outcome == "failed"
        found.heal()
    keys = Keys("demo")
    with redis.Redis.from_url(world.place.redis_url) as link:
        wanted = {"installed": phones, "downloaded": phones, "failed": 5, "rolled_back": 0}

        def counted() -> dict[str, int]:
            subjects = {event: keys.subjects_of(COUNTED, "stable", event) for event in wanted}
            return {event: link.pfcount(key) for event, key in subjects.items()}

        wait_until(lambda: counted() == wanted, "all that they took part in is counted")
        rollbacks = keys.subjects_of(BACK, "stable", "rolled_back")
        found = world.phone(tmp_path / "back", BACK)
        found.heal()
        wait_until(lambda: link.pfcount(rollbacks) > 0, "the rollback is counted")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real bundles are not at {REAL}")
@pytest.mark.parametrize("accept", [BSDIFF, ZPATCH, GZIP, ZSTD, []], ids=str)
def test_real_bundles(world: Shop, tmp_path: Path, accept: list[str]) -> None:
    """From 1.11.0 to 1.11.7 of a real library, over a line that is cut every 50,000 bytes."""
    found = world.phone(tmp_path / "vant", VANT, accept=accept)
    world.proxy.fault = cdn.cut_after(50_000)
    assert found.round().version == found.target
    _, body = cdn.fetch(world.nginx.base + downloads(world)[0].path)
    assert len(downloads(world)) == -(-len(body) // 50_000)
    assert (len(body) < 10_000) == (accept in (BSDIFF, ZPATCH))
