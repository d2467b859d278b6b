"""Several packages at once: all looked at before anything is sent, none lost when it ends early."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.packaging.upload import Uploaded, upload_all
from compiler.packaging.upload_fault import UploadError, UploadRefusedError
from compiler.storage.store import Store, open_store
from processes import ROOT, wait_until
from test_upload import APP, blob, miniapp

OTHER = "2021000000000002"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Open an empty store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Make an empty plan's folder."""
    (tmp_path / "plan").mkdir()
    return tmp_path / "plan"


def send(packages: list[Path], plan: Path, store: Store, app: str | None = None) -> list[Uploaded]:
    """Upload MiniApps, which name their versions."""
    return upload_all(packages, app=app, version=None, plan=plan, store=store)


def test_many_packages_keep_their_order(tmp_path: Path, plan: Path, store: Store) -> None:
    """MiniApps name their apps and versions; what is said comes in the order of the files."""
    packages = [
        miniapp(tmp_path, f"1.0.{n}", app, text="tide " * (1 + n * 90))
        for n in range(9)
        for app in (APP, OTHER)
    ]
    done = send(packages, plan, store)
    assert [(each.app, each.version) for each in done] == [
        (app, f"1.0.{n}") for n in range(9) for app in (APP, OTHER)
    ]
    assert all(each.stored and each.recorded for each in done)
    assert len(done[0].forms) < 4 > len(done[-1].forms) == 3
    assert {form.path for each in done for form in each.forms} == set(store.list_named("files"))
    assert not any(each.stored or each.recorded for each in send(packages, plan, store))
    with pytest.raises(UploadError, match=f"is a package of '{OTHER}', not of {APP}"):
        send(packages, plan, store, app=APP)


def test_one_wrong_file_stops_all_before_anything_is_sent(
    tmp_path: Path, plan: Path, store: Store
) -> None:
    """Whatever can be known beforehand is: nothing was sent, nothing recorded."""
    good = miniapp(tmp_path)
    for wrong, message in (
        (blob(tmp_path), "names no app"),
        (tmp_path / "none.zip", "No such file"),
        (miniapp(tmp_path, "1.0.0.02", text="b"), "are both version"),
        (miniapp(tmp_path, "1.0.0.2+b", text="b"), "are both version"),
    ):
        with pytest.raises(UploadError, match=message):
            send([good, wrong], plan, store)
    assert store.list_named() == []
    assert list(plan.iterdir()) == []
    send([good], plan, store)
    fresh = miniapp(tmp_path, "1.0.0.3")
    with pytest.raises(UploadRefusedError, match="other bytes"):
        send([fresh, miniapp(tmp_path, text="b")], plan, store)
    assert not (plan / "packages" / APP / "1.0.0.3.json").exists()


def test_an_older_record_gets_its_forms(tmp_path: Path, plan: Path, store: Store) -> None:
    """A record from before there were forms gets them; signatures and path stay."""
    package = miniapp(tmp_path, text="tide " * 200)
    (done,) = send([package], plan, store)
    whole = json.loads(done.record.read_bytes())
    done.record.write_text(json.dumps(whole | {"forms": whole["forms"][:1]}))
    (again,) = send([package], plan, store)
    assert (again.recorded, again.stored) == (True, False)
    assert json.loads(done.record.read_bytes()) == whole


def test_a_lost_form_is_sent_again(tmp_path: Path, plan: Path, store: Store) -> None:
    """A form that the record names and the store lacks, or has damaged, is made and sent."""
    package = miniapp(tmp_path, text="tide " * 200)
    (done,) = send([package], plan, store)
    for form in done.forms:
        before = store.get_named(form.path)
        store.delete_named(form.path)
        assert send([package], plan, store)[0].stored
        assert store.get_named(form.path) == before


def test_a_form_that_cannot_be_made_again_is_said(
    tmp_path: Path, plan: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another zlib makes other bytes: the record stays, and the sentence says what to do."""
    package = miniapp(tmp_path, text="tide " * 200)
    (done,) = send([package], plan, store)
    store.delete_named(done.forms[2].path)
    before = done.record.read_bytes()
    monkeypatch.setattr("compiler.packaging.forms._LEVEL", 1)
    with pytest.raises(UploadRefusedError, match="zstd gives other bytes on this machine"):
        send([package], plan, store)
    assert done.record.read_bytes() == before


def test_progress_counts_every_byte(tmp_path: Path, plan: Path, store: Store) -> None:
    """Bytes to compress and to send end where they were said to end; those there count too."""
    packages = [miniapp(tmp_path, f"1.0.{n}", text="tide " * 200) for n in range(5)]
    seen: dict[str, tuple[int, int]] = {}

    def show(what: str, done: int, total: int) -> None:
        assert 0 < done <= total
        seen[what] = done, total

    for _ in range(2):
        seen.clear()
        made = upload_all(packages, app=None, version=None, plan=plan, store=store, progress=show)
        size = sum(form.size for each in made for form in each.forms)
        assert seen["uploading"] == (size, size)
    assert "compressing" not in seen


def tidegate(*arguments: str) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "compiler.cli", *arguments],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_loses_nothing(tmp_path: Path, plan: Path, store: Store) -> None:
    """Interrupted, it ends soon, leaves no file behind, and the next upload works as ever."""
    (plan / "workspace.yaml").write_text("workspace: demo\n")
    small = miniapp(tmp_path)
    words = random.Random(3).choices([b"tide ", b"gate ", b"phone "], k=1_000_000)
    large = blob(tmp_path, "large.js", b"".join(words) * 20)  # takes a minute to compress
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    where = ("--store", store.name, "--plan", str(plan))
    command = ("upload", str(large), *where, "--app", "large", "--version", "1")
    os.environ["TMPDIR"] = str(scratch)
    try:
        with tidegate(*command) as running:
            wait_until(lambda: list(scratch.rglob("*.zst")), "it compresses", 90)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=120)
    finally:
        del os.environ["TMPDIR"]
    assert (running.returncode, out) == (130, "")
    assert all(line.startswith("compressing: ") for line in err.splitlines())
    assert list(scratch.iterdir()) == []
    assert not list(plan.rglob("*.json"))
    with tidegate("upload", str(small), *where) as again:
        out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "is uploaded; commit" in out


def test_a_version_is_for_one_file(tmp_path: Path, plan: Path, store: Store) -> None:
    """One --version for several files is a mistake, and said to be."""
    (plan / "workspace.yaml").write_text("workspace: demo\n")
    files = [str(miniapp(tmp_path, f"1.0.{n}")) for n in range(2)]
    where = ("--store", store.name, "--plan", str(plan), "--version", "1.0.0")
    with tidegate("upload", *files, *where) as done:
        _, err = done.communicate(timeout=120)
    assert done.returncode == 2
    assert "--version is for one file" in err
