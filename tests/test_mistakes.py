"""What operators get wrong at the command line, what they are told, and what must not happen."""

import getpass
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import processes
import workplace
from compiler.commands.keys import keygen
from compiler.commands.naming import app_of_file
from workplace import APP, Workplace

V1, V2 = "1.0.0.1", "1.0.0.2"


def _workspace(check_after: int) -> str:
    cdn = '[{regions: ["*"], bases: ["https://c"]}]'
    return f"workspace: demo\ncheck_after: {check_after}\ncdn: {cdn}\n"


def _app(*versions: str) -> str:
    packages = ", ".join(f"{{version: {version}}}" for version in versions)
    releases = "".join(
        f"  - {{id: r{version}, package: {version}, audience: everyone}}\n" for version in versions
    )
    return f"app: {APP}\nname: Coffee\npackages: [{packages}]\nreleases:\n{releases}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Publish a small plan; every test here leaves it valid and live."""
    folder = tmp_path_factory.mktemp("mistakes")
    with (
        processes.redis_server(folder / "redis") as server,
        workplace.workplace(folder, server.url) as found,
    ):
        found.write("workspace.yaml", _workspace(1800))
        found.write("apps/coffee.yaml", _app(V1))
        found.upload(V1, found.make_bundle(V1))
        found.commit("offer v1")
        found.push("-m", "offer v1")
        yield found


def _newest(place: Workplace) -> int:
    newest: int = json.loads(place.run("history", "-n", "1", "--json").out)[0]["number"]
    return newest


def test_a_stale_file_is_refused(place: Workplace) -> None:
    """A file that was compiled before the live commit is stale, however new the checkout is."""
    old = place.folder / "old.tgf"
    place.run("compile", str(place.plan), "--out", str(old))
    place.write("workspace.yaml", _workspace(900))
    place.commit("somebody's change")
    place.push()
    live = _newest(place)
    refused = place.run("push", str(old), cwd=place.plan, code=3)
    assert "stale" in refused.err
    assert "No Git checkout here has this plan" in place.run("push", str(old), code=3).err
    place.write("workspace.yaml", _workspace(600))
    place.commit("mine, on top of it")
    place.run("compile", str(place.plan), "--out", str(old))
    assert f"Epoch {live + 1} is live" in place.run("push", str(old), cwd=place.plan).out


def test_a_package_that_the_store_lacks_is_refused(place: Workplace) -> None:
    """An upload into another store leaves URLs without a file, so the push is refused."""
    package = place.folder / "v2.zip"
    source = str(place.make_bundle(V2))
    place.run("pack", source, "--out", str(package), "--kind", "bundle")
    upload = ("upload", str(package), "--app", "coffee", "--version", V2, "--plan", str(place.plan))
    place.run(*upload, TIDEGATE_STORE=str(place.folder / "other"))
    place.write("apps/coffee.yaml", _app(V1, V2))
    place.commit("offer v2")
    refused = place.push(code=3)
    assert f"{APP} {V2}. Run `tidegate upload` with this store" in refused.err
    place.run(*upload)
    place.push()
    assert place.app()["version"] == V2


def test_upload_knows_an_app_by_its_files_name(place: Workplace, tmp_path: Path) -> None:
    """`coffee` is the app of apps/coffee.yaml; a folder without a plan gets no record."""
    assert app_of_file(place.plan, "coffee") == APP
    assert app_of_file(place.plan, APP) == APP
    assert app_of_file(place.plan, "../apps/coffee") == "../apps/coffee"
    package = tmp_path / "any"
    package.write_bytes(b"any")
    refused = place.run(
        "upload", str(package), "--app", APP, "--version", "9", cwd=tmp_path, code=2
    )
    assert "no workspace.yaml" in refused.err
    assert list(tmp_path.iterdir()) == [package]


def test_who_only_reads_makes_no_store(place: Workplace, tmp_path: Path) -> None:
    """A store's name that was mistyped is named, and no folder appears there."""
    typo = tmp_path / "typo"
    for command in (
        ("history",),
        ("validate", str(place.plan)),
        ("explain", "--app", "coffee"),
        ("diff", str(place.plan)),
        ("allowlist", "show", "staff"),
    ):
        said = place.run(*command, code=4, TIDEGATE_STORE=str(typo))
        assert f"There is no store at {typo}" in said.err
    assert not typo.exists()


def test_another_workspace_of_the_same_store(place: Workplace) -> None:
    """One store is one workspace's: that is said, and not that Redis was emptied."""
    said = place.run("history", code=3, TIDEGATE_WORKSPACE="other")
    assert "holds the workspace 'demo', not 'other'" in said.err


def test_the_history_takes_its_options_anywhere(place: Workplace) -> None:
    """--redis, --store and --workspace may stand behind show, diff and verify too."""
    where = ("--redis", place.redis_url, "--store", str(place.folder / "store"))
    wrong = {"TIDEGATE_REDIS": "redis://127.0.0.1:1/0", "TIDEGATE_STORE": "", "code": 0}
    for command in (("show", "1"), ("diff", "1", "1"), ("verify",)):
        place.run("history", *command, *where, "--workspace", "demo", **wrong)  # type: ignore[arg-type]
    place.run("history", "-n", "-1", code=2)
    no_keys = place.run("history", "verify", "--trusted", "no-such.pub", code=2)
    assert "'no-such.pub' gives no keys" in no_keys.err


def test_the_history_shows_what_was_not_committed(place: Workplace) -> None:
    """An epoch of a dirty folder is marked; a note is one line without control characters."""
    before = (place.plan / "workspace.yaml").read_text()
    place.write("workspace.yaml", before + "# not committed\n")
    assert "printable" in place.push("-m", "red \x1b[31m", code=2).err
    place.push("-m", "two\n lines")
    newest = place.run("history", "-n", "1").out
    assert "-dirty" in newest
    assert "two lines" in newest
    place.git("checkout", "--quiet", ".")
    place.push()


def test_the_oldest_kept_epoch_is_shown(place: Workplace) -> None:
    """What came before it was collected: that is said where its difference would stand."""
    place.write("workspace.yaml", _workspace(300))
    place.commit("one more")
    place.push()
    hours_ago = time.time() - 7200
    for blob in (place.folder / "store" / "blobs").glob("*/*"):
        os.utime(blob, (hours_ago, hours_ago))
    place.run("gc", "--keep", "1")
    newest = str(_newest(place))
    assert "older epochs were collected" in place.run("history", "show", newest).out
    assert json.loads(place.run("history", "show", newest, "--json").out)["difference"] is None


def test_usage_faults_are_told_as_such(place: Workplace, tmp_path: Path) -> None:
    """What was typed wrongly ends with 2 and a sentence: no bug is reported, nothing is made."""
    ids = tmp_path / "ids.txt"
    ids.write_text("u-1\n")
    said = [
        place.run("push", str(ids), code=2).err,
        place.run("compile", str(place.plan), "--out", str(tmp_path), code=2).err,
        place.run("allowlist", "import", "a/b", str(ids), "--of", "user", code=2).err,
        place.run("allowlist", "import", "..", str(ids), "--of", "user", code=2).err,
        place.run("explain", "--app", "coffee", "--attr", "brand=\udcff", code=2).err,
        place.run("up", "--dir", str(tmp_path), code=2, TIDEGATE_LISTEN="127.0.0.1:70000").err,
    ]
    assert "no Tidegate image file" in said[0]
    assert said[1].endswith(f"\n{tmp_path}: Is a directory\n")
    assert "'a/b' is no name of a list" in said[2]
    assert "not UTF-8" in said[4]
    assert "127.0.0.1:70000" in said[5]
    assert list(tmp_path.iterdir()) == [ids]


def test_a_user_without_a_name_gives_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a container the system may not know the user: keygen then asks for the name."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    with pytest.raises(typer.BadParameter, match="Say yours: NAME"):
        keygen(folder=tmp_path, no_passphrase=True)
    keygen("ann", folder=tmp_path, no_passphrase=True)


def test_explain_tells_times_for_people(place: Workplace) -> None:
    """A schedule and the moment are shown as times in UTC; what is no moment is usage."""
    app = _app(V1).replace(
        "audience: everyone", "audience: everyone, starts: 2027-01-01T08:00:00+08:00"
    )
    place.write("apps/coffee.yaml", app)
    place.commit("later")
    place.push()
    said = place.run("explain", "--app", "coffee", "--at", "1798761599").out
    assert "2026-12-31 23:59:59 UTC: none" in said
    assert "from 2027-01-01 00:00:00 UTC until -" in said
    place.run("explain", "--app", "coffee", "--at", "9" * 20, code=2)
