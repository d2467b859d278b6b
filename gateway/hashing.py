"""The keyed hash of an id, and what is read off it: percent bucket, spread, filter bits.

One 64-bit hash (XXH3) is taken of each id that a check carries; every use projects that hash:

    h * buckets >> 64  the hashed bucket of the allowlists (gateway/membership.py)
    h * 10000 >> 64    the percent bucket, 0 to 9,999
    bits 0..31         the spread of `check_after`
    bits 0..23         the pattern of bits in the allowlists' filter (bucket_layout.filter_pattern)

The seed is drawn from the workspace and the kind of id, so that a user and a device of one name
differ, and so do two workspaces. Known-answer vectors stand in tests/test_hashing.py: a change
here moves every rollout, and is a new data format.
"""

from functools import lru_cache

from xxhash import xxh3_64_intdigest

PERCENT_BUCKETS = 10_000
"""One bucket is 0.01 %, the smallest step of a percentage."""

_SIDE = 100  # PERCENT_BUCKETS is _SIDE squared: a bucket is a pair of digits to base 100
_ROUNDS = 8
_LOW = 0xFFFF_FFFF
_BYTES = tuple(bytes([digit]) for digit in range(_SIDE))

assert _SIDE * _SIDE == PERCENT_BUCKETS


@lru_cache(maxsize=64)
def id_seed(workspace: str, kind: str) -> int:
    """Seed the hash of ids of one kind (`user` or `device`) in one workspace."""
    return int(xxh3_64_intdigest(f"{workspace}\0{kind}".encode()))


def id_hash(text: str, seed: int) -> int:
    """Hash an id: 64 bits. Raises UnicodeEncodeError for a lone surrogate, which no JSON holds."""
    return int(xxh3_64_intdigest(text.encode(), seed))


_PAIRS = tuple((1 << (slot & 63)) | (1 << (slot >> 6)) for slot in range(4096))


def filter_pattern(hashed: int) -> int:
    """Give the bits, four at most, that an id sets in its word of the filter."""
    return _PAIRS[hashed & 4095] | _PAIRS[(hashed >> 12) & 4095]


def percent_key(app: str, release: str) -> int:
    """Key a release's own order of the percent buckets: it depends on (app, release) alone."""
    return int(xxh3_64_intdigest(f"{app}\0{release}".encode()))


def scaled(hashed: int, count: int) -> int:
    """Project a hash to 0 … count - 1 by multiply and shift (no modulo bias); count < 2**32.

    That is (hashed * count) >> 64, by halves, so that compiled it fits a machine word.
    """
    return ((hashed >> 32) * count + ((hashed & _LOW) * count >> 32)) >> 32


def percent_bucket(hashed: int) -> int:
    """Project an id's hash to its percent bucket."""
    return scaled(hashed, PERCENT_BUCKETS)


def percent_place(bucket: int, key: int) -> int:
    """Give the bucket's place, 0 to 9,999, in the pseudo-random order that `key` draws.

    A release of b basis points reaches the buckets of place below b; as places are a
    permutation, that is exactly b buckets, and raising b only adds. The permutation is a Feistel
    network over two digits to base 100 (Luby and Rackoff 1988; Black and Rogaway 2002), so that
    one place costs eight short hashes and no release carries a table of 10,000.
    """
    left, right = divmod(bucket, _SIDE)
    for turn in range(_ROUNDS):
        left, right = (
            right,
            (left + xxh3_64_intdigest(_BYTES[right], (key + turn) & 0xFFFF_FFFF_FFFF_FFFF)) % _SIDE,
        )
    return left * _SIDE + right
