"""A fleet of reference clients against a real gateway: all end on the target, and are counted."""

import shutil
from pathlib import Path

import pytest

from compiler.commands.file_server import serve_files
from loadtest import fleet
from processes import RedisServer
from stock import editions, packed, publish, stock
from workplace import APP, workplace

OLD, NEW = "1.0", "2.0"
PHONES = 12


def _plan(offered: str) -> str:
    return (
        f"app: {APP}\npackages:\n  - {{version: {OLD}}}\n  - {{version: {NEW}}}\n"
        f"releases: [{{id: stable, package: {offered}, audience: everyone}}]\n"
    )


def test_a_fleet_goes_from_one_version_to_the_next(
    tmp_path: Path, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """All follow each release; without a CDN all keep what they have, and that is told."""
    (tmp_path / "shop" / "store").mkdir(parents=True)
    files = serve_files(tmp_path / "shop" / "store", "127.0.0.1", 0)
    base = f"http://127.0.0.1:{files.server_address[1]}"
    with workplace(tmp_path / "shop", server.url) as place:
        place.write(
            "workspace.yaml", f'workspace: demo\ncdn: [{{regions: ["*"], bases: ["{base}"]}}]\n'
        )
        stock(place, APP, packed(place.folder, editions((OLD, NEW))))

        def round_of(offered: str, code: int = 0) -> str:
            place.write("apps/coffee.yaml", _plan(offered))
            publish(place)
            options = ["--phones", str(PHONES), "--root", str(tmp_path / "phones"), "--app", APP]
            assert fleet.main(["--gateway", place.gateway.url, *options]) == code
            return capsys.readouterr().out

        assert f"{APP}  installed    {OLD:<16} {PHONES:>7}" in round_of(OLD)
        assert f"{APP}  latest       {OLD:<16} {PHONES:>7}" in round_of(OLD)
        shutil.copytree(tmp_path / "phones", tmp_path / "before")
        assert f"{APP}  installed    {NEW:<16} {PHONES:>7}" in round_of(NEW)
        shutil.rmtree(tmp_path / "phones")
        shutil.move(tmp_path / "before", tmp_path / "phones")
        files.shutdown()
        files.server_close()
        assert f"{APP}  failed       {OLD:<16} {PHONES:>7}" in round_of(NEW, code=1)


@pytest.mark.parametrize("url", ["http://192.0.2.1:8080", "http://gate.example.com", "nowhere"])
def test_a_fleet_stays_on_this_machine(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A load test is sent to loopback only."""
    with pytest.raises(SystemExit) as ended:
        fleet.main(["--gateway", url, "--root", "x", "--app", APP])
    assert ended.value.code == 2
    assert "loopback only" in capsys.readouterr().err
