"""What operators do to each other and to themselves, with the real commands."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import processes
import workplace
from gateway.pointer import decode_pointer
from workplace import APP, Workplace

V1, V2 = "1.0.0.1", "1.0.0.2"


def _plan(*, withdrawn: bool = False, stable: str = "everyone", offers: str = V2) -> str:
    mark = ", withdrawn: true" if withdrawn else ""
    return (
        f"app: {APP}\npackages: [{{version: {V1}}}, {{version: {V2}{mark}}}]\nreleases:\n"
        f"  - {{id: next, package: {offers}, audience: everyone}}\n"
        f"  - {{id: stable, package: {V1}, audience: {stable}}}\n"
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[processes.RedisServer]:
    """Run a Redis."""
    with processes.redis_server(tmp_path / "redis") as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, server: processes.RedisServer) -> Iterator[Workplace]:
    """Publish a plan that offers v2, with v1 below it."""
    with workplace.workplace(tmp_path, server.url) as found:
        found.write(
            "workspace.yaml", 'workspace: demo\ncdn: [{regions: ["*"], bases: ["https://c"]}]\n'
        )
        found.write("apps/app.yaml", _plan())
        for version in (V1, V2):
            found.upload(version, found.make_bundle(version))
        found.commit("offer v2")
        found.push("-m", "offer v2")
        yield found


def test_revert_keeps_what_is_withdrawn(place: Workplace, server: processes.RedisServer) -> None:
    """Epoch 1 offers v2, 2 withdraws it, 3 breaks something else: revert 1 does not offer it."""
    assert place.app()["version"] == V2
    place.write("apps/app.yaml", _plan(withdrawn=True))
    place.commit("withdraw v2")
    place.push()
    place.write("apps/app.yaml", _plan(withdrawn=True, stable="{percent: 0}"))
    place.commit("break the rest")
    place.push()
    assert place.app()["status"] == "none"
    reverted = place.run("revert", "1", "--yes")
    assert f"kept: {APP}/{V2} is withdrawn" in reverted.out
    assert place.check()["epoch"] == 4
    assert place.app()["version"] == V1
    assert place.app(apps={APP: V2})["status"] == "rollback"
    # A push of a plan that offers v2 keeps the withdrawal too, and says so.
    place.write("apps/app.yaml", _plan())
    place.commit("offer v2 again, by mistake")
    assert f"kept from before: {APP}/{V2} is withdrawn" in place.push().err
    assert place.app()["version"] == V1


def test_a_replayed_pointer_is_refused(place: Workplace, server: processes.RedisServer) -> None:
    """Somebody writes the old pointer back: gateways serve on what they have, and say so."""
    with server.client() as client:
        old = client.get("tg:demo:live")
        place.write("apps/app.yaml", _plan(offers=V1))
        place.commit("offer v1 only")
        place.push()
        client.set("tg:demo:live", old)
        client.publish("tg:demo:notice", old)
        assert decode_pointer(old)[0] == 1  # type: ignore[arg-type]
        processes.wait_until(
            lambda: place.gateway.events("the live epoch is not taken"),
            "the gateway refuses the old epoch",
        )
        assert place.check()["epoch"] == 2
        place.gateway.kill()
        place.gateway.start()
        assert place.check()["epoch"] == 2


def test_a_stale_checkout_is_refused(place: Workplace, server: processes.RedisServer) -> None:
    """A plan that lacks the live epoch's commit is refused like a push that is no fast-forward."""
    first = place.git("rev-parse", "HEAD")
    place.write("apps/app.yaml", _plan(offers=V1))
    place.commit("somebody's change")
    place.push()
    place.git("reset", "--quiet", "--hard", first)
    place.write("workspace.yaml", "workspace: demo\ncheck_after: 60\n")
    place.commit("another change, on the old plan")
    refused = place.push(code=3)
    assert "stale" in refused.err
    assert place.check()["epoch"] == 2
    assert "Epoch 3 is live" in place.push("--force").out


def test_a_version_never_changes(place: Workplace, server: processes.RedisServer) -> None:
    """Other bytes under a version that an epoch knew are refused, by upload and by push."""
    other = place.make_bundle("other bytes")
    package = place.folder / "other.zip"
    place.run("pack", str(other), "--out", str(package), "--kind", "bundle")
    where = ("--app", APP, "--version", V2, "--plan", str(place.plan))
    assert "never change" in place.run("upload", str(package), *where, code=3).err
    record = place.plan / "packages" / APP / f"{V2}.json"
    record.unlink()
    place.run("upload", str(package), *where)
    place.commit("other bytes for v2")
    assert V2 in place.push(code=3).err
    assert place.check()["epoch"] == 1


def test_compile_now_and_push_later(place: Workplace, server: processes.RedisServer) -> None:
    """CI compiles, an operator pushes the file: the same epoch as a push of the plan."""
    place.write("apps/app.yaml", _plan(offers=V1))
    commit = place.commit("offer v1 only")
    image = place.folder / "image.tgf"
    place.run("compile", str(place.plan), "--out", str(image))
    twice = place.folder / "twice.tgf"
    place.run("compile", str(place.plan), "--out", str(twice))
    assert image.read_bytes() == twice.read_bytes()
    assert "Epoch 2 is live" in place.run("push", str(image), "--base", "1").out
    assert place.app()["version"] == V1
    assert "nothing new" in place.push().out
    shown = json.loads(place.run("history", "show", "2", "--json").out)
    assert shown["commit"] == commit


def test_two_plans_one_winner(place: Workplace, server: processes.RedisServer) -> None:
    """Who pushes on what is no longer live is told what the other one changed."""
    place.write("apps/app.yaml", _plan(offers=V1))
    place.commit("mine")
    place.push()
    place.write("workspace.yaml", "workspace: demo\ncheck_after: 60\n")
    refused = place.push("--base", "1", code=3)
    assert "epoch 2 (ann" in refused.err


def test_faults_have_their_exit_codes(place: Workplace, server: processes.RedisServer) -> None:
    """1 for faults in the plan, 2 for usage, 3 refused, 4 Redis away; never a traceback."""
    place.write("apps/app.yaml", _plan().replace("audience", "audiense", 1))
    broken = place.run("validate", str(place.plan), code=1)
    assert "apps/app.yaml:4:34: error" in broken.out
    assert '"audience"' in broken.out
    assert "^" in broken.out
    assert place.push(code=1).out == ""
    place.write("apps/app.yaml", _plan(offers=V1))
    place.run("push", str(place.plan), "--no-such-option", code=2)
    place.run("push", str(place.plan), code=2, TIDEGATE_STORE="")
    place.run("push", str(place.plan), code=2, TIDEGATE_REDIS="http://127.0.0.1")
    place.run("push", str(place.plan), code=4, TIDEGATE_REDIS="redis://127.0.0.1:1/0")
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in place.push("--force", code=3).err
    assert place.check()["epoch"] == 1
