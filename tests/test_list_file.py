"""A list's file with ids more and ids less: what nobody asked to change stays as it was."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compiler.lists.list_file import Change, with_changes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"b\na\n", b"b\nnew\n"),
        (b"b\n a \nb", b"b\nb\nnew\n"),
        (b"\xef\xbb\xbfb\r\na\r\n", b"\xef\xbb\xbfb\r\nnew\r\n"),
        (b"a\n", b"new\n"),
        (b"a", b"new\n"),
    ],
)
def test_a_line_goes_and_a_line_comes(before: bytes, after: bytes) -> None:
    """Text keeps its order, its line ends and its blanks."""
    assert with_changes("x.txt", before, {None: Change(["new"], ["a"])}) == after


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_keeps_its_other_columns(newline: str, mark: str) -> None:
    """Each row that stays is as it was written: quotes, blanks, line breaks in a cell."""
    before = 'name, id \n"Al ""A"", jr",a\n"two\nlines", b \n\n  x  ,"c"'
    after = 'name, id \n"two\nlines", b \n\n  x  ,"c"\n,"n,ew"\n'
    given, wanted = ((mark + text.replace("\n", newline)).encode() for text in (before, after))
    assert with_changes("x.CSV", given, {"id": Change(["n,ew"], ["a"])}) == wanted


def test_a_csv_of_two_lists_loses_a_cell_and_no_row() -> None:
    """An id that leaves one list leaves the other list's id beside it."""
    changes = {"u": Change(["u3"], ["u1"]), "d": Change()}
    found = with_changes("x.csv", b"u,d,name\nu1,d1,Al\nu2,,Bea\n", changes)
    assert found == b"u,d,name\n,d1,Al\nu2,,Bea\nu3,,\n"


def test_a_csv_without_a_named_column_has_one() -> None:
    """Its header is never an id, even if it looks like the one that goes."""
    assert with_changes("x.csv", b"a\na\nb\n", {None: Change(["c"], ["a"])}) == b"a\nb\nc\n"


def test_parquet_keeps_its_other_columns() -> None:
    """Rows go and come; a column of whole numbers becomes text, as an id need be none."""
    file = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2, None], "n": [1.5, 2.5, 3.5]}), file)
    found = with_changes("x.parquet", file.getvalue(), {"id": Change(["u-9"], ["1"])})
    table = pq.read_table(io.BytesIO(found)).to_pydict()
    assert table == {"id": ["2", None, "u-9"], "n": [2.5, 3.5, None]}
    both = {"id": Change(["u-9"], ["1"]), "n": Change()}
    file = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "n": ["a", "b"]}), file)
    found = with_changes("x.parquet", file.getvalue(), both)
    assert pq.read_table(io.BytesIO(found)).to_pydict() == {
        "id": [None, "2", "u-9"],
        "n": ["a", "b", None],
    }
