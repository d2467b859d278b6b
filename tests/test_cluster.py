"""Push and check on a real Cluster of three: no command names two slots."""

import json
from pathlib import Path

import redis

import processes
import workplace
from workplace import APP

PLAN = f"""app: {APP}
packages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]
releases:
  - {{id: staff, package: 1.0.0.2, audience: {{lists: [staff]}}}}
  - {{id: stable, package: 1.0.0.1, audience: everyone}}
"""
MEMBERS = 3_000


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
            assert place.app(device=f"d-{number}")["release"] == "staff"
            assert place.app(device=f"x-{number}")["release"] == "stable"
        said = place.run("explain", "--app", "app", "--device", "d-7").out
        assert "update to 1.0.0.2 by staff" in said
        place.write("lists/staff.txt", "".join(f"d-{n}\n" for n in range(1, MEMBERS)))
        place.commit("one less")
        assert "1 of 1 in" in place.push().out
        assert place.app(device="d-0")["release"] == "stable"
        assert place.app(device="d-1")["release"] == "staff"
        assert "keys in Redis" in place.run("gc", "--keep", "1").out
        assert place.app(device="d-2")["release"] == "staff"
        for number in range(20):
            place.report("installed", "stable", device=f"d-{number % 10}")
            place.check(apps={APP: "1.0.0.1"})
        place.gateway.terminate()
        place.gateway.wait()
        census = json.loads(place.run("census", "--json").out)[APP]
        assert census["1.0.0.1"] == 20
        assert set(census) == {"1.0.0.1", "none"}
        (app,) = json.loads(place.run("status", "--json").out)["apps"]
        reach = {each["release"]: each["reach"] for each in app["releases"]}
        assert reach["staff"] == 52  # every 61st, d-1 and d-2
        said = json.loads(place.run("reports", "--json").out)
        assert [(row["event"], row["reports"], row["devices"]) for row in said] == [
            ("installed", 20, 10)
        ]
