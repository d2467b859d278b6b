"""What a gateway keeps on disk: its last verified epoch, and the highest one that it served.

    FOLDER/epoch      an image file (layout.write_file) of the blobs that serving needs
    FOLDER/highest    a pointer (layout.encode_pointer): no epoch below it is ever served

Both are written beside and renamed, so that a crash leaves the old one or the new one. Several
gateways may share a folder. Blocking: call these from a thread.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

from gateway import layout
from gateway.errors import FormatError, StoreError
from gateway.loading import Mark


class Kept:
    """The folder of one workspace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._epoch = folder / "epoch"
        self._highest = folder / "highest"

    def highest(self) -> Mark | None:
        """Read the highest epoch served. Raises StoreError when it is there but unreadable.

        To go on without it would open the door to a replayed epoch, so that is for a person.
        """
        try:
            return Mark(*layout.decode_pointer(self._highest.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, FormatError) as fault:
            raise StoreError(
                f"{self._highest} cannot be read ({fault}); it holds the highest epoch that was "
                "served here. Mend it, or delete it to start anew."
            ) from None

    def remember(self, mark: Mark) -> None:
        """Raise the highest epoch served. Raises OSError."""
        found = self.highest()  # another gateway may have raised it meanwhile
        if found is None or found.number < mark.number:
            pointer = layout.encode_pointer(mark.number, mark.digest)
            self._replace(self._highest, lambda target: target.write(pointer))

    def save(self, root: bytes, blobs: Mapping[bytes, bytes]) -> None:
        """Write the epoch's image. Raises OSError."""
        self._replace(self._epoch, lambda target: layout.write_file(target, root, blobs.values()))

    def load(self) -> tuple[bytes, dict[bytes, bytes]] | None:
        """Read the image: digest of the epoch, and blobs. Raises FormatError, StoreError."""
        try:
            with self._epoch.open("rb") as source:
                root, blobs = layout.read_file(source)
                return root, dict(blobs)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise StoreError(f"{self._epoch} cannot be read: {fault}") from None

    def _replace(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._folder, prefix=f".{path.name}-", delete=False) as target:
            try:
                write(cast("BinaryIO", target))
                target.flush()
                os.fsync(target.fileno())
                Path(target.name).replace(path)
            except BaseException:
                Path(target.name).unlink(missing_ok=True)
                raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)
