"""Forms: a package as it travels, in compressions that make it smaller.

identity   the file itself, as it is installed
gzip       level 9, no name and no time in it; every client opens it
zstd       level 19, one frame with content size and checksum; opened with at most WINDOW bytes

The same package gives the same bytes, on any machine with the same zlib and zstandard. A form that
is not smaller than the file itself is of no use, and left out.

For recipients each form is encrypted (encryption.py) after it was compressed, and named by what
comes of it; the same package then gives other bytes each time. What lies between is in a file
without a name, which nobody else can open and which is gone with the process.
"""

import gzip
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO, NamedTuple

import zstandard

from compiler.packaging import encryption
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
SUFFIXES = {IDENTITY: "", "gzip": ".gz", "zstd": ".zst"}


class MadeForm(NamedTuple):
    """A form, and the local file that holds its bytes."""

    form: Form
    file: Path


def identity_form(package: PackageFile) -> MadeForm:
    """Give the form that is the package's own file."""
    return MadeForm(_form(IDENTITY, package.digest, package.path), package.file)


def make_form(
    package: PackageFile,
    compression: str,
    folder: Path,
    taken: Callable[[int], None],
    recipients: Sequence[str] = (),
) -> MadeForm:
    """Compress a package into a file in `folder`; `taken` hears how many more bytes were read.

    With recipients, encrypted to them. Works in a bounded memory and, but for encrypting, without
    the interpreter's lock, so that threads share the cores. Raises UploadError when the package
    changed meanwhile or the disk fails; what `taken` raises.
    """
    suffix = SUFFIXES[compression] + (encryption.SUFFIX if recipients else "")
    target = folder / f"{package.app}-{package.version}{suffix}"
    try:
        with package.file.open("rb") as source, target.open("wb") as file:
            found, made = write_form(
                source, package.digest.size, compression, file, taken, recipients
            )
    except (OSError, zstandard.ZstdError) as error:
        raise UploadError(f"{package.file} cannot be compressed: {error}. Try it again.") from error
    if found != package.digest:
        raise UploadError(f"{package.file} changed while it was read. Upload it again.")
    return MadeForm(
        _form(compression, made, file_path(made.sha256, package.suffix + suffix)), target
    )


def write_form(
    source: BinaryIO,
    size: int,
    compression: str,
    target: BinaryIO,
    taken: Callable[[int], None],
    recipients: Sequence[str] = (),
) -> tuple[Digest, Digest]:
    """Write a file of `size` bytes in one form; give the digests of what was read and written.

    Raises OSError, ZstdError (also when the size is another), EncryptionError; what `taken`
    raises.
    """
    reader, writer = _Read(source, taken), _Hashed(target)
    if not recipients:
        _compress(reader, _compressor(compression, size, writer))
    elif compression == IDENTITY:
        encryption.encrypt(reader, writer, recipients)
    else:
        with TemporaryFile() as compressed:
            _compress(reader, _compressor(compression, size, compressed))
            compressed.seek(0)
            encryption.encrypt(compressed, writer, recipients)
    return reader.digest, writer.digest


def _form(compression: str, digest: Digest, path: str) -> Form:
    return Form(compression, digest.size, digest.sha256.hex(), path)


class _Read:
    """Reads from a file, tells how much, and knows the size and SHA-256 of what it read."""

    def __init__(self, file: BinaryIO, taken: Callable[[int], None]) -> None:
        self._file = file
        self._taken = taken
        self._size = 0
        self._sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._size += len(data)
        self._sha256.update(data)
        self._taken(len(data))
        return data

    @property
    def digest(self) -> Digest:
        return Digest(self._size, self._sha256.digest())


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


def _compressor(compression: str, size: int, writer: "_Hashed | IO[bytes]") -> IO[bytes]:
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


def _compress(source: _Read, target: IO[bytes]) -> None:
    with target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
