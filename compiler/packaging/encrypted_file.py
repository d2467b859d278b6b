"""`tidegate encrypt`: a local file, compressed and encrypted, beside itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from compiler.atomic_file import atomic_file
from compiler.packaging.encryption import SUFFIX, EncryptionError
from compiler.packaging.forms import SUFFIXES, write_form
from compiler.packaging.meter import Meter
from compiler.progress import Progress, quiet


@dataclass(frozen=True, slots=True)
class EncryptedFile:
    """What was written: sizes in bytes, `sha256` in hex of the age file."""

    target: Path
    size: int
    sha256: str
    plain_size: int
    recipients: tuple[str, ...]


def default_target(file: Path, compression: str) -> Path:
    """Name the file that it becomes."""
    return file.with_name(f"{file.name}{SUFFIXES[compression]}{SUFFIX}")


def encrypt_file(
    file: Path,
    target: Path,
    compression: str,
    recipients: Sequence[str],
    progress: Progress = quiet,
) -> EncryptedFile:
    """Write `target`, whole or not at all, in place of what was there.

    `progress` hears of bytes. Raises EncryptionError: a bad recipient, a file that cannot be read
    or written, or that changed meanwhile.
    """
    meter = Meter(progress)
    try:
        if target.exists() and target.samefile(file):
            raise EncryptionError(f"{target} is the file itself. Name another with --out.")
        with file.open("rb") as source, atomic_file(target) as made:
            size = os.fstat(source.fileno()).st_size
            meter.expect("encrypting", size)
            read, written = write_form(
                source,
                size,
                compression,
                made,
                lambda more: meter.add("encrypting", more),
                recipients,
            )
            if read.size != size:
                raise EncryptionError(f"{file} changed while it was read. Encrypt it again.")
    except (OSError, zstandard.ZstdError) as error:
        why = getattr(error, "strerror", None) or error
        raise EncryptionError(
            f"{file} cannot be encrypted: {why}. Check the path and its permissions."
        ) from error
    return EncryptedFile(target, written.size, written.sha256.hex(), read.size, tuple(recipients))
