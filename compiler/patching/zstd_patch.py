"""The format `zstd-patch`: one zstd frame whose dictionary is the old file, taken as it is.

It is what `zstd --patch-from=OLD` writes and `zstd -d --patch-from=OLD` opens: a raw-content
dictionary without an id, the new file's size in the header, a checksum, and a window over both
files, so that the old one is in reach to the end.
"""

import zstandard

from compiler.patching.patch_error import PatchError

MAGIC = b"\x28\xb5\x2f\xfd"

_LEVEL = 19
_TARGET_LENGTH = 4096  # smaller patches than with the level's own 256, in the same time
_HASH_LOG = 22
_LEAST_WINDOW_LOG, _MOST_WINDOW_LOG = 10, 31  # those of zstd itself
_MOST_CHAIN_LOG = 30


def make(old: bytes, new: bytes) -> bytes:
    """Make the patch. Raises PatchError when zstd's window cannot hold both files."""
    sizes = len(old), len(new)
    if _window_log(*sizes) > _MOST_WINDOW_LOG:
        raise PatchError("zstd-patch cannot span files of 2 GiB together. Use bsdiff4 for these.")
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=len(new),
        dict_size=len(old),
        window_log=_window_log(*sizes),
        chain_log=_chain_log(*sizes),
        hash_log=_HASH_LOG,
        target_length=_TARGET_LENGTH,
        write_content_size=True,
        write_checksum=True,
        write_dict_id=False,
    )
    packer = zstandard.ZstdCompressor(dict_data=_dictionary(old), compression_params=parameters)
    return packer.compress(new)


def memory(old: int, new: int) -> int:
    """Say how many bytes `make` and `apply` take at most, for files of so many bytes.

    The match finder's tables of four bytes an entry, twice: the dictionary has its own.
    """
    tables = 2 * 4 * ((1 << _chain_log(old, new)) + (1 << _HASH_LOG))
    return tables + 3 * (old + new)


def apply(old: bytes, patch: bytes, most: int) -> bytes:
    """Give the new file, of at most so many bytes, in memory of that and a window over both files.

    Raises PatchError.
    """
    if not patch.startswith(MAGIC):
        raise PatchError("This is no zstd-patch: it does not begin as a zstd frame.")
    window = 1 << _window_log(len(old), most)
    try:
        frame = zstandard.get_frame_parameters(patch)
        if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise PatchError("The patch does not say how many bytes it makes.")
        if frame.content_size > most:
            raise PatchError(
                f"The patch makes {frame.content_size:,} bytes, where {most:,} are allowed."
            )
        if frame.window_size > window:
            raise PatchError(
                f"The patch needs a window of {frame.window_size:,} bytes, where {window:,} are "
                "allowed."
            )
        unpacker = zstandard.ZstdDecompressor(dict_data=_dictionary(old), max_window_size=window)
        return unpacker.decompress(patch, allow_extra_data=False)
    except zstandard.ZstdError as fault:
        raise PatchError(f"The patch is damaged: {fault}.") from fault


def _dictionary(old: bytes) -> zstandard.ZstdCompressionDict | None:
    if not old:
        return None
    return zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _window_log(old: int, new: int) -> int:
    return max(_LEAST_WINDOW_LOG, (old + new).bit_length())


def _chain_log(old: int, new: int) -> int:
    """Give the size of the match finder's tree: its half reaches back to the old file's same place.

    Where it was shorter, a patch between files of 50 MB had 10 MB instead of 48 KB.
    """
    farthest = max(old, new) * 5 // 4  # some insertions make the way longer
    return min(_MOST_CHAIN_LOG, max(_LEAST_WINDOW_LOG, farthest.bit_length() + 1))
