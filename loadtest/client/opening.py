"""From downloaded bytes to the package: decrypt, decompress, apply a patch. All of it bounded.

What comes here has the digest that the gateway announced, and is hostile all the same until the
result has the right one: nothing writes or unpacks more than the package's size.
"""

import gzip
import zlib
from pathlib import Path
from typing import Protocol

import pyrage  # type: ignore[import-untyped]
import zstandard

from loadtest.client import patch
from loadtest.client.answer import BSDIFF4, GZIP, IDENTITY, ZSTD, ZSTD_PATCH, Download
from loadtest.client.durable import private
from loadtest.client.fault import UnusableError
from loadtest.client.trust import Trust

FORMS = (GZIP, ZSTD, BSDIFF4, ZSTD_PATCH)
"""What this client opens, as `accept` names it."""

_CHUNK = 1 << 20
_AGE_MAGIC = b"age-encryption.org/"
_MOST_AGE_HEAD = 16_384  # bytes; for eight recipients it has some 1,000
_WINDOW = 1 << 23
"""Bytes of memory that a zstd form may need; Tidegate makes none that needs more."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def make_package(
    download: Download, partial: Path, old: Path | None, size: int, folder: Path, trust: Trust
) -> Path:
    """Make a package of `size` bytes; give its file, in `folder` or `partial` itself.

    `old` is the installed package that a patch is for. The caller compares the result's digest.
    Raises UnusableError, OSError; MemoryError for a patch.
    """
    source = partial
    if download.encrypted:
        source = folder / "decrypted"
        _decrypt(partial, source, trust)
    if download.form == IDENTITY:
        return source
    target = folder / "opened"
    if download.form in (BSDIFF4, ZSTD_PATCH):
        assert old is not None, "the caller takes no patch without its base"
        made = patch.apply(download.form, old.read_bytes(), source.read_bytes(), size)
        with open(target, "wb", opener=private) as file:
            file.write(made)
    else:
        _decompress(download.form, source, target, size)
    return target


def _decrypt(source: Path, target: Path, trust: Trust) -> None:
    """Open an age file with whichever identity fits; plain bytes are fewer than encrypted ones."""
    try:
        with source.open("rb") as reader, open(target, "wb", opener=private) as writer:
            # age's library takes a time that grows by the square of a head's length.
            head = reader.read(_MOST_AGE_HEAD)
            if not head.startswith(_AGE_MAGIC) or b"\n---" not in head:
                raise UnusableError("it cannot be decrypted: it has no head as age files have")
            reader.seek(0)
            pyrage.decrypt_io(reader, writer, trust.opened_identities())
    except pyrage.DecryptError as error:
        raise UnusableError(f"it cannot be decrypted: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk
        raise UnusableError("it cannot be decrypted: its bytes are damaged") from error


def _decompress(form: str, source: Path, target: Path, size: int) -> None:
    with source.open("rb") as file:
        try:
            if form == GZIP:
                with gzip.GzipFile(fileobj=file) as reader:
                    _copy(reader, target, size)
            else:
                opener = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
                with opener.stream_reader(file, closefd=False) as stream:
                    _copy(stream, target, size)
        except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise UnusableError(f"it cannot be decompressed: {error}") from error


def _copy(reader: _Reader, target: Path, size: int) -> None:
    written = 0
    with open(target, "wb", opener=private) as file:
        while chunk := reader.read(_CHUNK):
            written += len(chunk)
            if written > size:
                raise UnusableError("it unpacks to more bytes than the gateway announced")
            file.write(chunk)
