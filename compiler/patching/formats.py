"""The formats of patches by name: to make one, to apply one, and what that costs.

Pure functions over bytes. A patch is hostile until its result has the expected digest: `apply`
holds size and memory to limits whatever the patch says, `apply_checked` gives that result alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from compiler.patching import bsdiff, zstd_patch
from compiler.patching.patch_error import PatchError

BSDIFF4, ZSTD_PATCH = "bsdiff4", "zstd-patch"
FORMATS = (ZSTD_PATCH, BSDIFF4)
"""In the order in which they are made: the one that never takes long comes first."""

_MAKE: dict[str, Callable[[bytes, bytes], bytes]] = {
    BSDIFF4: bsdiff.make,
    ZSTD_PATCH: zstd_patch.make,
}
_APPLY: dict[str, Callable[[bytes, bytes, int], bytes]] = {
    BSDIFF4: bsdiff.apply,
    ZSTD_PATCH: zstd_patch.apply,
}
_MEMORY: dict[str, Callable[[int, int], int]] = {
    BSDIFF4: bsdiff.memory,
    ZSTD_PATCH: zstd_patch.memory,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a patch may ask for: at most so many bytes of `result`; the memory follows from it."""

    result: int


def make(format: str, old: bytes, new: bytes) -> bytes:  # noqa: A002 - the word of the field
    """Make the patch that leads from `old` to `new`. Raises PatchError, MemoryError."""
    return _MAKE[format](old, new)


def apply(format: str, old: bytes, patch: bytes, limits: Limits) -> bytes:  # noqa: A002
    """Give what the patch makes of `old`. Raises PatchError when it is damaged or asks too much.

    The caller compares the result's digest: a patch may be sound and yet another one.
    """
    return _APPLY[format](old, patch, limits.result)


def apply_checked(format: str, old: bytes, patch: bytes, size: int, sha256: str) -> bytes:  # noqa: A002
    """Give what the patch makes of `old`, if it has this size and hex SHA-256, else PatchError."""
    new = apply(format, old, patch, Limits(size))
    if len(new) != size or hashlib.sha256(new).hexdigest() != sha256:
        raise PatchError("The patch makes other bytes than it should: it is of other versions.")
    return new


def memory(format: str, old: int, new: int) -> int:  # noqa: A002
    """Say how many bytes making and applying take at most, for files of so many bytes."""
    return _MEMORY[format](old, new)
