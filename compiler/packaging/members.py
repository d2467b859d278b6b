"""The files of a bundle, read from a folder or a tarball, and never trusted.

A tarball's single top folder (npm calls it `package/`) is taken off, and `./` before a name.
Links, devices, sparse files and archive bombs are refused; whatever is wrong is said at once.
"""

import gzip
import os
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, NoReturn, cast

from compiler.packaging.entry_names import name_fault, shown
from gateway.errors import TidegateError

MOST_ENTRIES = 20_000
MOST_BYTES = 512 << 20
"""All files of a bundle together, in bytes."""

MOST_RATIO = 200
"""A gzipped tarball may unfold to this many times its size …"""

RATIO_FLOOR = 1 << 20
"""… or to this many bytes, whatever its ratio: small text compresses well and harms nobody."""

_TAR_BYTES = MOST_BYTES + MOST_ENTRIES * 2048  # a member's headers and padding
_HEADER_BYTES = 1 << 20  # of one member: tarfile reads names and pax headers whole
_CHUNK = 1 << 20
_LARGE = "Leave large media to the network."
_MOST_FAULTS = 100
_BLOCK = 512
_TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError)


class PackError(TidegateError):
    """A bundle that is not packed; `faults` has a sentence for everything that is wrong."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        lines = list(self.faults[:_MOST_FAULTS])
        if len(self.faults) > _MOST_FAULTS:
            lines.append(f"… and {len(self.faults) - _MOST_FAULTS} more.")
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the bundle: its path inside, its size in bytes, and how to get its bytes."""

    name: str
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a source, in no order, and the faults found in getting at them."""

    members: list[Member]
    faults: list[str]


@contextmanager
def open_members(source: Path) -> Iterator[Contents]:
    """List the files of a folder or tarball (.tgz, .tar.gz, .tar); read them while it is open.

    Raises PackError where there is nothing to list; other faults stand in the contents.
    """
    with ExitStack() as stack:
        try:
            contents = _contents(source, stack)
        except OSError as error:
            raise PackError([_unreadable(Path(error.filename or source), error)]) from error
        yield contents


def _contents(source: Path, stack: ExitStack) -> Contents:
    if source.is_dir():
        return _bounded(_folder(source))
    if not source.exists():
        _refuse(f"There is no {source}. Name the bundle's folder or a tarball.")
    if not source.is_file():
        _refuse(f"{source} is neither a folder nor a file. Name a folder or a tarball.")
    return _bounded(_untarred(stack.enter_context(source.open("rb")), source, stack))


def _refuse(sentence: str) -> NoReturn:
    raise PackError([sentence])


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."


def _bounded(contents: Contents) -> Contents:
    total = sum(member.size for member in contents.members)
    if total > MOST_BYTES:
        contents.faults.append(
            f"The files have {total:,} bytes together; a package may have {MOST_BYTES:,}. {_LARGE}"
        )
    if not contents.members and not contents.faults:
        contents.faults.append("There is no file in it. Name the folder that holds the bundle.")
    return contents


# Folders


def _folder(root: Path) -> Contents:
    contents = Contents([], [])
    waiting, seen = [root], 0
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if seen > MOST_ENTRIES:
                    contents.faults.append(_too_many())
                    return contents
                path = folder / entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    _take(contents, path, path.relative_to(root).as_posix(), entry)
    return contents


def _take(contents: Contents, path: Path, name: str, entry: os.DirEntry[str]) -> None:
    if entry.is_symlink():
        contents.faults.append(
            f"{shown(name)} is a symbolic link. Put a copy of the file in its place."
        )
    elif entry.is_file(follow_symlinks=False):
        size = entry.stat(follow_symlinks=False).st_size
        contents.members.append(Member(name, size, lambda: _file_bytes(path, size)))
    else:
        contents.faults.append(f"{shown(name)} is a pipe, socket or device. Remove it.")


def _file_bytes(path: Path, size: int) -> bytes:
    try:
        # A link or pipe put here since the listing is neither followed nor waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(size + 1)
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise PackError([_unreadable(path, error)]) from error
    if len(data) != size or not regular:
        _refuse(f"{path} changed while it was being packed. Pack again.")
    return data


def _too_many() -> str:
    return f"There are over {MOST_ENTRIES:,} entries; a package may have no more. Remove some."


# Tarballs


def _untarred(file: BinaryIO, source: Path, stack: ExitStack) -> Contents:
    plain: IO[bytes] = file
    magic = file.read(4)
    file.seek(0)
    if magic == b"PK\3\4":
        _refuse(f"{source} is a ZIP already. Unpack it and name the folder, or upload it as it is.")
    if magic[:2] == b"\x1f\x8b":
        plain = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack does
        _gunzip(file, plain, source)
    elif os.fstat(file.fileno()).st_size > _TAR_BYTES:
        _refuse(f"{source} holds over {MOST_BYTES:,} bytes. {_LARGE}")
    listed = _Listed(plain, source)
    try:
        opened = tarfile.open(fileobj=cast("IO[bytes]", listed), mode="r:")  # noqa: SIM115
        tar = stack.enter_context(opened)
        return _tar_contents(tar, listed, source)
    except _TAR_ERRORS as error:
        raise PackError(
            [f"{source} is no whole tar archive: {error}. Make it again, plain or with gzip."]
        ) from error


class _Listed:
    """A tarball's file; while its members are listed, no huge header is read into memory."""

    def __init__(self, file: IO[bytes], source: Path) -> None:
        self._file = file
        self._source = source
        self.most: int | None = _HEADER_BYTES
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            _refuse(
                f"{self._source} has a header of {size:,} bytes at byte {self.tell():,}, where "
                f"{self.most:,} are allowed. Make it again, without such names or attributes."
            )
        return self._file.read(size)


def _gunzip(file: BinaryIO, spool: IO[bytes], source: Path) -> None:
    """Unfold into a temporary file, so that the limits hold before anything is believed."""
    packed = os.fstat(file.fileno()).st_size
    limit = min(_TAR_BYTES, max(RATIO_FLOOR, MOST_RATIO * packed))
    try:
        with gzip.GzipFile(fileobj=file) as unfolded:
            while chunk := unfolded.read(_CHUNK):
                spool.write(chunk)
                if spool.tell() > limit:
                    _refuse(
                        f"{source} unfolds to over {limit:,} bytes from {packed:,}: it is an "
                        f"archive bomb, or holds over {MOST_BYTES:,} bytes. Pack the folder."
                    )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PackError([f"{source} is damaged or cut: {error}. Fetch it again."]) from error
    spool.seek(0)


def _tar_contents(tar: tarfile.TarFile, listed: _Listed, source: Path) -> Contents:
    contents = Contents([], [])
    for seen, info in enumerate(tar, 1):
        if seen > MOST_ENTRIES:
            contents.faults.append(_too_many())
            return contents
        if (
            info.size > MOST_BYTES and not info.issparse()
        ):  # before tarfile looks for what follows it
            _refuse(f"{shown(info.name)} has {info.size:,} bytes by itself. {_LARGE}")
        _take_info(contents, tar, info)
    listed.most = None
    contents.faults.extend(_end_faults(listed, tar.offset, source))
    return _without_top(contents)


def _end_faults(file: _Listed, end: int, source: Path) -> list[str]:
    """Look behind the last member: tarfile ends quietly at a damaged header, and at any zeros."""
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        return [f"{source} is damaged or cut at byte {end}. Fetch it again."]
    while chunk := file.read(_CHUNK):
        if any(chunk):
            mend = "It may be two archives in one file; make it again, as one."
            return [f"{source} goes on after its end at byte {end}. {mend}"]
    return []


def _take_info(contents: Contents, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
    name = info.name
    while name.startswith("./"):
        name = name[2:]
    if info.isdir() and name in {"", "."}:
        return
    if info.isdir() and (fault := name_fault(name, miniapp=False)):
        contents.faults.append(fault)
    elif info.issym() or info.islnk():
        contents.faults.append(
            f"{shown(name)} is a link to {shown(info.linkname)}. Put a copy in its place."
        )
    elif info.issparse():
        contents.faults.append(f"{shown(name)} is a sparse file. Pack it as an ordinary one.")
    elif info.isreg():
        contents.members.append(Member(name, info.size, lambda: _tar_bytes(tar, info)))
    elif not info.isdir():
        contents.faults.append(f"{shown(name)} is a device or pipe. Remove it.")


def _tar_bytes(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        file = tar.extractfile(info)
        data = file.read() if file is not None else b""
    except (*_TAR_ERRORS, OSError):
        data = b""
    if len(data) != info.size:
        _refuse(f"{shown(info.name)} is cut short in the archive. Fetch it again.")
    return data


def _without_top(contents: Contents) -> Contents:
    tops = {member.name.partition("/")[::2] for member in contents.members}
    if len({top for top, _ in tops}) != 1 or not all(rest for _, rest in tops):
        return contents
    if next(iter(tops))[0] in {"", ".", ".."}:
        return contents  # a hostile path stays whole, so that its fault shows it
    members = [
        Member(member.name.partition("/")[2], member.size, member.read)
        for member in contents.members
    ]
    return Contents(members, contents.faults)
