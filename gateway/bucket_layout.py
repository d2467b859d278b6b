"""Buckets of hashed ids: how many there are, what an entry keeps, the filter's bits, and packs.

The bytes of buckets, shards and packs are described in layout.py.
"""

import struct
from collections.abc import Iterable

from gateway.errors import FormatError

BUCKET_IDS = 208
"""A bucket holds at most this many ids on average, and over four fifths of it (from 5 buckets)."""

_PACK_LENGTH = struct.Struct(">I")


def encode_pack(buckets: Iterable[bytes]) -> bytes:
    """Join the buckets of a shard for the store."""
    return b"".join(_PACK_LENGTH.pack(len(bucket)) + bucket for bucket in buckets)


def decode_pack(pack: bytes) -> list[bytes]:
    """Split a pack into its buckets. Raises FormatError."""
    buckets, at = [], 0
    while at < len(pack):
        start = at + _PACK_LENGTH.size
        if start > len(pack):
            raise FormatError("a pack of buckets is cut short")
        at = start + _PACK_LENGTH.unpack_from(pack, start - _PACK_LENGTH.size)[0]
        if at > len(pack):
            raise FormatError("a pack of buckets is cut short")
        buckets.append(pack[start:at])
    return buckets


def bucket_count(ids: int) -> int:
    """Choose how many buckets so many ids get: the least of 1, 2, 3 and s * 2**k, s from 4 to 7.

    The count moves in such steps because each step changes every bucket.
    """
    least = max(1, -(-ids // BUCKET_IDS))
    shift = max(0, least.bit_length() - 3)
    return -(-least >> shift) << shift


def remainder_bits(buckets: int) -> int:
    """Tell how many low bits of an id's hash a bucket keeps: 64 - floor(log2 buckets).

    They are enough: two hashes of one bucket differ by less than 2**64 / buckets, and that is at
    most 2**(64 - floor(log2 buckets)), so that equal low bits mean equal hashes.
    """
    return 65 - buckets.bit_length()


_PAIRS = tuple((1 << (slot & 63)) | (1 << (slot >> 6)) for slot in range(4096))


def filter_pattern(hashed: int) -> int:
    """Give the bits, four at most, that an id sets in its word of the filter."""
    return _PAIRS[hashed & 4095] | _PAIRS[(hashed >> 12) & 4095]
