"""Push and check on a real Cluster of three: no command names two slots."""

import json
from functools import partial
from pathlib import Path

import redis

import processes
import workplace
from processes import wait_until
from workplace import APP

PLAN = f"""app: {APP}
packages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]
releases:
  - {{id: staff, package: 1.0.0.2, audience: {{lists: [staff]}}}}
  - {{id: stable, package: 1.0.0.1, audience: everyone}}
"""
MEMBERS = 3_000


def is_member(place: workplace.Workplace, device: str) -> bool:
    """Tell whether the staff's release is offered.

    A member falls through to the next one when a node is not given its turn for half a second.
    """
    release = place.app(device=device)["release"]
    assert release in ("staff", "stable")
    return bool(release == "staff")


def census(place: workplace.Workplace) -> dict[str, int]:
    """Read what was counted of installed versions."""
    found: dict[str, int] = json.loads(place.run("census", "--json").out).get(APP, {})
    return found


def reach(place: workplace.Workplace) -> dict[str, int]:
    """Read to how many each release was offered."""
    (app,) = json.loads(place.run("status", "--json").out)["apps"]
    return {each["release"]: each["reach"] for each in app["releases"]}


def test_push_and_check_on_a_cluster(tmp_path: Path) -> None:
    """Blobs and buckets spread over all nodes; members, strangers and explain find theirs."""
    with (
        processes.redis_cluster(tmp_path / "cluster") as url,
        workplace.workplace(tmp_path, url) as place,
    ):
        place.write(
            "workspace.yaml", 'workspace: demo\ncdn: [{regions: ["*"], bases: ["https://c"]}]\n'
        )
        place.write("lists.yaml", "lists: [{list: staff, of: device, file: lists/staff.txt}]\n")
        place.write("lists/staff.txt", "".join(f"d-{n}\n" for n in range(MEMBERS)))
        place.write("apps/app.yaml", PLAN)
        for version in ("1.0.0.1", "1.0.0.2"):
            place.upload(version, place.make_bundle(version))
        place.commit("first")
        assert "1 of 1 in" in place.push().out
        for port in (int(node.rpartition(":")[2]) for node in url.split("://")[1].split(",")):
            with redis.Redis(port=port) as node:
                assert node.dbsize() > 0
        for number in range(0, MEMBERS, 61):
            wait_until(partial(is_member, place, f"d-{number}"), "a member is one")
            assert not is_member(place, f"x-{number}")
        said = place.run("explain", "--app", "app", "--device", "d-7").out
        assert "update to 1.0.0.2 by staff" in said
        place.write("lists/staff.txt", "".join(f"d-{n}\n" for n in range(1, MEMBERS)))
        place.commit("one less")
        assert "1 of 1 in" in place.push().out
        assert not is_member(place, "d-0")
        wait_until(partial(is_member, place, "d-1"), "a member is one")
        assert "keys in Redis" in place.run("gc", "--keep", "1").out
        wait_until(partial(is_member, place, "d-2"), "a member is one")
        for number in range(20):
            place.report("installed", "stable", device=f"d-{number % 10}")
            place.check(apps={APP: "1.0.0.1"})
        # Every ten seconds; not at its end, for which a gateway takes a second only.
        wait_until(lambda: census(place).get("1.0.0.1") == 20, "the checks are counted")
        assert set(census(place)) == {"1.0.0.1", "none"}
        wait_until(lambda: reach(place)["staff"] == 52, "the reach is: every 61st, d-1 and d-2")
        said = json.loads(place.run("reports", "--json").out)
        assert [(row["event"], row["reports"], row["devices"]) for row in said] == [
            ("installed", 20, 10)
        ]
