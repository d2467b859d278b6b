"""Patches, applied: old file + patch = new file of a known size, in bounded memory.

bsdiff4      the format of bsdiff and bspatch: "BSDIFF40"; three lengths of 8 bytes each, of the
             packed control block, of the packed diff block, of the new file; then the blocks
             control (triples of three numbers), diff, extra, each packed by bzip2
zstd-patch   one zstd frame whose dictionary is the old file as it is: `zstd --patch-from=OLD`
"""

import bz2

import zstandard
from bsdiff4 import core  # type: ignore[import-untyped]

from loadtest.client.answer import BSDIFF4
from loadtest.client.fault import UnusableError

_MAGIC, _HEADER_BYTES = b"BSDIFF40", 32
_TRIPLE_BYTES = 24
# bsdiff begins a triple only where it gains by it: at most one in 9 new bytes, and two more.
_NEW_BYTES_A_TRIPLE, _SPARE_TRIPLES = 9, 2
_LEAST_WINDOW_LOG = 10


def apply(form: str, old: bytes, patch: bytes, size: int) -> bytes:
    """Give the new file, of just `size` bytes; its digest is still to be compared.

    Takes some six times `size` of memory, and 8 MiB. Raises UnusableError.
    """
    new = _bsdiff4(old, patch, size) if form == BSDIFF4 else _zstd_patch(old, patch, size)
    if len(new) != size:
        raise UnusableError("the patch makes a file of another size")
    return new


def _bsdiff4(old: bytes, patch: bytes, size: int) -> bytes:
    if len(patch) < _HEADER_BYTES or not patch.startswith(_MAGIC):
        raise UnusableError("the patch does not begin as a bsdiff4 patch")
    control_size, diff_size, new_size = (
        core.decode_int64(patch[at : at + 8]) for at in range(8, _HEADER_BYTES, 8)
    )
    if new_size != size:
        raise UnusableError("the patch announces a file of another size")
    diff_at = _HEADER_BYTES + control_size
    extra_at = diff_at + diff_size
    if not _HEADER_BYTES <= diff_at <= extra_at <= len(patch):
        raise UnusableError("the patch announces blocks that it does not have")
    # bsdiff4.patch() would unpack all three blocks without any limit.
    most_control = _TRIPLE_BYTES * (size // _NEW_BYTES_A_TRIPLE + _SPARE_TRIPLES)
    control = _unpacked(patch[_HEADER_BYTES:diff_at], most_control)
    diff = _unpacked(patch[diff_at:extra_at], size)
    extra = _unpacked(patch[extra_at:], size - len(diff))
    try:
        return bytes(core.patch(old, size, control, diff, extra))
    except ValueError as error:
        raise UnusableError(f"the patch is damaged: {error}") from error


def _unpacked(block: bytes, most: int) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    try:
        data = unpacker.decompress(block, max_length=most + 1)
    except (OSError, ValueError) as error:
        raise UnusableError(f"the patch is damaged: {error}") from error
    if len(data) > most or not unpacker.eof:
        raise UnusableError("the patch is damaged: a block is cut, or larger than it may be")
    return data


def _zstd_patch(old: bytes, patch: bytes, size: int) -> bytes:
    dictionary = None
    if old:
        dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    # The window spans both files, and no more than that is taken.
    window = 1 << max(_LEAST_WINDOW_LOG, (len(old) + size).bit_length())
    try:
        frame = zstandard.get_frame_parameters(patch)
        if frame.content_size != size:
            raise UnusableError("the patch announces a file of another size")
        if frame.window_size > window:
            raise UnusableError("the patch needs more memory than both files")
        unpacker = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=window)
        return unpacker.decompress(patch)
    except zstandard.ZstdError as error:
        raise UnusableError(f"the patch is damaged: {error}") from error
