"""What a gateway keeps on disk: its last verified epoch, and the highest one that it served.

    FOLDER/epoch-<hex>    an image file (blob_file.write_file) of the blobs that serving needs
    FOLDER/highest        a pointer (encode_pointer): no epoch below it is ever served
    FOLDER/turn           empty; whoever holds its lock loads the next epoch for all
    FOLDER/raising        empty; whoever holds its lock may change `highest`

Several processes share a folder: the workers of a gateway, or several gateways of one workspace.
The image serves both a restart without Redis and the sharing of memory (gateway/shelf.py); the
first worker that has an epoch writes it, and the others map it rather than fetch it too.

Files are written beside and renamed, so that a crash leaves the old one or the new one. Locks are
flock's: they go with the process that holds them, however it ends, and nobody waits for one that
hangs longer than is said below. Blocking: call these from a thread.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

from gateway import blob_file, layout
from gateway.errors import FormatError, StoreError
from gateway.loading import Mark
from gateway.pointer import decode_pointer, encode_pointer
from gateway.shelf import Shelf

TURN_SECONDS = 2.0
"""How long a worker waits for another one to load an epoch, before it does so itself."""

RAISING_SECONDS = 1.0
"""How long it waits to raise the highest epoch, which takes another one some milliseconds."""

_LOOK_SECONDS = 0.01


class Kept:
    """The folder of one workspace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._highest = folder / "highest"

    def highest(self) -> Mark | None:
        """Read the highest epoch served. Raises StoreError when it is there but unreadable.

        To go on without it would open the door to a replayed epoch, so that is for a person.
        """
        try:
            return Mark(*decode_pointer(self._highest.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, FormatError) as fault:
            raise StoreError(
                f"{self._highest} cannot be read ({fault}); it holds the highest epoch that was "
                "served here. Mend it, or delete it to start anew."
            ) from None

    def remember(self, mark: Mark) -> Mark:
        """Raise the highest epoch served, which never falls; give the one that stands.

        That is another worker's if it is ahead. Raises OSError, StoreError.
        """
        standing = self.highest()
        if standing is not None and standing.number >= mark.number:
            return standing
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked("raising", RAISING_SECONDS) as mine:
            if not mine:
                raise StoreError("another worker does not let go of the lock on the highest epoch")
            standing = self.highest()  # another worker may have raised it meanwhile
            if standing is not None and standing.number >= mark.number:
                return standing
            pointer = encode_pointer(mark.number, mark.digest)
            self._replace(self._highest, lambda target: target.write(pointer), sync=True)
            self._sync(self._folder)  # the rename itself must survive a power cut
            return mark

    def path(self, root: bytes) -> Path:
        """Name the image of an epoch."""
        return self._folder / f"epoch-{root.hex()}"

    @contextmanager
    def turn(self, root: bytes) -> Iterator[None]:
        """Wait until it is one's turn to load this epoch, or its image is there, or time is up.

        Whichever it was, look for the image afterwards. Never fails: a turn saves work only.
        """
        with self._locked("turn", TURN_SECONDS, self.path(root).exists):
            yield

    def save(self, root: bytes, blobs: Iterable[layout.Blob]) -> None:
        """Write the image of an epoch, for all workers. Raises OSError.

        It is not yet safe from a power cut; `settle` makes it so, and takes its time.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._replace(self.path(root), lambda target: blob_file.write_file(target, root, blobs))

    def load(self, root: bytes) -> Shelf | None:
        """Map the image of an epoch, if there is one. Raises StoreError when it is damaged."""
        try:
            return Shelf(self.path(root), root)
        except FileNotFoundError:
            return None
        except (OSError, FormatError) as fault:
            raise StoreError(f"the kept epoch cannot be used: {fault}") from None

    def settle(self, root: bytes) -> None:
        """Bring the image of the served epoch to the disk, and remove what is older.

        Newer images are another worker's, which is ahead of this one. Raises OSError, StoreError.
        """
        path = self.path(root)
        self._sync(path)
        self._sync(self._folder)
        standing = self.highest()
        if standing is not None and standing.digest != root:
            return  # another worker is ahead, and removes what is older than its image
        written = path.stat().st_mtime_ns
        # Images, and what a killed worker left unfinished.
        for other in (*self._folder.glob("epoch*"), *self._folder.glob(".*-*")):
            with suppress(FileNotFoundError):  # another worker removes them too
                if other != path and other.stat().st_mtime_ns <= written:
                    other.unlink()

    @contextmanager
    def _locked(
        self, name: str, seconds: float, ended: Callable[[], bool] = lambda: False
    ) -> Iterator[bool]:
        """Hold a lock, and tell whether it is held: it is not after `seconds`, or once `ended`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield False
            return
        try:
            yield _lock(descriptor, time.monotonic() + seconds, ended)
        finally:
            os.close(descriptor)  # and the lock with it

    def _replace(
        self, path: Path, write: Callable[[BinaryIO], object], *, sync: bool = False
    ) -> None:
        with NamedTemporaryFile(dir=self._folder, prefix=f".{path.name}-", delete=False) as target:
            try:
                write(cast("BinaryIO", target))
                target.flush()
                os.fchmod(target.fileno(), 0o400)
                if sync:
                    os.fsync(target.fileno())
                Path(target.name).replace(path)
            except BaseException:
                Path(target.name).unlink(missing_ok=True)
                raise

    def _sync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, end: float, ended: Callable[[], bool]) -> bool:
    while not ended():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK_SECONDS)
        except OSError:
            return True  # a file system without locks: then as if one were alone
        else:
            return True
    return False
