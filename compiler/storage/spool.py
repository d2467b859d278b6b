"""The spool: bytes that wait to be used once more, large ones in a temporary file.

Such are an image's blobs on their way to store and Redis: of ten million ids some 26 bytes an id,
which nobody has to hold. The file has no name, so it is gone when the process is; it lies where
TMPDIR says.
"""

import tempfile
import weakref
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from gateway.errors import StoreError

_HELD_BYTES = 1 << 12  # a smaller blob costs no more in memory than its place in a file would


class Spool(MutableMapping[bytes, bytes]):
    """Bytes by name, as blobs by their digests; what a name stands for never changes.

    For one thread at a time. Every access may raise StoreError, when the disk fails.
    """

    def __init__(self) -> None:
        self._held: dict[bytes, bytes | tuple[int, int]] = {}  # itself, or its offset and size
        self._end = 0
        with _failing():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the spool
        weakref.finalize(self, self._file.close)

    def __setitem__(self, digest: bytes, blob: bytes) -> None:
        if digest in self._held:
            return
        if len(blob) < _HELD_BYTES:
            self._held[digest] = blob
            return
        with _failing():
            self._file.seek(self._end)
            self._file.write(blob)
        self._held[digest] = self._end, len(blob)
        self._end += len(blob)

    def __getitem__(self, digest: bytes) -> bytes:
        found = self._held[digest]
        if isinstance(found, bytes):
            return found
        offset, size = found
        with _failing():
            self._file.seek(offset)
            return self._file.read(size)

    def __delitem__(self, digest: bytes) -> None:
        del self._held[digest]

    def __contains__(self, digest: object) -> bool:
        return digest in self._held

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise StoreError(
            f"The folder for temporary files failed: {fault.strerror or fault}. "
            "Free some space there, or name another folder with TMPDIR."
        ) from fault
