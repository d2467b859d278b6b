"""The blobs of one epoch, by digest, where they lie in an image file that is mapped into memory.

All workers of a machine map the same file, so that its pages are there once: the filter of an
allowlist, and the programs of apps that nobody has asked for yet. The kernel may drop pages that
nobody reads, and reads them again from the disk.

A mapped file that somebody cuts short ends the process that reads beyond its new end (SIGBUS), and
no check beforehand can prevent it. So nobody cuts it: an image is written under another name and
renamed when it is whole, is read-only from then on, is never changed in place, and its folder is
the gateway's own. Removing or replacing it is safe at any time: who has mapped it keeps it.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway import blob_file
from gateway.errors import FormatError


class Shelf(Mapping[bytes, memoryview]):
    """A mapped image. A blob is a view, and the mapping lasts as long as any view of it."""

    def __init__(self, path: Path, root: bytes) -> None:
        """Map the image of the epoch `root` and hold every blob to its digest: from a thread.

        Raises OSError, and FormatError when the file is cut or is another image.
        """
        with path.open("rb") as source:
            try:
                mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise FormatError(f"{path} is empty") from None
        self._data = memoryview(mapped)
        found, places = blob_file.view_file(self._data)
        # To be named by its digest is to be verified: who asks for a blob gets those bytes or none.
        self._places = dict(places)
        # Every page was read, and few will be again: give back what this process alone counts.
        mapped.madvise(mmap.MADV_DONTNEED)
        if found != root or root not in self._places:
            raise FormatError(f"{path} is not the image of epoch {root.hex()}")

    def __getitem__(self, digest: bytes) -> memoryview:
        """Give a blob, not copied. Raises KeyError."""
        return self._data[self._places[digest]]

    def __contains__(self, digest: object) -> bool:
        """Tell whether a blob is here."""
        return digest in self._places

    def __iter__(self) -> Iterator[bytes]:
        """Give the digests."""
        return iter(self._places)

    def __len__(self) -> int:
        """Count the blobs."""
        return len(self._places)
