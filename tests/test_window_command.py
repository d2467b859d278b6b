"""A time window from the plan to the phone and back, by the commands that an operator types."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import processes
import workplace
from gateway.keys import Keys
from workplace import APP, Workplace

PLAN = f"""app: {APP}
packages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]
releases:
  - {{id: canary, package: 1.0.0.2, audience: {{first: %d, until: 2099-01-01T00:00:00Z}}}}
  - {{id: stable, package: 1.0.0.1, audience: everyone}}
"""


@pytest.fixture
def place(tmp_path: Path, server: processes.RedisServer) -> Iterator[Workplace]:
    """Publish a window of two."""
    with workplace.workplace(tmp_path, server.url) as found:
        found.write(
            "workspace.yaml", 'workspace: demo\ncdn: [{regions: ["*"], bases: ["https://c"]}]\n'
        )
        found.write("apps/coffee.yaml", PLAN % 2)
        for version in ("1.0.0.1", "1.0.0.2"):
            found.upload(version, found.make_bundle(version))
        found.commit("first")
        found.push()
        yield found


def raise_to(place: Workplace, first: int) -> None:
    """Change the window's size in the plan."""
    place.write("apps/coffee.yaml", PLAN % first)
    place.commit(f"first {first}")


def release(place: Workplace, device: str, **more: object) -> str:
    """Ask which release a device gets."""
    found: str = place.app(device=device, **more)["release"]
    return found


def test_a_window_by_its_commands(place: Workplace, server: processes.RedisServer) -> None:
    """Seated, explained, frozen, compiled apart, reverted, raised; and begun again by hand only."""
    explain = ("explain", "--app", "coffee", "--device")
    assert "would be seated" in place.run(*explain, "a").out
    assert release(place, "a", dry_run=True) == "canary"
    assert release(place, "a") == release(place, "b") == "canary"
    assert release(place, "c") == "stable"
    said = place.run(*explain, "a").out
    assert "seated" in said
    assert "by canary" in said
    assert "not seated" in place.run(*explain, "c").out
    assert "1 of 1 in" in place.push().out  # full: a list from here on
    assert f"~ window {APP}/canary: frozen with 2 seats" in place.run("history", "show", "2").out
    assert f"window {APP}/canary frozen with 2 seats" in place.run("history").out
    said = place.run(*explain, "b").out
    assert "by canary" in said
    image = str(place.folder / "image")
    place.run("compile", str(place.plan), "--out", image)
    assert "says the same already" in place.run("push", image, cwd=place.plan).out
    assert release(place, "a") == "canary"
    assert release(place, "c") == "stable"
    raise_to(place, 3)
    said = place.run("diff", str(place.plan)).out
    assert "first 2 until 2099-01-01 00:00:00 UTC → first 3 until 2099-01-01" in said
    place.push()
    assert release(place, "c") == "canary"
    assert release(place, "d") == "stable"
    place.run("revert", "1", "--yes")
    assert [release(place, each) for each in "abcd"] == ["canary"] * 3 + ["stable"]
    raise_to(place, 5)
    place.push()
    with server.client() as client:
        client.delete(Keys("demo").window(APP, "canary"))
    assert release(place, "e") == "stable"
    said = place.run("window", "reopen", "coffee", "canary", code=3).err
    assert "--yes" in said
    assert "5 free seats" in place.run("window", "reopen", "coffee", "canary", "--yes").out
    assert release(place, "e") == "canary"
    said = place.run("window", "reopen", "coffee", "canary", "--yes", code=3).err
    assert "nothing was lost" in said
