"""In which order a client's files reach the disk, and who may read them."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from loadtest.client import Client, Trust
from loadtest.client.answer import Offer
from loadtest.client.durable import move_durably, write_durably
from loadtest.client.shelf import Shelf
from stub_gateway import APP, offer, package, sha256, stub_gateway

Event = tuple[str, str, int | str]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Note what is synced, at which size for a file, and what gets which name."""
    found: list[Event] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").resolve()
        found.append(("sync", path.name, -1 if path.is_dir() else os.fstat(handle).st_size))
        fsync(handle)

    def named(source: Any, target: Any) -> None:
        found.append(("name", Path(source).name, Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    return found


def test_bytes_reach_the_disk_before_their_name(tmp_path: Path, events: list[Event]) -> None:
    """All bytes are synced under another name, then comes the name, then the folder is synced."""
    write_durably(tmp_path / "record", b"12345")
    assert events == [
        ("sync", "record.new", 5),
        ("name", "record.new", "record"),
        ("sync", tmp_path.name, -1),
    ]
    events.clear()
    (tmp_path / "file").write_bytes(b"123")
    move_durably(tmp_path / "file", tmp_path / "moved")
    assert events == [
        ("sync", "file", 3),
        ("name", "file", "moved"),
        ("sync", tmp_path.name, -1),
    ]


def test_the_record_names_only_what_is_on_the_disk(tmp_path: Path, events: list[Event]) -> None:
    """Folders, package, and then the record: each is synced before the next begins."""
    data = package(1)
    (tmp_path / "file").write_bytes(data)
    offered = Offer("1", "stable", len(data), sha256(data), ())
    Shelf(tmp_path / "apps").install(APP, tmp_path / "file", offered)
    size = (tmp_path / "apps" / APP / "installed.json").stat().st_size
    assert events == [
        ("sync", tmp_path.name, -1),
        ("sync", "apps", -1),
        ("sync", "file", len(data)),
        ("name", "file", sha256(data)),
        ("sync", APP, -1),
        ("sync", "installed.json.new", size),
        ("name", "installed.json.new", "installed.json"),
        ("sync", APP, -1),
    ]


def test_what_is_installed_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, in each form: folders are 0700, files 0600, also while they are made."""
    root, seen = tmp_path / "phone", set[Path]()

    def modes() -> set[tuple[bool, int]]:
        seen.update(paths := [root, *root.rglob("*")])
        return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths}

    before = os.umask(0)
    try:
        with stub_gateway() as gateway:
            client = Client(root, gateway.url, {"network": "WIFI"}, [APP], Trust())
            versions = [package(number) for number in range(4)]
            for number, form in enumerate(("identity", "gzip", "zstd", "gzip")):
                base = ("bsdiff4", "2", versions[2]) if number == 3 else None
                entry = offer(gateway, str(number), versions[number], form=form, base=base)
                gateway.apps = [entry]
                gateway.on_fetch = lambda _: modes()
                (result,) = client.update()
                assert result.outcome == "installed"
                assert modes() == {(True, 0o700), (False, 0o600)}
    finally:
        os.umask(before)
    assert {path.name for path in seen} >= {"downloads", "apps", "diary.json", "lock"}
