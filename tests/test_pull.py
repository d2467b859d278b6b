"""Pulling an epoch back into a plan's folder."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from compiler.compilation import compile_folder
from compiler.image import Image
from compiler.publication.epoch import Publication
from compiler.publication.pull import pull
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from gateway import layout
from gateway.errors import FormatError
from publishing import COFFEE, image_of, plan_files

IDS = ["u2", "ü1", "u3,quoted", '"q"']


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give an empty store."""
    return open_store(str(tmp_path / "store"))


def stored(store: Store, image: Image) -> Publication:
    """Store an image as the contents of epoch 1."""
    store.put_blobs(image.blobs.items())
    epoch: layout.Epoch = {
        "format": layout.FORMAT,
        "workspace": "demo",
        "number": 1,
        "previous": b"",
        "contents": image.root,
        "author": "ann",
        "time": 0,
        "note": "",
        "commit": "",
    }
    return Publication(b"e" * 32, epoch, image.contents, image.tree)


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("lists/staff.csv", "employee_id"),
        ("lists/staff.csv", None),
        ("lists/staff.txt", None),
        ("lists/staff.parquet", "employee_id"),
    ],
)
def test_what_was_pulled_compiles_to_the_same(
    store: Store, tmp_path: Path, file: str, column: str | None
) -> None:
    """Pull and compile: the same contents, byte for byte, whatever the list's format."""
    files = plan_files(["1", "2"], staff=True, list_file=file, column=column)
    image = image_of(files, {"staff": IDS})
    folder = tmp_path / "plan"
    found = pull(stored(store, image), store, folder)
    assert set(found.written) == {*files, file}
    again, _ = compile_folder(folder, store, 0)
    assert again.root == image.root
    assert {path: (folder / path).read_text() for path in files} == files
    second = pull(stored(store, image), store, folder)
    assert (second.written, set(second.same)) == ((), set(found.written))


def test_a_csv_has_its_header_and_parquet_its_column(store: Store, tmp_path: Path) -> None:
    """The column is named as in the plan."""
    for file in ("a.csv", "a.parquet"):
        files = plan_files(["1"], staff=True, list_file=file)
        pull(stored(store, image_of(files, {"staff": IDS})), store, tmp_path / file / "plan")
    text = (tmp_path / "a.csv" / "plan" / "a.csv").read_text()
    assert text.splitlines()[0] == "employee_id"
    assert pq.read_schema(tmp_path / "a.parquet" / "plan" / "a.parquet").names == ["employee_id"]


def test_two_lists_of_one_file_share_it(store: Store, tmp_path: Path) -> None:
    """Two columns of one CSV come back as two columns, of different lengths."""
    for file in ("both.csv", "both.parquet"):
        files = plan_files(["1"])
        files["lists.yaml"] = (
            f"lists:\n  - {{list: a, of: user, file: {file}, column: one}}\n"
            f"  - {{list: b, of: device, file: {file}, column: two}}\n"
        )
        image = image_of(files, {"a": ["1", "2", "3"], "b": ["d"]})
        pull(stored(store, image), store, tmp_path / file)
        again, _ = compile_folder(tmp_path / file, store, 0)
        assert again.root == image.root


def test_files_that_differ_are_not_overwritten(store: Store, tmp_path: Path) -> None:
    """Nothing at all is written when one file differs, unless that is forced."""
    files = plan_files(["1"])
    publication = stored(store, image_of(files))
    (tmp_path / "plan").mkdir()
    mine = tmp_path / "plan" / "workspace.yaml"
    mine.write_text("workspace: mine\n")
    with pytest.raises(Refused, match=r"differ from the epoch's: workspace\.yaml.*--force"):
        pull(publication, store, tmp_path / "plan")
    assert [path.name for path in (tmp_path / "plan").iterdir()] == ["workspace.yaml"]
    pull(publication, store, tmp_path / "plan", force=True)
    assert mine.read_text() == files["workspace.yaml"]


def test_a_list_with_the_same_ids_keeps_its_other_columns(store: Store, tmp_path: Path) -> None:
    """A list's file that holds just these ids, in another order, is left alone."""
    files = plan_files(["1"], staff=True, list_file="staff.csv")
    publication = stored(store, image_of(files, {"staff": ["a", "b"]}))
    (tmp_path / "plan").mkdir()
    mine = tmp_path / "plan" / "staff.csv"
    mine.write_text("name,employee_id\nBea,b\nAl,a\n")
    assert "staff.csv" in pull(publication, store, tmp_path / "plan").same
    assert mine.read_text() == "name,employee_id\nBea,b\nAl,a\n"
    mine.write_text("name,employee_id\nBea,b\n")
    with pytest.raises(Refused, match=r"staff\.csv"):
        pull(publication, store, tmp_path / "plan")


def test_files_left_over_are_named(store: Store, tmp_path: Path) -> None:
    """A plan file that the epoch does not have would be pushed: it is named."""
    (tmp_path / "plan" / "apps").mkdir(parents=True)
    (tmp_path / "plan" / "apps" / "old.yaml").write_text("app: old\n")
    found = pull(stored(store, image_of(plan_files(["1"]))), store, tmp_path / "plan")
    assert found.extra == ("apps/old.yaml",)


@pytest.mark.parametrize("path", ["../out.yaml", "/etc/out", "apps/../../out", "a\\b", "", "c:x"])
def test_no_path_leads_outside(store: Store, tmp_path: Path, path: str) -> None:
    """An epoch that names a file outside the folder is refused before anything is written."""
    image = image_of(plan_files(["1"]))
    digest = store.put_blob(b"x")
    tree: layout.Tree = {**image.tree, "files": {path: digest}, "lists": {}}
    publication = stored(store, Image(image.root, image.contents, tree, image.blobs))
    with pytest.raises(FormatError, match="does not lie in a plan's folder"):
        pull(publication, store, tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_no_link_leads_outside(store: Store, tmp_path: Path) -> None:
    """A folder in the plan that is a link to elsewhere is not written through."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "plan" / "apps").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="by a link"):
        pull(stored(store, image_of(plan_files(["1"]))), store, tmp_path / "plan", force=True)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_cannot_be_written_is_a_sentence(store: Store, tmp_path: Path) -> None:
    """A file where the folder should be is named."""
    (tmp_path / "plan").write_text("I am a file")
    with pytest.raises(Refused, match="cannot be written"):
        pull(stored(store, image_of(plan_files(["1"]))), store, tmp_path / "plan")


def test_records_are_pulled_too(store: Store, tmp_path: Path) -> None:
    """Package records belong to the plan."""
    pull(stored(store, image_of(plan_files(["1"]))), store, tmp_path / "plan")
    assert (tmp_path / "plan" / "packages" / COFFEE / "1.json").is_file()
