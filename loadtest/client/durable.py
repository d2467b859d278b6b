"""Files that a power cut leaves old or new, never half: written beside, synced, renamed, synced."""

import os
from pathlib import Path

NEW_SUFFIX = ".new"


def write_durably(path: Path, data: bytes) -> None:
    """Put a small file in place. A kill may leave `path.new` beside it. Raises OSError."""
    beside = path.with_name(path.name + NEW_SUFFIX)
    with beside.open("wb") as file:
        file.write(data)
    move_durably(beside, path)


def move_durably(source: Path, target: Path) -> None:
    """Give a file its name: its bytes reach the disk before the name does. Raises OSError."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
