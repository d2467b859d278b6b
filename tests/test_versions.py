"""The ledger of versions: canonical names, and bytes that never change."""

from pathlib import Path

import pytest

from compiler.publication.versions import (
    canonical_version,
    check_versions,
    note_versions,
    packages_of,
)
from compiler.refusal import Refused
from compiler.storage.store import open_store
from gateway import layout
from gateway.errors import FormatError
from gateway.version import parse_version
from publishing import COFFEE, record


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("1", "1"),
        ("1.0.0.0", "1"),
        ("01.00", "1"),
        ("0.0", "0"),
        ("1.0.2.0", "1.0.2"),
        ("1.0+b7", "1"),
        ("1.0-rc.01", "1-rc.1"),
        ("1.2-alpha.beta+b", "1.2-alpha.beta"),
        ("1.0.10", "1.0.10"),
    ],
)
def test_equal_versions_share_a_name(version: str, name: str) -> None:
    """The name is canonical, and equal as a version to what it names."""
    assert canonical_version(version) == name
    assert parse_version(name) == parse_version(version)


def test_no_version_has_no_name() -> None:
    """What is no version is refused."""
    with pytest.raises(ValueError, match="no version"):
        canonical_version("../1")


def tree_of(files: dict[str, str]) -> tuple[layout.Tree, dict[bytes, bytes]]:
    """Make a plan tree of texts."""
    blobs = {layout.digest_of(text.encode()): text.encode() for text in files.values()}
    digests = {path: layout.digest_of(text.encode()) for path, text in files.items()}
    return {
        "files": digests,
        "apps": {},
        "switch_apps": [],
        "lists": {},
        "patches": {},
        "overrides": [],
        "windows": {},
    }, blobs


def test_records_are_read_and_known_ones_skipped() -> None:
    """Only records count, and those that the live epoch has too are not read again."""
    tree, blobs = tree_of({**record("1.0"), **record("2.0"), "workspace.yaml": "x"})
    found = packages_of(tree, blobs.__getitem__)
    assert set(found) == {(COFFEE, "1"), (COFFEE, "2")}
    before, _ = tree_of(record("1.0"))
    assert set(packages_of(tree, blobs.__getitem__, before)) == {(COFFEE, "2")}


@pytest.mark.parametrize("text", ["{", "[]", "{}", "1"])
def test_a_broken_record_is_a_sentence(text: str) -> None:
    """A record that cannot be read is named."""
    tree, blobs = tree_of({f"packages/{COFFEE}/1.json": text})
    with pytest.raises(FormatError, match=f"packages/{COFFEE}/1.json"):
        packages_of(tree, blobs.__getitem__)


def test_the_first_bytes_stay(tmp_path: Path) -> None:
    """Other bytes are refused, the same are not, and the ledger keeps what came first."""
    store = open_store(str(tmp_path))
    note_versions(store, {(COFFEE, "1"): "a" * 64})
    check_versions(store, {(COFFEE, "1"): "a" * 64, (COFFEE, "2"): "b" * 64})
    with pytest.raises(Refused, match=f"{COFFEE} 1 .then aaaaaaaaaaaa…, now bbbbbbbbbbbb…"):
        check_versions(store, {(COFFEE, "1"): "b" * 64})
    note_versions(store, {(COFFEE, "1"): "b" * 64})
    assert store.get_named(f"versions/{COFFEE}/1") == b"a" * 64
