"""The format `bsdiff4`: what bsdiff and bspatch call BSDIFF40, bzip2 inside.

    8 bytes   "BSDIFF40"
    3 x 8     lengths: of the packed control block, of the packed diff block, of the new file;
              little-endian magnitudes whose highest bit is the sign
    control   bzip2 of triples x, y, z of 8 bytes each: add x bytes of diff to
              as many of old, copy y bytes of extra, then move by z in old
    diff      bzip2
    extra     bzip2, to the patch's end

bsdiff4 itself unpacks the blocks without any limit, so here they are unpacked before, each only as
far as its honest size allows; bsdiff4's C code then holds every triple to these sizes.
"""

import bz2
from collections.abc import Iterator
from typing import NamedTuple

from bsdiff4 import core  # type: ignore[import-untyped]

from compiler.patching.patch_error import PatchError

MAGIC = b"BSDIFF40"
HEADER_BYTES = 32

_TRIPLE_BYTES = 24
# bsdiff begins a triple only where a match is longer by 8 than what it has: one in 9 new bytes.
_NEW_BYTES_A_TRIPLE = 9
_SPARE_TRIPLES = 2

# A match is kept from so many bytes on: a far one costs two jumps. Measured on bundles of text;
# where they lose, bsdiff's own patch is taken.
_LEAST_NEAR, _LEAST_FAR = 20, 32
_NEAR = 4096


def make(old: bytes, new: bytes) -> bytes:
    """Make the patch. Time and memory are those of sorting all suffixes of `old`."""
    found = _Blocks(*core.diff(old, new))
    return min((_packed(each, len(new)) for each in (found, _thinned(found, new))), key=len)


class _Blocks(NamedTuple):
    """A patch's three blocks before they are packed."""

    control: bytes
    diff: bytes
    extra: bytes


def _packed(blocks: _Blocks, size: int) -> bytes:
    control, diff, extra = (bz2.compress(block) for block in blocks)
    lengths = (core.encode_int64(number) for number in (len(control), len(diff), size))
    return b"".join((MAGIC, *lengths, control, diff, extra))


def _thinned(found: _Blocks, new: bytes) -> _Blocks:
    """Write short matches far away as new bytes: bzip2 packs text better than their triples.

    Such a triple has about five bytes when packed, and needs another to jump back.
    """
    kept: list[list[int]] = []  # place in old, bytes of diff, bytes of extra
    diff, extra = [], []
    old_at = new_at = diff_at = shift = 0
    for x, y, z in _triples(found.control):
        jump = abs(old_at - new_at - shift)
        if not kept or x >= (_LEAST_NEAR if jump < _NEAR else _LEAST_FAR):
            kept.append([old_at, x, y])
            diff.append(memoryview(found.diff)[diff_at : diff_at + x])
            extra.append(memoryview(new)[new_at + x : new_at + x + y])
            shift = old_at - new_at
        else:
            kept[-1][2] += x + y
            extra.append(memoryview(new)[new_at : new_at + x + y])
        old_at, new_at, diff_at = old_at + x + z, new_at + x + y, diff_at + x
    ends = [start for start, _, _ in kept[1:]] + [old_at]
    control = [
        core.encode_int64(number)
        for (start, x, y), end in zip(kept, ends, strict=False)  # of an empty file none is kept
        for number in (x, y, end - start - x)
    ]
    return _Blocks(b"".join(control), b"".join(diff), b"".join(extra))


def _triples(control: bytes) -> Iterator[tuple[int, int, int]]:
    for at in range(0, len(control), _TRIPLE_BYTES):
        x, y, z = (core.decode_int64(control[at + part : at + part + 8]) for part in (0, 8, 16))
        yield x, y, z


def memory(old: int, new: int) -> int:
    """Say how many bytes `make` and `apply` take at most, for files of so many bytes.

    Measured: 16 a byte of `old` (two arrays of 64-bit integers) beside both files.
    """
    return 17 * old + 5 * new


def apply(old: bytes, patch: bytes, most: int) -> bytes:
    """Give the new file, of at most so many bytes, in memory of six times that and 8 MiB.

    Raises PatchError.
    """
    control_size, diff_size, size = _lengths(patch)
    if size > most:
        raise PatchError(f"The patch makes {size:,} bytes, where {most:,} are allowed.")
    diff_at = HEADER_BYTES + control_size
    extra_at = diff_at + diff_size
    if extra_at > len(patch):
        raise PatchError("The patch is cut: its blocks are longer than it is.")
    most_control = _TRIPLE_BYTES * (size // _NEW_BYTES_A_TRIPLE + _SPARE_TRIPLES)
    control = _unpacked(patch[HEADER_BYTES:diff_at], most_control)
    diff = _unpacked(patch[diff_at:extra_at], size)
    extra = _unpacked(patch[extra_at:], size - len(diff))
    try:
        new: bytes = core.patch(old, size, control, diff, extra)
    except ValueError as fault:
        raise PatchError(f"The patch is damaged: {fault}.") from fault
    return new


def _lengths(patch: bytes) -> tuple[int, int, int]:
    if len(patch) < HEADER_BYTES or not patch.startswith(MAGIC):
        raise PatchError("This is no bsdiff4 patch: it does not begin as one.")
    sizes = [core.decode_int64(patch[at : at + 8]) for at in range(8, HEADER_BYTES, 8)]
    if min(sizes) < 0:
        raise PatchError("The patch is damaged: a length is negative.")
    return sizes[0], sizes[1], sizes[2]


def _unpacked(block: bytes, most: int) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    try:
        data = unpacker.decompress(block, max_length=most + 1)
    except (OSError, ValueError) as fault:
        raise PatchError(f"The patch is damaged: {fault}.") from fault
    if len(data) > most:
        raise PatchError("The patch is damaged: a block unpacks to more than it may.")
    if not unpacker.eof or unpacker.unused_data:
        raise PatchError("The patch is damaged: a block is cut, or goes on after its end.")
    return data
