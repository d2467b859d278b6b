"""The spool keeps blobs as a dictionary would, whatever their size, and fails with a sentence."""

import gc
import hashlib
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.storage import spool
from compiler.storage.spool import Spool
from gateway.errors import StoreError


def digest_of(blob: bytes) -> bytes:
    return hashlib.sha256(blob).digest()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 40))
def test_a_spool_is_a_dictionary(blobs: list[bytes], held: int) -> None:
    """Blobs in memory and in the file come back as they went in, in any order, until deleted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_HELD_BYTES", held)
        found, wanted = Spool(), {}
        for blob in blobs:
            found[digest_of(blob)] = wanted[digest_of(blob)] = blob
            assert all(found[digest] == kept for digest, kept in wanted.items())
        for digest in list(wanted)[::2]:
            assert found.pop(digest) == wanted.pop(digest)
        assert dict(found) == wanted
        assert found.keys() == wanted.keys()
        assert bytes(32) not in found


def test_a_spool_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file has no name even while it is used, and it is closed without being told."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Spool()
    found[digest_of(b"x" * 10_000)] = b"x" * 10_000
    assert list(tmp_path.iterdir()) == []
    file = found._file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del found
        gc.collect()
    assert file.closed


def test_a_disk_that_fails_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, or a file that cannot be written, is a StoreError that names TMPDIR."""
    found = Spool()
    with Path("/dev/full").open("w+b", buffering=0) as full:
        monkeypatch.setattr(found, "_file", full)
        with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR"):
            found[bytes(32)] = b"x" * 10_000
    assert bytes(32) not in found
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="TMPDIR"):
        Spool()
