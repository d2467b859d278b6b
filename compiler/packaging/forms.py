"""Forms: a package as it travels, in compressions that make it smaller.

identity   the file itself, as it is installed
gzip       level 9, no name and no time in it; every client opens it
zstd       level 19, one frame with content size and checksum; opened with at most WINDOW bytes

The same package gives the same bytes, on any machine with the same zlib and zstandard. A form that
is not smaller than the file itself is of no use, and left out.
"""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import zstandard

from compiler.packaging.package_file import PackageFile, file_path
from compiler.packaging.record_file import IDENTITY
from compiler.packaging.upload_fault import UploadError
from compiler.plan import Form
from compiler.storage.store import Digest

COMPRESSIONS = ("gzip", "zstd")

WINDOW_LOG = 23
WINDOW = 1 << WINDOW_LOG
"""Bytes of memory that a phone needs to open a zstd form, beside a little."""

_LEVEL = 19
_CHUNK = 1 << 20
_SUFFIXES = {IDENTITY: "", "gzip": ".gz", "zstd": ".zst"}


class MadeForm(NamedTuple):
    """A form, and the local file that holds its bytes."""

    form: Form
    file: Path


def identity_form(package: PackageFile) -> MadeForm:
    """Give the form that is the package's own file."""
    return MadeForm(_form(IDENTITY, package.digest, package.path), package.file)


def make_form(
    package: PackageFile, compression: str, folder: Path, taken: Callable[[int], None]
) -> MadeForm:
    """Compress a package into a file in `folder`; `taken` hears how many more bytes were read.

    Works in a bounded memory and without the interpreter's lock, so that threads share the cores.
    Raises UploadError when the package changed meanwhile or the disk fails; what `taken` raises.
    """
    target = folder / f"{package.app}-{package.version}{_SUFFIXES[compression]}"
    try:
        with package.file.open("rb") as source, target.open("wb") as file:
            writer = _Hashed(file)
            found = _compress(source, _compressor(compression, package.digest.size, writer), taken)
    except (OSError, zstandard.ZstdError) as error:
        raise UploadError(f"{package.file} cannot be compressed: {error}. Try it again.") from error
    if found != package.digest:
        raise UploadError(f"{package.file} changed while it was read. Upload it again.")
    path = file_path(writer.digest.sha256, package.suffix + _SUFFIXES[compression])
    return MadeForm(_form(compression, writer.digest, path), target)


def _form(compression: str, digest: Digest, path: str) -> Form:
    return Form(compression, digest.size, digest.sha256.hex(), path)


class _Hashed:
    """Writes to a file, and knows the size and SHA-256 of what it wrote."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._size += len(data)
        self._sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> Digest:
        return Digest(self._size, self._sha256.digest())


def _compressor(compression: str, size: int, writer: _Hashed) -> IO[bytes]:
    if compression == "gzip":
        return gzip.GzipFile("", "wb", 9, writer, mtime=0)  # type: ignore[return-value]
    fitting = zstandard.ZstdCompressionParameters.from_level(_LEVEL, source_size=size)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=size,
        window_log=min(fitting.window_log, WINDOW_LOG),
        write_content_size=True,
        write_checksum=True,
        threads=0,  # several would cut the input into jobs, and give other bytes
    )
    context = zstandard.ZstdCompressor(compression_params=parameters)
    return context.stream_writer(writer, size=size, closefd=False)  # type: ignore[arg-type]


def _compress(source: BinaryIO, target: IO[bytes], taken: Callable[[int], None]) -> Digest:
    size, sha256 = 0, hashlib.sha256()
    with target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
            size += len(chunk)
            sha256.update(chunk)
            taken(len(chunk))
    return Digest(size, sha256.digest())
