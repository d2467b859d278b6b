"""Image files: all blobs of one publication in one file, whole or not at all.

    0   4  magic "TGF1"
    4  32  digest of the root
    36  …  each blob behind its length in 8 bytes, big-endian

Nothing says where the file ends: a root's blob that is not there tells that it was cut.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from gateway.errors import FormatError
from gateway.layout import DIGEST_BYTES, Blob, digest_of

_FILE_MAGIC = b"TGF1"
_FILE_HEAD = len(_FILE_MAGIC) + DIGEST_BYTES
_LENGTH = struct.Struct(">Q")


def write_file(target: BinaryIO, root: bytes, blobs: Iterable[Blob]) -> None:
    """Write an image file: magic, root digest, then each blob behind its length in 8 bytes."""
    target.write(_FILE_MAGIC + root)
    for blob in blobs:
        target.write(_LENGTH.pack(len(blob)))
        target.write(blob)


def read_file(source: BinaryIO) -> tuple[bytes, Iterator[tuple[bytes, bytes]]]:
    """Read an image file: its root, and (digest, blob) pairs. Raises FormatError if cut or foreign.

    The root's blob may be missing when the file was cut between two blobs: whoever resolves the
    root finds out, because every blob is looked up by its digest.
    """
    return _file_root(source.read(_FILE_HEAD)), _read_blobs(source)


def _read_blobs(source: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while length := source.read(_LENGTH.size):
        if len(length) != _LENGTH.size:
            raise FormatError("an image file is cut short")
        blob = source.read(_LENGTH.unpack(length)[0])
        if len(blob) != _LENGTH.unpack(length)[0]:
            raise FormatError("an image file is cut short")
        yield digest_of(blob), blob


def view_file(data: memoryview) -> tuple[bytes, Iterator[tuple[bytes, slice]]]:
    """Read a mapped image file as `read_file` does, but give where each blob lies in `data`."""
    return _file_root(data[:_FILE_HEAD].tobytes()), _view_blobs(data)


def _view_blobs(data: memoryview) -> Iterator[tuple[bytes, slice]]:
    end = _FILE_HEAD
    while end < len(data):
        start = end + _LENGTH.size
        if start > len(data):
            raise FormatError("an image file is cut short")
        end = start + _LENGTH.unpack_from(data, end)[0]
        if end > len(data):
            raise FormatError("an image file is cut short")
        yield digest_of(data[start:end]), slice(start, end)


def _file_root(head: bytes) -> bytes:
    if len(head) != _FILE_HEAD or not head.startswith(_FILE_MAGIC):
        raise FormatError("this is no Tidegate image file: it does not start with TGF1")
    return head[len(_FILE_MAGIC) :]
