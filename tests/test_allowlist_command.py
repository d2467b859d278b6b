"""`tidegate allowlist`: what operators are told, what is written, and two of them at once."""

import gc
import io
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import cli
from compiler.compilation import load
from compiler.language.starting import start_plan
from compiler.lists import amendment
from compiler.lists.allowlist import ListIds
from compiler.lists.amendment import add_ids, remove_ids
from compiler.lists.stored_list import (
    amend_stored_list,
    read_stored_list,
    replaceable_list,
    write_stored_list,
)
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from gateway.errors import StoreError

NOW = 1_800_000_000
DONE, FAULTS, USAGE, REFUSED = 0, 1, 2, 3

Run = Callable[..., tuple[str, str]]


def run_of(ids: set[str]) -> bytes:
    """Write ids as a list's text."""
    return b"".join(sorted(f"{each}\n".encode() for each in ids))


def listed(ids: set[str], name: str = "staff") -> ListIds:
    """Make a list that has been read."""
    return ListIds(name, "user", len(ids), 0, 0, run_of(ids), ())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give an empty store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def run(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run `tidegate allowlist` on the store; hold its exit code to `code`."""
    thresholds = gc.get_threshold()

    def command(*arguments: str, code: int = DONE, stdin: bytes = b"") -> tuple[str, str]:
        monkeypatch.setenv("TIDEGATE_STORE", store.name)
        monkeypatch.setattr("sys.argv", ["tidegate", "allowlist", *arguments])
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == code, said
        return said.out, said.err

    yield command
    gc.set_threshold(*thresholds)


def ids_of(store: Store, name: str = "staff") -> set[str]:
    """Read a stored list's ids, and hold its record to them."""
    found = read_stored_list(store, name)
    assert found is not None
    text = store.get_blob(found.digest)
    ids = set(text.decode().splitlines())
    assert text == run_of(ids)
    assert found.count == len(ids)
    return ids


def test_add_and_remove_say_what_came_of_each_id(run: Run, store: Store, tmp_path: Path) -> None:
    """What was added, there already, removed and not there is counted; the list holds just that."""
    (tmp_path / "ids.txt").write_text("u-1\nu-2\nu-3\n")
    run("import", "staff", str(tmp_path / "ids.txt"), "--of", "user")
    out, _ = run("add", "staff", "u-0", "u-2", "u-9", "u-9")
    assert out == (
        "staff: 2 added, 1 there already. It has 5 user ids. It takes effect with the next push.\n"
    )
    assert ids_of(store) == {"u-0", "u-1", "u-2", "u-3", "u-9"}
    out, _ = run("remove", "staff", "u-0", "u-7", "u-9")
    assert out.startswith("staff: 2 removed, 1 not on it. It has 3 user ids. ")
    assert ids_of(store) == {"u-1", "u-2", "u-3"}
    found = read_stored_list(store, "staff")
    assert run("add", "staff", "u-1")[0].endswith("It has 3 user ids. Nothing has changed.\n")
    assert read_stored_list(store, "staff") == found


def test_ids_come_from_files_and_from_standard_input(
    run: Run, store: Store, tmp_path: Path
) -> None:
    """--from takes what import takes, and - is standard input, for import too."""
    run("import", "staff", "-", "--of", "user", stdin=b"u-1\r\nu-2\n")
    (tmp_path / "more.csv").write_text("name,id\nann,u-3\nbob,u-4\n")
    run("add", "staff", "--from", str(tmp_path / "more.csv"), "--column", "id")
    run("add", "staff", "-", stdin=b"u-5\n\nu-6")
    run("remove", "staff", "--from", "-", stdin=b"u-1\n")
    assert ids_of(store) == {f"u-{number}" for number in range(2, 7)}


FAULTY = {
    "a decimal": ("8841.0", 'ids:2:1: error: "8841.0" is what a spreadsheet makes of an id.'),
    "a control": ("u\x07x", "U+0007. Remove it.\n  2 | u\N{REPLACEMENT CHARACTER}x"),
    "too long": ("x" * 129, f"the most is 128. Shorten it.\n  2 | {'x' * 129}"),
    "a line break": ("u\nv", "this id holds a line break. Remove it.\n  2 | u v"),
    "not UTF-8": ("u\udcff", "byte 0xff is not UTF-8."),
}


@pytest.mark.parametrize("case", FAULTY)
@pytest.mark.parametrize("command", ["add", "remove"])
def test_one_faulty_id_and_nothing_is_written(
    run: Run, store: Store, case: str, command: str
) -> None:
    """The fault names the id, and the good ones beside it change nothing."""
    before = write_stored_list(store, listed({"u-1", "u-2", "u-3"}), NOW)
    faulty, wanted = FAULTY[case]
    _, told = run(command, "staff", "u-1", faulty, "u-new", code=FAULTS)
    assert wanted in told
    assert read_stored_list(store, "staff") == before


def test_a_fault_in_a_file_has_its_line(run: Run, store: Store, tmp_path: Path) -> None:
    """A file's fault is shown with its line and text, and that of standard input with its line."""
    write_stored_list(store, listed({"u-1"}), NOW)
    (tmp_path / "more.txt").write_text("u-2\n8841.0\n")
    _, told = run("add", "staff", "--from", str(tmp_path / "more.txt"), code=FAULTS)
    assert "more.txt:2:1: error" in told
    assert "\n  2 | 8841.0\n" in told
    assert "standard input:1:1: error" in run("add", "staff", "-", code=FAULTS, stdin=b"1.0\n")[1]
    assert ids_of(store) == {"u-1"}


def test_a_list_loses_half_of_its_ids_only_on_purpose(run: Run, store: Store) -> None:
    """Removing half or more is refused without --allow-shrink; less than half is not."""
    write_stored_list(store, listed({f"u-{number}" for number in range(10)}), NOW)
    half = [f"u-{number}" for number in range(5)]
    _, told = run("remove", "staff", *half, code=REFUSED)
    assert "would shrink from 10 to 5 ids" in told
    assert "--allow-shrink" in told
    assert len(ids_of(store)) == 10
    run("remove", "staff", *half[:4])
    run("remove", "staff", "u-4", "u-5", "u-6", "--allow-shrink")
    assert ids_of(store) == {"u-7", "u-8", "u-9"}
    _, told = run("import", "staff", "-", "--of", "user", stdin=b"u-1\n", code=REFUSED)
    assert "would shrink from 3 to 1 ids" in told


def test_what_is_typed_wrongly_is_told(run: Run, store: Store, tmp_path: Path) -> None:
    """No ids, ids twice, no name, no list and no file are sentences; nothing is made."""
    assert "Name the ids" in run("add", "staff", code=USAGE)[1]
    assert "Name the ids" in run("add", "staff", "u-1", "--from", "a.txt", code=USAGE)[1]
    assert "no name of a list" in run("add", "a/b", "u-1", code=USAGE)[1]
    assert "allowlist import staff FILE" in run("add", "staff", "u-1", code=REFUSED)[1]
    nowhere = str(tmp_path / "none.txt")
    assert (
        "there is no file none.txt. Correct its path."
        in (run("remove", "staff", "--from", nowhere, code=FAULTS)[1])
    )
    assert (
        f"{tmp_path.name} is a folder. Name a file."
        in (run("import", "staff", str(tmp_path), "--of", "user", code=FAULTS)[1])
    )
    for ids in (("u-1", "-"), ("-", "-")):
        assert "stands alone" in run("add", "staff", *ids, code=USAGE)[1]
    assert store.list_named() == []


def test_an_import_keeps_the_kind_of_a_list(run: Run, store: Store) -> None:
    """Ids of devices do not take the place of those of users; the list stays."""
    write_stored_list(store, listed({"u-1"}), NOW)
    _, told = run("import", "staff", "-", "--of", "device", stdin=b"d-1\n", code=REFUSED)
    assert "The list staff holds user ids, and --of says device." in told
    assert ids_of(store) == {"u-1"}


def test_a_script_reads_json(run: Run, store: Store) -> None:
    """--json gives the list as it is now, and what came of the ids."""
    out, _ = run("import", "staff", "-", "--of", "user", "--json", stdin=b"u-1\nu-2\nu-2\nu-3\n\n")
    said = json.loads(out)
    assert {name: said[name] for name in ("count", "duplicates", "blanks")} == {
        "count": 3,
        "duplicates": 1,
        "blanks": 1,
    }
    said = json.loads(run("add", "staff", "u-3", "u-4", "--json")[0])
    assert (said["count"], said["added"], said["there_already"]) == (4, 1, 1)
    said = json.loads(run("remove", "staff", "u-3", "x", "--json")[0])
    assert (said["count"], said["removed"], said["not_there"]) == (3, 1, 1)
    shown = json.loads(run("show", "staff", "--json")[0])
    assert shown.items() <= said.items()


def test_the_next_plan_takes_what_was_added(run: Run, store: Store, tmp_path: Path) -> None:
    """A plan that names the list is compiled with its ids of that moment."""
    start_plan(tmp_path / "plan")
    (tmp_path / "plan" / "lists.yaml").write_text(
        "lists: [{list: staff, of: user, stored: true}]\n"
    )
    write_stored_list(store, listed({"u-1"}), NOW)
    run("add", "staff", "u-2")
    (found,) = load(tmp_path / "plan", store, NOW).lists
    assert found.count == 2


def test_a_damaged_record_can_be_imported_over(run: Run, store: Store) -> None:
    """`import` is the mend that a damaged record's message names, and it works."""
    store.put_named("lists/staff.json", b"{")
    assert "import the list again" in run("add", "staff", "u-1", code=4)[1]
    run("import", "staff", "-", "--of", "user", stdin=b"u-1\n")
    assert ids_of(store) == {"u-1"}


def test_of_two_changes_at_once_both_count(store: Store) -> None:
    """Somebody adds between another's reading and writing: both additions are there."""
    write_stored_list(store, listed({"u-1"}), NOW)
    texts = []

    def slowly(text: bytes) -> amendment.Amended:
        if not texts:
            amend_stored_list(store, "staff", partial(add_ids, given=b"u-fast\n"), NOW)
        texts.append(text)
        return add_ids(text, b"u-slow\n")

    written, amended = amend_stored_list(store, "staff", slowly, NOW)
    assert ids_of(store) == {"u-1", "u-fast", "u-slow"}
    assert (written.count, amended.changed, len(texts)) == (3, 1, 2)


def test_an_import_does_not_wipe_out_a_change(store: Store) -> None:
    """A list that was made or changed since the import began is not replaced: it says so."""
    write_stored_list(store, listed({"u-1", "u-2"}), NOW)
    before = replaceable_list(store, "staff")
    amend_stored_list(store, "staff", partial(add_ids, given=b"u-3\n"), NOW)
    for known in (before, None):
        with pytest.raises(Refused, match="Somebody else has changed the list staff"):
            write_stored_list(store, listed({"u-8", "u-9"}), NOW, known)
    assert ids_of(store) == {"u-1", "u-2", "u-3"}


def test_many_operators_at_once_lose_nothing(store: Store) -> None:
    """Whatever a command said it has added is there in the end, and nothing else."""
    write_stored_list(store, listed({"u"}), NOW)
    added: set[str] = set()

    def operator(name: str) -> None:
        for number in range(15):
            given = f"{name}-{number}\n"
            try:
                amend_stored_list(store, "staff", partial(add_ids, given=given.encode()), NOW)
            except Refused:
                continue
            added.add(given.strip())

    threads = [threading.Thread(target=operator, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids_of(store) == added | {"u"}
    assert len(added) >= 15


def test_a_store_that_fails_says_so(run: Run, store: Store) -> None:
    """A list whose ids are gone from the store is a sentence that names the blob."""
    written = write_stored_list(store, listed({"u-1"}), NOW)
    store.delete_blobs([written.digest])
    with pytest.raises(StoreError, match=written.digest.hex()):
        amend_stored_list(store, "staff", partial(add_ids, given=b"u-2\n"), NOW)
    assert "lacks" in run("add", "staff", "u-2", code=4)[1]


IDS = st.sets(st.text("ab~\u00fc\u6f22\U0001f600", min_size=1, max_size=4), max_size=40)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(ids=IDS, others=IDS)
@pytest.mark.parametrize("block", [1, 16, 1 << 14])
def test_amending_is_what_sets_do(
    monkeypatch: pytest.MonkeyPatch, block: int, ids: set[str], others: set[str]
) -> None:
    """Adding is the union and removing the difference, in blocks of any size."""
    monkeypatch.setattr(amendment, "_BLOCK_BYTES", block)
    added = add_ids(run_of(ids), run_of(others))
    assert added.text == run_of(ids | others)
    assert (added.count, added.changed) == (len(ids | others), len(others - ids))
    assert added.unchanged == len(others & ids)
    removed = remove_ids(run_of(ids), run_of(others))
    assert removed.text == run_of(ids - others)
    assert (removed.count, removed.changed) == (len(ids - others), len(others & ids))
    assert removed.unchanged == len(others - ids)
