"""An auditor's questions, answered by `tidegate history`: who, when, what, with which key.

A small shop's life is played with the real commands: two people and a controller publish, keys are
rotated and one is revoked, releases are paused and halted, an epoch is taken back, old ones are
collected; and somebody who can write to the store tries to have it otherwise.
"""

import gc
import io
import json
import os
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from compiler import cli
from compiler.control.counts import Counts
from compiler.control.watch import Watch
from compiler.control.workplace import Workplace as Duty
from compiler.publication.publisher_key import load_key
from compiler.storage.store import open_store
from controllers import guarded
from gateway.keys import Keys
from gateway.link import connect_sync, parse_url
from gateway.signing import key_id, parse_trusted_keys
from processes import ROOT, Gateway, RedisServer
from publishing import WORKSPACE
from workplace import APP, Ran, Workplace

YEARS = 2 * 365 * 86_400


class Shop(Workplace):
    """A workplace whose commands run in this process: there are many of them."""

    __slots__ = ()

    def run(
        self, *arguments: str, code: int | None = 0, cwd: Path = ROOT, **environment: str
    ) -> Ran:
        """Run `tidegate`; hold its exit code to `code`."""
        del cwd
        settings = {
            "TIDEGATE_REDIS": self.redis_url,
            "TIDEGATE_STORE": str(self.folder / "store"),
            "TIDEGATE_WORKSPACE": "demo",
            "TIDEGATE_KEY": str(self.folder / "keys/ann.pem"),
            **environment,
        }
        told, said, thresholds = io.StringIO(), io.StringIO(), gc.get_threshold()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(said):
            for name, value in settings.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["tidegate", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        gc.set_threshold(*thresholds)
        assert code is None or ended.value.code == code, (
            f"{arguments}: {told.getvalue()}{said.getvalue()}"
        )
        return Ran(int(ended.value.code or 0), told.getvalue(), said.getvalue())


def lay(place: Workplace, files: dict[str, str]) -> None:
    """Write a plan, and put the files of its packages into the store."""
    for name, text in files.items():
        place.write(name, text)
        for form in json.loads(text)["forms"] if name.endswith(".json") else ():
            path = place.folder / "store" / form["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(form["size"]))


@pytest.fixture(scope="module")
def shop(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Play the shop's life: eight epochs."""
    folder = tmp_path_factory.mktemp("shop")
    place = Shop(folder, server.url, Gateway(folder / "gateway", server.url))
    place.plan.mkdir()
    place.git("init", "--quiet")
    keys = folder / "keys"
    for name in ("ann", "ben", "controller", "ann-2027"):
        place.run("keygen", name, "--dir", str(keys), "--no-passphrase")
    lay(place, guarded())
    place.commit("coffee")
    place.push("-m", "first")  # 1, by ann
    ben = {"TIDEGATE_KEY": str(keys / "ben.pem")}
    place.run("pause", "coffee", "r1", "-m", "crashes on Android 12", **ben)  # 2
    place.run("resume", "coffee", "r1", "-m", "was the phone", **ben)  # 3
    link: Any = connect_sync(parse_url(server.url), timeout_seconds=20)
    store = open_store(str(folder / "store"))
    duty = Duty(WORKSPACE, store, link, load_key(keys / "controller.pem", None))
    watch = Watch(duty, Counts(), lambda: True)
    minute = int(link.time()[0]) // 60
    with server.client() as client:
        subjects = [f"d{at}" for at in range(400)]
        client.pfadd(Keys(WORKSPACE).guard(APP, "r2", "failed", minute), *subjects)
    watch.turn()  # 4, by the controller
    link.close()
    new = {"TIDEGATE_KEY": str(keys / "ann-2027.pem")}
    place.run("end", "coffee", "r2", "-m", "given up", **new)  # 5
    lay(place, guarded(**{"workspace.yaml": "workspace: demo\ncheck_after: 60\n"}))
    commit = place.commit("ask each minute")
    place.push("-m", "ask each minute", "--force")  # 6, by ann's old key: stolen by now
    place.run("revert", "5", "--yes", "-m", "not by me", **new)  # 7
    assert commit
    lines = [(keys / f"{name}.pub").read_text() for name in ("ann", "ben", "controller")]
    lines.append((keys / "ann-2027.pub").read_text())
    (folder / "all.pub").write_text("".join(lines))
    return place


def history(place: Workplace, *arguments: str) -> list[dict[str, Any]]:
    """List the history, the oldest first."""
    found: list[dict[str, Any]] = json.loads(place.run("history", *arguments, "--json").out)
    return found[::-1]


def test_who_when_what_with_which_key(shop: Workplace) -> None:
    """Each epoch has author, time, key, commit, reason and what it changed."""
    found = history(shop)
    assert [(each["number"], each["author"], each["note"]) for each in found] == [
        (1, "ann", "first"),
        (2, "ben", "crashes on Android 12"),
        (3, "ben", "was the phone"),
        (4, "controller", found[3]["note"]),
        (5, "ann-2027", "given up"),
        (6, "ann", "ask each minute"),
        (7, "ann-2027", "not by me"),
    ]
    assert re.match(r"halted: \d+ of \d+ \(100.0 %\) failed", found[3]["note"])
    keys = parse_trusted_keys((shop.folder / "all.pub").read_text())
    ids = {key.name: key_id(key.raw) for key in keys}
    assert [each["key_id"] for each in found] == [ids[each["author"]] for each in found]
    assert [each["time"] for each in found] == sorted(each["time"] for each in found)
    assert len({each["commit"] for each in found[:5]}) == 1
    assert found[5]["commit"] == shop.git("rev-parse", "HEAD")
    told = shop.run("history", "show", "2").out
    assert f"by ben at {told.split(' at ')[1][:10]}" in told
    assert f"signed with key {ids['ben']}" in told
    assert "r1" in told
    assert "paused" in told
    assert json.loads(shop.run("history", "show", "2", "--json").out)["key_id"] == ids["ben"]
    table = shop.run("history").out
    assert all(each in table for each in ids.values())
    assert "check_after" in shop.run("history", "diff", "5", "6").out
    assert shop.run("history", "diff", "5", "7").out.strip() == "nothing differs"


def test_what_a_key_has_signed(shop: Workplace) -> None:
    """By its name or the beginning of its id: that alone, however far back it lies."""
    assert [each["number"] for each in history(shop, "--key", "ann")] == [1, 6]
    ben = history(shop, "--key", "ben")
    assert [each["number"] for each in ben] == [2, 3]
    found = history(shop, "--key", ben[0]["key_id"][:8])
    assert [each["number"] for each in found] == [2, 3]
    assert [each["number"] for each in history(shop, "--key", "ann", "-n", "1")] == [6]
    assert history(shop, "--key", "nobody") == []
    told = shop.run("history", "verify", "--trusted", str(shop.folder / "all.pub")).out
    assert re.search(r"^ann, key \w{16}: 2 epochs, from 1 \(.*\) to 6 \(.*\)$", told, re.MULTILINE)
    assert re.search(r"^controller, key \w{16}: epoch 4 \(", told, re.MULTILINE)
    assert "7 epochs checked, all sound; that is the first epoch." in told


def test_a_revoked_key_counts_up_to_its_end(shop: Workplace) -> None:
    """What it signed before holds, what it signed after is a break, and is named."""
    trusted = ("history", "verify", "--trusted", str(shop.folder / "all.pub"))
    said = shop.run(*trusted, "--revoked", "ann:5", code=3).err
    assert "Epoch 6: it is signed by the key of ann, which was revoked after epoch 5." in said
    shop.run(*trusted, "--revoked", "ann:6")
    said = shop.run(*trusted, "--revoked", "eve:5", code=2).err
    assert "--trusted has no key of this name" in said
    lines = (shop.folder / "all.pub").read_text().splitlines(keepends=True)
    (shop.folder / "some.pub").write_text("".join(lines[1:]))
    some = str(shop.folder / "some.pub")
    assert "which is not trusted" in shop.run("history", "verify", "--trusted", some, code=3).err
    told = json.loads(shop.run(*trusted, "--revoked", "ann:5", "--json", code=3).out)
    assert (told["epochs"], told["fault"][:7]) == (1, "Epoch 6")


def test_another_history_is_found_out(shop: Workplace, tmp_path: Path) -> None:
    """What was noted of an epoch holds for the true chain, and for no other."""
    anchor = shop.run("history", "verify").out.strip().rpartition("anchor: ")[2]
    number, _, digest = anchor.partition(":")
    assert number == "7"
    shop.run("history", "verify", "--anchor", anchor)
    forged = f"{number}:{digest[::-1]}"
    said = shop.run("history", "verify", "--anchor", forged, code=3).err
    assert "and another one was noted" in said
    said = shop.run("history", "verify", "--anchor", f"9:{digest}", code=3).err
    assert "Epoch 9: it was noted, and is not in this history." in said
    assert "write EPOCH:DIGEST" in shop.run("history", "verify", "--anchor", "x", code=2).err
    store = tmp_path / "store"
    shutil.copytree(shop.folder / "store", store)
    first = history(shop)[0]["digest"]
    (store / "blobs" / first[:2] / first).unlink()
    said = shop.run("history", "verify", "--store", str(store), code=3).err
    assert "Epoch 2: the epoch before is missing from the store" in said
    # Whoever hides it behind a gc that never was does not get past what was noted.
    (store / "collected").write_text("2")
    shop.run("history", "verify", "--store", str(store))
    said = shop.run("history", "verify", "--store", str(store), "--anchor", f"1:{first}", code=3)
    assert "Epoch 1: it was noted, and is not in this history." in said.err


def test_after_a_collection_the_records_still_answer(shop: Workplace, tmp_path: Path) -> None:
    """Contents of old epochs go; who, when, why and with which key stays, and stays verified."""
    before = history(shop)
    for path in (shop.folder / "store/blobs").rglob("*"):
        if path.is_file():
            age = path.stat().st_mtime - YEARS
            os.utime(path, (age, age))
    shop.run("gc", "--keep", "2")
    after = history(shop)
    assert [{**each, "difference": None} for each in after] == [
        {**each, "difference": None} for each in before
    ]
    assert [each["difference"] is None for each in after] == [True] * 6 + [False]
    told = shop.run("history", "show", "2").out
    assert "by ben at" in told
    assert "what it published was collected" in told
    trusted = ("--trusted", str(shop.folder / "all.pub"))
    told = shop.run("history", "verify", *trusted).out
    assert "7 epochs checked, of 5 the record alone, all sound" in told
    assert "was collected" in shop.run("history", "diff", "2", "7", code=3).err
