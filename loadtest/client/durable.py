"""Files that a power cut leaves old or new, never half: written beside, synced, renamed, synced.

All of them are for nobody but the user that the client runs as.
"""

import os
from pathlib import Path

NEW_SUFFIX = ".new"
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


def private(path: str, flags: int) -> int:
    """Open a file, and make it for its owner alone: `open(…, opener=private)`."""
    return os.open(path, flags, PRIVATE_FILE)


def write_durably(path: Path, data: bytes) -> None:
    """Put a small file in place. A kill may leave `path.new` beside it. Raises OSError."""
    beside = path.with_name(path.name + NEW_SUFFIX)
    with open(beside, "wb", opener=private) as file:
        file.write(data)
    move_durably(beside, path)


def move_durably(source: Path, target: Path) -> None:
    """Give a file its name: its bytes reach the disk before the name does. Raises OSError."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder for its owner alone, in one that is there. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
