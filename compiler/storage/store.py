"""The store: the folder or bucket that durably holds packages, blobs and every kept epoch.

    blobs/<2 hex>/<64 hex>   bytes under their own SHA-256; written once, never changed
    files/…                  what phones download (compiler/packaging/upload.py), never changed
    anything else            named objects

One small synchronous interface over obstore, which speaks to a folder, to S3 and its relatives,
to Google Cloud Storage and to Azure (gateway/store_place.py). A put is atomic on all of them.
Into a folder obstore writes `<name>#1`, then links or renames it: a kill leaves at most such a
staging file, which no list shows and no name can reach. Into a bucket a large file goes in parts:
a kill leaves at most parts that nobody sees; let the bucket's life-cycle rules delete those of
unfinished uploads. After a power cut a blob in a folder may be short: `put_blob` writes a blob of
another size again, and `get_blob` checks the SHA-256 of everything that it gives.

The service tells clients what media.py says: what is below files/ may be kept for ever.

obstore runs threads of its own that a fork does not copy: a process that has opened a store
starts others by `subprocess` or the `spawn` method, never by a bare fork.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, ObjectStore

from compiler.storage.media import attributes_of
from compiler.storage.parallel import in_parallel
from compiler.storage.store_failure import cause, is_absent
from gateway.errors import FormatError, StoreError
from gateway.store_place import PLACES, Bucket, open_bucket, parse_place

if TYPE_CHECKING:  # it is not there at run time
    from obstore import Attributes, ObjectMeta

CHUNK = 1 << 20
NAME_BYTES = 1024

PART_BYTES = 5 << 20
"""A larger file goes to a bucket in parts of this size; no service takes smaller ones."""

_PARTS = 4  # of one file at once: they are held in memory
_LARGE_BYTES = 1 << 22

_BLOBS = "blobs"
_BLOB = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})\Z")
# What every file system and every bucket keeps as it is. `#` marks obstore's staging files.
_SEGMENT = re.compile(r"[A-Za-z0-9._+@=,~-]{1,200}\Z")


class StoredBlob(NamedTuple):
    """One blob in a listing: its SHA-256, its size in bytes, and when it was written (UTC)."""

    digest: bytes
    size: int
    last_modified: datetime


class Digest(NamedTuple):
    """Size in bytes and SHA-256 of an object, as read back from the store."""

    size: int
    sha256: bytes


def open_store(where: str, *, create: bool = True) -> "Store":
    """Open the store at a folder's path or a URL; a missing folder is made if `create`.

    A bucket must be there: it is asked one question, so that wrong credentials, a mistyped name
    or a service that is away are told of before anything else is done. Raises StoreError.
    """
    place = _place(where)
    if isinstance(place, Bucket):
        store = Store(open_bucket(place), str(place), bucket=place)
        store.list_named("live")  # a pointer, no folder: nothing is below it
        return store
    try:
        folder = place.expanduser().absolute()
        if not create:
            _check_there(folder)
        return Store(LocalStore(folder, mkdir=create), str(folder))
    except RuntimeError as error:
        raise StoreError(f"The store {where} has no home folder. Write the whole path.") from error
    except (BaseError, OSError, ValueError) as error:
        raise StoreError(f"The store {place} cannot be opened: {cause(error)}") from error


class Store:
    """Content-addressed blobs and named objects; see the module's text. Safe in many threads.

    Every method raises StoreError when the store fails or a name is not allowed.
    """

    def __init__(self, backend: ObjectStore, name: str, *, bucket: Bucket | None = None) -> None:
        self._backend = backend
        self._bucket = bucket
        self.name = name

    def put_blob(self, data: bytes) -> bytes:
        """Keep the bytes and give their SHA-256; a blob that is there already is not rewritten."""
        digest = hashlib.sha256(data).digest()
        self._put_blob(digest, data)
        return digest

    def put_blobs(
        self,
        blobs: Iterable[tuple[bytes, bytes]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Keep many (digest, data) pairs in parallel; give how many were new.

        `progress` is called in the caller's thread for each finished blob, with the bytes written:
        0 if it was there. When one fails, the others may or may not be kept: say it again, as puts
        can be repeated.
        """

        def put(pair: tuple[bytes, bytes]) -> tuple[bool, int]:
            digest, data = pair
            assert hashlib.sha256(data).digest() == digest, "a blob under a foreign digest"
            return self._put_blob(digest, data), len(data)

        new = 0

        def count(written: bool, size: int) -> None:
            nonlocal new
            new += written
            if progress is not None:
                progress(size if written else 0)

        def small() -> Iterator[tuple[bytes, bytes]]:
            for pair in blobs:
                if len(pair[1]) < _LARGE_BYTES:
                    yield pair
                else:
                    count(*put(pair))  # alone: a window of such would fill the memory

        for found in in_parallel(put, small()):
            count(*found)
        return new

    def get_blob(self, digest: bytes) -> bytes:
        """Give a blob's bytes. FormatError when they are damaged, StoreError when missing."""
        path = _blob_path(digest)
        data = self._get(path)
        if data is None:
            raise StoreError(
                f'The store {self.name} lacks "{path}". Copy it from another store, '
                "or push the epoch's plan again."
            )
        if hashlib.sha256(data).digest() != digest:
            raise FormatError(
                f'"{path}" in the store {self.name} is damaged: its bytes do not have the SHA-256 '
                "that its name says. Delete that file and push again, or copy it from elsewhere."
            )
        return data

    def get_blobs(self, digests: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Give (digest, bytes) of many blobs in the order asked for; read ahead, in parallel."""
        return in_parallel(lambda digest: (digest, self.get_blob(digest)), digests)

    def size_blob(self, digest: bytes) -> int | None:
        """Give a blob's size in bytes, or None when there is none; it is not read."""
        return self._size(_blob_path(digest))

    def has_blob(self, digest: bytes) -> bool:
        """Tell whether a blob of that name is there; it is not read."""
        return self._size(_blob_path(digest)) is not None

    def has_blobs(self, digests: Iterable[bytes]) -> set[bytes]:
        """Give those of the digests whose blobs are there."""
        found = in_parallel(lambda digest: (digest, self.has_blob(digest)), digests)
        return {digest for digest, there in found if there}

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Give every blob, in no order; other files below blobs/ are passed over."""
        for meta in self._list(_BLOBS):
            found = _BLOB.match(meta["path"])
            if found is not None:
                yield StoredBlob(bytes.fromhex(found[2]), meta["size"], meta["last_modified"])

    def delete_blobs(self, digests: Iterable[bytes]) -> None:
        """Delete blobs; one that is missing is no error, so that a deletion can be repeated."""
        for _ in in_parallel(lambda digest: self._delete(_blob_path(digest)), digests):
            pass

    def put_named(self, path: str, data: bytes) -> None:
        """Write an object, in place of one that was there: readers see the old or the new."""
        self._put(_named(path), data)

    def create_named(self, path: str, data: bytes) -> bool:
        """Write an object only where none is, atomically; False when there is one already."""
        _named(path)
        with self._failing("write", path):
            try:
                self._send(path, data, "create")
            except AlreadyExistsError:
                return False
        return True

    def swap_named(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Write an object if its bytes still are `old` (None: if there is none), atomically.

        False, and nothing is written, when it has other bytes meanwhile. A bucket's answer may be
        lost: obstore then asks again and is refused, because of what it has itself written. So
        after a refused put the object is read: if it has the bytes `new`, that is True.
        """
        if old is None:
            return self.create_named(path, new) or self._get(path) == new
        _named(path)
        with self._failing("write", path), self._alone():
            try:
                found = obstore.get(self._backend, path)
                if bytes(found.bytes()) != old:
                    return False
                # A folder knows no conditional put: there the lock is what keeps others out.
                known = {name: found.meta[name] for name in ("e_tag", "version")}
                mode = {name: text for name, text in known.items() if text is not None}
                local = isinstance(self._backend, LocalStore)
                self._send(path, new, "overwrite" if local else mode)
            except PreconditionError:
                return self._get(path) == new
            except (BaseError, OSError) as error:
                if not is_absent(error):
                    raise
                return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out, where the store is a folder: by a lock that ends with them."""
        if not isinstance(self._backend, LocalStore):
            yield
            return
        folder = os.open(self.name, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def put_file(
        self,
        path: str,
        source: Path,
        *,
        media_type: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write a file's bytes as an object, without holding a large one in memory.

        `media_type` is for a path whose suffix does not tell it. `progress` hears, maybe in other
        threads, how many more bytes were taken to be sent.
        """
        _named(path)
        with self._failing("write", path), source.open("rb") as file:
            parts = _parts(file, progress)
            first = next(parts, b"")
            small = len(first) < PART_BYTES
            obstore.put(
                self._backend,
                path,
                first if small else chain([first], parts),
                attributes=self._attributes(path, media_type),
                use_multipart=not small,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS,
            )

    def get_named(self, path: str) -> bytes | None:
        """Give an object's bytes, or None when there is none."""
        return self._get(_named(path))

    def size_named(self, path: str) -> int | None:
        """Give an object's size in bytes, or None when there is none; it is not read."""
        return self._size(_named(path))

    def digest_named(self, path: str) -> Digest | None:
        """Read an object through; give its size and SHA-256, or None when there is none."""
        _named(path)
        size, sha256 = 0, hashlib.sha256()
        with self._failing("read", path):
            try:
                for chunk in obstore.get(self._backend, path).stream(min_chunk_size=CHUNK):
                    sha256.update(chunk)
                    size += len(chunk)
            except (BaseError, OSError) as error:
                if not is_absent(error):
                    raise
                return None
        return Digest(size, sha256.digest())

    def list_named(self, prefix: str = "") -> list[str]:
        """Give the names below the folder `prefix` ("" means all), in order; blobs excluded."""
        if prefix:
            _named(prefix)
        names = (meta["path"] for meta in self._list(prefix or None))
        return sorted(name for name in names if not name.startswith(_BLOBS + "/"))

    def delete_named(self, path: str) -> None:
        """Delete an object; one that is missing is no error."""
        self._delete(_named(path))

    def _put_blob(self, digest: bytes, data: bytes) -> bool:
        path = _blob_path(digest)
        if self._size(path) == len(data):
            return False
        self._put(path, data)
        return True

    def _put(self, path: str, data: bytes) -> None:
        with self._failing("write", path):
            self._send(path, data, "overwrite")

    def _send(self, path: str, data: bytes, mode: Any) -> None:
        # One part: a plain put is atomic everywhere, and leaves no parts behind when killed.
        said = self._attributes(path)
        obstore.put(self._backend, path, data, attributes=said, mode=mode, use_multipart=False)

    def _attributes(self, path: str, media_type: str | None = None) -> "Attributes | None":
        # A folder keeps no attributes: there it is the web server that must say them.
        local = isinstance(self._backend, LocalStore)
        return None if local else attributes_of(path, media_type)

    def _get(self, path: str) -> bytes | None:
        with self._failing("read", path):
            try:
                return bytes(obstore.get(self._backend, path).bytes())
            except (BaseError, OSError) as error:
                if not is_absent(error):
                    raise
                return None

    def _size(self, path: str) -> int | None:
        with self._failing("read", path):
            try:
                return obstore.head(self._backend, path)["size"]
            except (BaseError, OSError) as error:
                if not is_absent(error):
                    raise
                return None

    def _delete(self, path: str) -> None:
        with self._failing("delete", path):
            try:
                obstore.delete(self._backend, path)
            except (BaseError, OSError) as error:
                if not is_absent(error):
                    raise

    def _list(self, prefix: str | None) -> "Iterator[ObjectMeta]":
        with self._failing("list", prefix or "/"):
            for batch in obstore.list(self._backend, prefix, chunk_size=1000):
                yield from batch

    @contextmanager
    def _failing(self, action: str, path: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(
                f'The store {self.name} could not {action} "{path}": {cause(error, self._bucket)}'
            ) from error


def _parts(file: BinaryIO, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    while part := file.read(PART_BYTES):
        if progress is not None:
            progress(len(part))
        yield part


def _place(where: str) -> Path | Bucket:
    if not where.strip() or "\0" in where:
        raise StoreError(f"No store is named. Give {PLACES}: with --store, or as TIDEGATE_STORE.")
    try:
        return parse_place(where)
    except ValueError as error:
        raise StoreError(str(error)) from None


def _check_there(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreError(f"There is no store at {folder}. Check --store or TIDEGATE_STORE.")


def _blob_path(digest: bytes) -> str:
    assert len(digest) == hashlib.sha256().digest_size, "a digest is 32 bytes"
    name = digest.hex()
    return f"{_BLOBS}/{name[:2]}/{name}"


def _named(path: str) -> str:
    segments = path.split("/")
    if (
        len(path) > NAME_BYTES
        or segments[0] == _BLOBS
        or not all(_SEGMENT.match(part) and part not in {".", ".."} for part in segments)
    ):
        raise StoreError(
            f"{path!r} is no name for an object in the store. Use letters, digits and ._+@=,~- "
            "between single slashes, no . or .. alone, and not the folder blobs."
        )
    return path
