"""Allowlist files: what is an id, what is dropped and counted, and every fault with its line."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.diagnostic import Severity, has_errors, render
from compiler.lists import allowlist, gathering
from compiler.lists.allowlist import ListIds, ids_from_text, read_ids
from compiler.lists.shrinking import check_shrink
from compiler.plan import ListSource, Span, Workspace

PLACE = Span("lists.yaml", 2, 5)
PLACEHOLDERS = Workspace("demo").placeholders


def read(folder: Path, name: str, content: bytes, column: str | None = None) -> ListIds:
    """Write a list file and read it."""
    (folder / name).write_bytes(content)
    source = ListSource("staff", "user", file=name, column=column, span=PLACE)
    return read_ids(source, folder, PLACEHOLDERS)


def shown(ids: ListIds) -> str:
    """Render the diagnostics as an operator sees them."""
    return render(ids.diagnostics, {})


def parquet(**columns: pa.Array) -> bytes:
    """Write columns as a Parquet file."""
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def test_text_is_cleaned_and_counted(tmp_path: Path) -> None:
    """BOM, blanks, empty lines and duplicates are dropped; the last two are counted."""
    ids = read(tmp_path, "a.txt", b"\xef\xbb\xbfu-2\r\n\r\n  u-1\t\nu-2\n\xe3\x80\x80U-1\nu-3\n\n")
    assert (ids.text, ids.count) == (b"U-1\nu-1\nu-2\nu-3\n", 4)
    assert (ids.duplicates, ids.blanks, ids.diagnostics) == (1, 2, ())
    assert list(ids_from_text(ids.text)) == ["U-1", "u-1", "u-2", "u-3"]
    assert (ids.name, ids.of) == ("staff", "user")


FAULTS = {
    "a decimal": (b"8841.0", 'a.txt:3:1: error: "8841.0" is what a spreadsheet makes of an id'),
    "two zeros": (b"-8841.00", '"-8841.00" is what a spreadsheet makes'),
    "an exponent": (b"8.841E+03", '"8.841E+03" is what a spreadsheet makes'),
    "a short exponent": (b"1E+16", '"1E+16" is what a spreadsheet makes'),
    "pandas' exponent": (b"1e+16", '"1e+16" is what a spreadsheet makes'),
    "an apostrophe": (b"'123", '"\'123" is what a spreadsheet makes'),
    "a formula": (b'="0012"', '"="0012"" is what a spreadsheet makes'),
    "thousands": (b"1,234,567", '"1,234,567" is what a spreadsheet makes'),
    "a narrow column": (b"####", '"####" is what a spreadsheet makes'),
    "an error cell": (b"#N/A", '"#N/A" is what a spreadsheet makes'),
    "a NUL": (b"u\0x", "holds the unseen character U+0000. Remove it."),
    "a tab inside": (b"u\tx", "holds the unseen character U+0009"),
    "a lone CR": (b"u\rx", "holds the unseen character U+000D"),
    "an escape": (b"\x1bu", "holds the unseen character U+001B"),
    "DEL": (b"u\x7f", "holds the unseen character U+007F"),
    "a form feed at the edge": (b"u\x0c", "holds the unseen character U+000C"),
    "a zero-width space": ("u\u200bx".encode(), "holds the unseen character U+200B"),
    "a second BOM": (b"\xef\xbb\xbfu", "holds the unseen character U+FEFF"),
    "Latin-1": (b"M\xfcller", "byte 0xfc is not UTF-8. Save the file as UTF-8."),
    "129 bytes": (b"x" * 129, "this id has 129 bytes in UTF-8, and the most is 128."),
    "129 bytes of 65 characters": (
        "ü".encode() * 64 + b"x",
        "this id has 129 bytes in UTF-8, and the most is 128.",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_line_is_an_error_with_its_number(tmp_path: Path, case: str) -> None:
    """Each fault names file, line and mend, once, and spares the lines around it."""
    line, wanted = FAULTS[case]
    ids = read(tmp_path, "a.txt", b"u-1\nu-2\n" + line + b"\nu-3\n")
    assert wanted in shown(ids)
    assert [(found.line, found.severity) for found in ids.diagnostics] == [(3, Severity.ERROR)]
    assert ids.text == b"u-1\nu-2\nu-3\n"


def test_odd_ids_are_ids(tmp_path: Path) -> None:
    """What may be meant is taken as it stands: hexadecimal, addresses, dots, quotes, 128 bytes."""
    odd = ["12e5", "5E10", "10.0.0.1", "1.5", "0012", "a'b", "a b", "#7", "x=1", "ü" * 64, "1,2"]
    ids = read(tmp_path, "a.txt", "\n".join([*odd, "y" * 128]).encode())
    assert ids.diagnostics == ()
    assert set(ids_from_text(ids.text)) == {*odd, "y" * 128}


FILES = {
    "empty": (b"", "lists.yaml:2:5: error: {} holds no id."),
    "only blanks": (b"\n \r\n\t\n", "{} holds no id."),
    "UTF-16": ("u-1\n".encode("utf-16"), "{}:1:1: error: this file is UTF-16. Save it as UTF-8."),
    "UTF-16 big-endian": (b"\xfe\xff\0u", "this file is UTF-16. Save it as UTF-8."),
    "no line breaks": (b"u" * 3_500_000, "{}:1:1: error: this line is longer than 1 MiB."),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_a_file_without_ids_is_an_error(tmp_path: Path, case: str, name: str) -> None:
    """A file that holds nothing, or nothing readable, is never an empty list."""
    content, wanted = FILES[case]
    header = b"id\n" if name == "a.csv" and case in ("empty", "only blanks") else b""
    ids = read(tmp_path, name, header + content)
    assert wanted.format(name) in shown(ids)
    assert has_errors(ids.diagnostics)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    """A missing file, a folder, a spreadsheet and a column of a text are errors that name it."""
    (tmp_path / "folder.csv").mkdir()
    missing = ListSource("staff", "user", file="none.csv", span=PLACE)
    folder = ListSource("staff", "user", file="folder.csv", span=PLACE)
    for source, wrong in (
        (missing, "there is no file none.csv."),
        (folder, "folder.csv is a folder."),
    ):
        found = shown(read_ids(source, tmp_path, ()))
        assert f"lists.yaml:2:5: error: {wrong}" in found
    imported = ListSource("staff", "user", file="none.csv")
    assert shown(read_ids(imported, tmp_path, ())).startswith("none.csv: error: there is no file")
    assert "Save it as CSV in UTF-8." in shown(read(tmp_path, "a.xlsx", b"PK\3\4"))
    assert "a.txt is read as text, which has no columns" in shown(
        read(tmp_path, "a.txt", b"u-1\n", column="id")
    )
    assert "a.parquet cannot be read: " in shown(read(tmp_path, "a.parquet", b"PAR1 not"))


def test_faults_are_shown_up_to_a_limit(tmp_path: Path) -> None:
    """Twenty faults are shown, the others counted, in the order of the lines."""
    ids = read(tmp_path, "a.txt", b"u-1\n" + b"1.0\n" * 25)
    assert len(ids.diagnostics) == 21
    assert shown(ids).splitlines()[-1].startswith("a.txt:22:1: error: and 5 more such faults.")
    exactly = read(tmp_path, "a.txt", b"1.0\n" * 20)
    assert len(exactly.diagnostics) == 20
    assert "more such faults" not in shown(exactly)


def test_placeholders_are_dropped_with_a_warning(tmp_path: Path) -> None:
    """Placeholders in any case are no ids: one warning names the first and counts them all."""
    ids = read(tmp_path, "a.txt", b"u-1\nNULL\nUnknown\n0\nun\xe2\x84\xaanown\n00\n")
    assert ids.text == b"00\nu-1\n"
    assert 'a.txt:2:1: warning: "NULL" is a placeholder and no id: 4 such dropped.' in shown(ids)
    assert not has_errors(ids.diagnostics)


def test_csv_takes_one_column_by_name(tmp_path: Path) -> None:
    """The header is no id, quoting is RFC 4180's, other columns may hold anything."""
    rows = b'\xef\xbb\xbf"name", id \r\n"a ""b"", c",u-1\r\n\r\n"two\nlines"," u-2 "\r\nx,"u,3"\r\n'
    ids = read(tmp_path, "a.csv", rows, column="id")
    assert (ids.text, ids.diagnostics, ids.blanks) == (b"u,3\nu-1\nu-2\n", (), 1)
    assert read(tmp_path, "b.csv", b"id\nu-1\n").text == b"u-1\n"


def test_a_csv_without_a_header_is_doubted(tmp_path: Path) -> None:
    """A header that looks like an id is warned of, unless the column was named."""
    ids = read(tmp_path, "a.csv", b"u-1001\nu-1002\n")
    assert 'a.csv:1:1: warning: "u-1001" is taken for the header.' in shown(ids)
    assert not has_errors(ids.diagnostics)
    assert read(tmp_path, "a.csv", b"user_id_2\nu-1\n").diagnostics == ()
    assert read(tmp_path, "a.csv", b"2026\nu-1\n", column="2026").diagnostics == ()


CSV_FAULTS = {
    "which column": (b"id,name\nu,x\n", None, 'has the columns "id", "name". Write which holds'),
    "no such column": (b"id,name\nu,x\n", "ID", 'no column "ID". Write one of its columns: "id"'),
    "twice": (b"id,id\nu,x\n", "id", 'two columns "id"'),
    "semicolons": (b"id;name\nu;x\n", "id", "a.csv:1:1: error: the header is"),
    "ragged": (b"id,name\nu,x\nv\n", "id", "a.csv:3:1: error: this row has 1 fields"),
    "quotes": (b'id\nu\n"v"w\n', None, "a.csv:3:1: error: this is not CSV"),
    "open quote": (b'id\nu\n"v\n', None, "this is not CSV: unexpected end of data"),
    "line break": (b'id\nu\n"v\nw"\n', None, "a.csv:4:1: error: this id holds a line break."),
    "Latin-1": (b"id,n\nu,x\nv,M\xfcller\n", "id", "a.csv:3:1: error: byte 0xfc is not UTF-8."),
    "spreadsheet": (b'id,n\nu,"\n"\n8841.0,y\n', "id", 'a.csv:4:1: error: "8841.0" is what'),
}


@pytest.mark.parametrize("case", CSV_FAULTS)
def test_a_faulty_csv_is_an_error_with_its_line(tmp_path: Path, case: str) -> None:
    """Each fault of a CSV is one error that says where and how to mend it."""
    content, column, wanted = CSV_FAULTS[case]
    ids = read(tmp_path, "a.csv", content, column=column)
    assert wanted in shown(ids)
    assert len(ids.diagnostics) == 1
    assert has_errors(ids.diagnostics)


def test_parquet_takes_texts_and_integers(tmp_path: Path) -> None:
    """Strings, dictionaries of strings and integers are ids; nulls are blanks."""
    content = parquet(
        id=pa.array(["u-2", None, "u-1", " u-2"]),
        number=pa.array([8841, 12, 12, None], pa.int64()),
        coded=pa.array(["x", "y", "x", None]).dictionary_encode(),
        score=pa.array([8841.0, 1.5, None, None]),
    )
    assert read(tmp_path, "a.parquet", content, column="id").text == b"u-1\nu-2\n"
    number = read(tmp_path, "a.parquet", content, column="number")
    assert (number.text, number.blanks, number.duplicates) == (b"12\n8841\n", 1, 1)
    assert read(tmp_path, "a.parquet", content, column="coded").text == b"x\ny\n"
    score = read(tmp_path, "a.parquet", content, column="score")
    assert 'column "score" of a.parquet holds double, and ids are text.' in shown(score)
    assert 'no column "ids"' in shown(read(tmp_path, "a.parquet", content, column="ids"))
    odd = read(tmp_path, "b.parquet", parquet(id=pa.array(["a", "1.0", "b\nc"])))
    assert "b.parquet: error: row 2: " in shown(odd)
    assert "b.parquet: error: row 3: this id holds a line break." in shown(odd)


ODD_LINES = st.lists(
    st.one_of(
        st.text("ab01.eE+-'#,\t \u3000ü\u200b\0\r", max_size=6),
        st.sampled_from(["null", "UNKNOWN", "x" * 128, "x" * 129, "1.0", "'12", ""]),
    ),
    max_size=12,
)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(lines=ODD_LINES)
def test_the_quick_look_agrees_with_the_slow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """A block taken as plain gives just what looking at each of its lines gives."""
    content = "\n".join(["u-1", *lines]).encode()
    quick = read(tmp_path, "a.txt", content)
    with monkeypatch.context() as patch:
        patch.setattr(gathering.Gathering, "_is_plain", lambda self, block: False)
        assert read(tmp_path, "a.txt", content) == quick


IDS = st.lists(st.text("ab~\u00fc\u6f22\U0001f600", min_size=1, max_size=6))


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(ids=IDS)
def test_runs_are_merged_as_a_set_is_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[str]
) -> None:
    """Blocks of a few bytes merge to the set of the ids, sorted by their UTF-8 bytes."""
    monkeypatch.setattr(allowlist, "_BLOCK_BYTES", 16)
    found = read(tmp_path, "a.txt", "\n".join(["u", *ids]).encode())
    assert found.text.splitlines() == sorted({text.encode() for text in ["u", *ids]})
    assert (found.count, found.duplicates) == (len({*ids}) + 1, len(ids) - len({*ids}))


def test_the_format_changes_nothing(tmp_path: Path) -> None:
    """Text, CSV and Parquet of the same ids in any order give the same bytes, over many blocks."""
    ids = [f"u-{number * 7919 % 300_007}" for number in range(300_007)]
    text = read(tmp_path, "a.txt", "\n".join(ids).encode())
    rows = "".join(f"{number},{text}\r\n" for number, text in enumerate(reversed(ids)))
    table = read(tmp_path, "a.csv", f"row,id\r\n{rows}".encode(), column="id")
    arrow = read(tmp_path, "a.parquet", parquet(id=pa.array(sorted(ids))))
    assert text.text == "".join(f"{text}\n" for text in sorted(ids)).encode()
    assert text.text == table.text == arrow.text
    assert text.count == table.count == arrow.count == 300_007


def test_lines_are_counted_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault far down names its own line, whatever blocks came before it."""
    rows = [f"u-{number}" for number in range(1000)]
    rows[700] = "1.0"
    monkeypatch.setattr(allowlist, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(allowlist, "_BLOCK_ROWS", 7)
    assert shown(read(tmp_path, "a.txt", "\r\n".join(rows).encode())).startswith("a.txt:701:1:")
    table = "\n".join(["id", *rows]).encode()
    assert shown(read(tmp_path, "a.csv", table)).startswith("a.csv:702:1:")
    latin = table.replace(b"u-900", b"\xfc-900")
    assert "a.csv:902:1: error: byte 0xfc" in shown(read(tmp_path, "a.csv", latin))
    arrow = read(tmp_path, "a.parquet", parquet(id=pa.array(rows)))
    assert "row 701: " in shown(arrow)


def test_progress_counts_the_bytes(tmp_path: Path) -> None:
    """Progress tells the bytes read so far, upwards, and ends at all of them."""
    (tmp_path / "a.txt").write_bytes(b"".join(b"user-%d\n" % number for number in range(400_000)))
    seen: list[int] = []
    read_ids(ListSource("staff", "user", file="a.txt"), tmp_path, (), seen.append)
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (tmp_path / "a.txt").stat().st_size


def test_a_list_that_shrinks_by_half_needs_a_word() -> None:
    """Half or less of the ids is an error, more than half is not, nor is a new list."""
    assert check_shrink("staff", 100, 51) is None
    assert check_shrink("staff", 0, 0) is None
    found = check_shrink("staff", 2000, 1000)
    assert found is not None
    assert found.severity is Severity.ERROR
    assert 'list "staff" would shrink from 2,000 to 1,000 ids.' in found.message
    assert "--allow-shrink" in found.message
