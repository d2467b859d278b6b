"""A release day on real bundles, with the real commands, against a real gateway and Redis."""

import gzip
import hashlib
import re
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

import processes
import workplace
from workplace import APP, REAL, Workplace

IDS = 100_000
VERSIONS = {"1.11.0": "vant-weapp-1.11.0.tgz", "1.11.6": "vant-weapp-1.11.6.tgz"}
NEWEST = "1.11.7"
WORKSPACE = """workspace: demo
cdn: [{{regions: ["*"], bases: ["{base}"]}}]
"""
LISTS = "lists: [{list: early, of: user, file: lists/early.txt}]\n"


def _app(audience: str, withdrawn: str = "") -> str:
    packages = "".join(
        f"  - {{version: {version}{', withdrawn: true' if version == withdrawn else ''}}}\n"
        for version in (*VERSIONS, NEWEST)
    )
    return (
        f"app: {APP}\npackages:\n{packages}releases:\n"
        f"  - {{id: next, package: {NEWEST}, audience: {audience}}}\n"
        "  - {id: stable, package: 1.11.6, audience: everyone}\n"
    )


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, server: processes.RedisServer
) -> Iterator[Workplace]:
    """Pack and upload the three bundles; write an allowlist of 100,000 ids."""
    if not REAL.is_dir():
        pytest.skip(f"the real bundles are not at {REAL}")
    with workplace.workplace(tmp_path_factory.mktemp("day"), server.url) as found:
        found.write("workspace.yaml", WORKSPACE.format(base="https://cdn.example.com"))
        found.write("lists.yaml", LISTS)
        found.write("lists/early.txt", "".join(f"u-{n}\n" for n in range(IDS)))
        for version, name in {**VERSIONS, NEWEST: "vant-weapp-1.11.7.tgz"}.items():
            found.upload(version, REAL / name)
        yield found


def test_a_release_day(place: Workplace, server: processes.RedisServer) -> None:
    """An allowlist, 10 %, everyone, then the newest withdrawn: each is live when push returns."""
    place.write("apps/vant.yaml", _app("{lists: [early]}"))
    place.commit("to the early ones")
    pushed = place.push("-m", "early")
    assert "1 of 1 in" in pushed.out
    member = place.app(user="u-99999", apps={APP: "1.11.6"})
    assert (member["status"], member["version"], member["release"]) == ("update", NEWEST, "next")
    assert place.app(user="u-100000", apps={APP: "1.11.6"}) == {"app": APP, "status": "latest"}
    assert place.app(user="u-100000", apps={APP: "1.11.0"})["version"] == "1.11.6"
    wrong = [n for n in range(0, IDS, 997) if place.app(user=f"u-{n}").get("version") != NEWEST]
    assert wrong == []

    place.write("apps/vant.yaml", _app("{percent: 10}"))
    place.commit("to one in ten")
    place.push()
    offered = [place.app(device=f"d-{n}")["version"] for n in range(2_000)]
    # 200 expected; sigma is sqrt(2000 * 0.1 * 0.9) = 13.4.
    assert abs(offered.count(NEWEST) - 200) < 5 * 13.4

    place.write("apps/vant.yaml", _app("everyone"))
    place.commit("to everyone")
    place.push()
    assert place.app()["version"] == NEWEST
    assert place.app(apps={APP: NEWEST})["status"] == "latest"

    place.write("apps/vant.yaml", _app("everyone", withdrawn=NEWEST))
    place.commit("take it back")
    place.push()
    back = place.app(apps={APP: NEWEST})
    assert (back["status"], back["version"], back["upgrade"]) == ("rollback", "1.11.6", "force")
    assert place.app(apps={APP: "1.11.6"})["status"] == "latest"
    authors = [line for line in place.run("history").out.splitlines() if "ann" in line]
    assert len(authors) == 4


@pytest.mark.parametrize(
    ("accept", "compression"),
    [
        (None, "gzip"),
        (["gzip", "bsdiff4"], "gzip"),
        (["zstd", "gzip", "br"], "zstd"),
        (["zstd"], "zstd"),
        ([], None),
        (["br", 7], None),
        ("zstd", "gzip"),
    ],
)
def test_the_url_leads_to_the_packed_bytes(
    place: Workplace, server: processes.RedisServer, accept: Any, compression: str | None
) -> None:
    """The smallest form that the client opens lies in the store, and unfolds to the package."""
    package = place.app(**({} if accept is None else {"accept": accept}))["package"]
    assert package.get("compression") == compression
    path = package["urls"][0].removeprefix("https://cdn.example.com/")
    data = (place.folder / "store" / path).read_bytes()
    if compression is not None:
        assert len(data) == package["transfer_size"] < package["size"] // 4
        assert hashlib.sha256(data).hexdigest() == package["transfer_sha256"]
        unfold = {"gzip": gzip.decompress, "zstd": zstandard.ZstdDecompressor().decompress}
        data = unfold[compression](data)
    assert len(data) == package["size"]
    assert hashlib.sha256(data).hexdigest() == package["sha256"]


def test_explain_agrees_with_the_gateway(place: Workplace, server: processes.RedisServer) -> None:
    """Explain needs no plan file, and names the release that the gateway chose."""
    answer = place.app(user="u-1", apps={APP: NEWEST})
    said = place.run("explain", "--app", "vant", "--user", "u-1", "--installed", NEWEST)
    assert f"{answer['status']} to {answer['version']} by {answer['release']}" in said.out
    assert "withdrawn" in said.out


def test_metrics_count_the_day(place: Workplace, server: processes.RedisServer) -> None:
    """The answers of the day stand in /metrics by release and status, and the epoch's number."""
    text = _metrics(place)
    assert f'tidegate_app_answers_total{{app="{APP}",release="next",status="update"}}' in text
    assert "tidegate_epoch 4.0" in text


def _metrics(place: Workplace) -> str:
    with urllib.request.urlopen(f"{place.gateway.admin_url}/metrics", timeout=30) as response:
        return response.read().decode()


def test_a_stranger_costs_no_round_trip(place: Workplace, server: processes.RedisServer) -> None:
    """Redis hangs: who is on no list is answered as ever; a member whom nobody asked for falls."""
    place.write("apps/vant.yaml", _app("{lists: [early]}"))
    place.commit("to the early ones again")
    place.push()
    assert place.app(user="u-7")["version"] == NEWEST
    server.signal(signal.SIGSTOP)
    try:
        strangers = [place.app(user=f"s-{n}")["version"] for n in range(200)]
        assert set(strangers) == {"1.11.6"}
        # A few strangers look like members to the filter, not all of them.
        (late,) = re.findall(r"(?m)^tidegate_lookup_timeouts_total (\S+)", _metrics(place))
        assert float(late) < 20
        assert place.app(user="u-7")["version"] == NEWEST  # known from before
        assert place.app(user="u-8")["version"] == "1.11.6"  # not known: the next release
    finally:
        server.signal(signal.SIGCONT)
    processes.wait_until(
        lambda: place.app(user="u-8")["version"] == NEWEST, "members are looked up again"
    )
