"""version.code rises with the version: `upload` refuses what does not, `validate` reports it."""

import json
from pathlib import Path

import pytest

from compiler.language.package_record import written_record
from compiler.language.reading import read_files
from compiler.packaging.upload import upload_all
from compiler.packaging.upload_fault import UploadRefusedError
from compiler.storage.store import Store, open_store
from test_reading import NOW, PATH, SHA
from test_upload import APP, blob, miniapp, send


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Open an empty store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Make an empty plan's folder."""
    (tmp_path / "plan").mkdir()
    return tmp_path / "plan"


@pytest.mark.parametrize(
    ("version", "code", "side"),
    [("1.1", 20, "over"), ("1.1", 19, "over"), ("0.9", 20, "under"), ("0.9", 21, "under")],
)
def test_a_code_that_does_not_rise_is_refused(
    tmp_path: Path, plan: Path, store: Store, version: str, code: int, side: str
) -> None:
    """The sentence names both versions, both codes, and the code to write; nothing is sent."""
    send(miniapp(tmp_path, "1.0", code=20), plan, store)
    sent = set(store.list_named("files"))
    with pytest.raises(
        UploadRefusedError, match=f"Write one {side} 20 in manifest.json"
    ) as refused:
        send(miniapp(tmp_path, version, code=code), plan, store)
    assert f"version.code of {version} is {code}, and 1.0 has 20" in str(refused.value)
    assert set(store.list_named("files")) == sent
    assert [path.stem for path in (plan / "packages" / APP).iterdir()] == ["1.0"]


def test_codes_that_rise_are_recorded(tmp_path: Path, plan: Path, store: Store) -> None:
    """Versions may come in any order; the same package again, and a bundle, have no say."""
    for version, code in (("1.0", 20), ("1.10", 22), ("1.2", 21), ("0.1", 0), ("1.0", 20)):
        send(miniapp(tmp_path, version, code=code), plan, store)
    send(blob(tmp_path), plan, store, version="1.5")
    records = plan / "packages" / APP
    codes = {path.stem: json.loads(path.read_text()).get("code") for path in records.glob("*.json")}
    assert codes == {"0.1": 0, "1.0": 20, "1.10": 22, "1.2": 21, "1.5": None}


def test_two_in_one_upload_are_held_to_it(tmp_path: Path, plan: Path, store: Store) -> None:
    """Of two packages in one command the second is refused, and the first stays recorded."""
    files = [miniapp(tmp_path, "1.0", code=5), miniapp(tmp_path, "1.1", code=5)]
    with pytest.raises(UploadRefusedError, match=r"version\.code of 1\.1 is 5"):
        upload_all(files, app=None, version=None, plan=plan, store=store)
    assert [path.stem for path in (plan / "packages" / APP).iterdir()] == ["1.0"]


def record(code: object) -> str:
    """Write a record as `upload` does, with this version.code."""
    form = {"compression": "identity", "path": PATH, "sha256": SHA, "size": 9}
    value = {"format": 1, "size": 9, "sha256": SHA, "signatures": [], "forms": [form]}
    return json.dumps(value | {"code": code}, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize(("code", "fault"), [(1, True), (2, True), (3, False)])
def test_validate_reports_codes_that_do_not_rise(code: int, fault: bool) -> None:
    """Two uploads on two branches, each good alone, are found out where they meet."""
    texts = {
        "workspace.yaml": "workspace: w",
        "apps/a.yaml": "app: a\npackages: [{version: 1.10}, {version: 1.9}]\n",
        "packages/a/1.9.json": record(2),
        "packages/a/1.10.json": record(code),
        "packages/b/1.0.json": record(9),
    }
    found = [each for each in read_files(texts, now=NOW).diagnostics if "code" in each.message]
    assert bool(found) == fault
    if fault:
        assert found[0].file == "packages/a/1.10.json"
        assert f"version.code of 1.10 is {code}, and the version below, 1.9, has 2" in str(found[0])


@pytest.mark.parametrize("code", [-1, True, 1.5, "x", 2**53 + 1, None, [1]])
def test_a_broken_code_is_refused_both_ways(code: object) -> None:
    """A record whose code is none is not read quickly, and the tree says where it stands."""
    assert written_record(record(code)) is None
    texts = {
        "workspace.yaml": "workspace: w",
        "apps/a.yaml": "app: a\npackages: [{version: 1.9}]\n",
        "packages/a/1.9.json": record(code),
    }
    read = read_files(texts, now=NOW)
    assert any(each.file == "packages/a/1.9.json" for each in read.diagnostics)
    assert written_record(record(7)).code == 7
