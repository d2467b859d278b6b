"""The data format, version 2: what the compiler writes and the gateway serves from.

Everything is a *blob*: immutable bytes, named by their SHA-256. One epoch is a tree of blobs:

    pointer ─► E epoch ─► C contents ─┬─► S settings            (one)
    (Redis)   (signed)    ▲           ├─► P program             (one an app)
                          │           ├─► W switches            (one, if there are switches)
                D compiled (in files) ├─► M membership sets     (one, if there are lists of ids)
                                      ├─► H shard of buckets    (one for 240 buckets)
                                      │     └─► bucket          (Redis only, by its short digest)
                                      ├─► pack of buckets       (store only, one for one shard)
                                      └─► T plan tree ─┬─► plan files and list ids as plain text
                                                       ├─► A patches    (an app that has some)
                                                       └─► seats        (a frozen window; no frame)

Frame. Every lettered blob starts with 16 bytes; numbers are big-endian unless said otherwise:

    0   4  magic "TGD2"
    4   1  kind: the letter
    5   1  format version, 2
    6   2  zero
    8   8  XXH3-64 of the payload (finds damage cheaply; SHA-256 and the signature prove origin)
    16  …  payload

The payload of E, C, S, P, W, M, T, A and D is one MessagePack map whose fields are the TypedDicts
below: they are the document, the types that mypy checks, and what `decode` holds every blob to. A
field missing, unknown or of another type is a FormatError. Map keys are written in sorted order,
so equal data gives equal bytes.

Bitmaps are little-endian byte strings without trailing zeros: bit i (value 2**i) is the release of
rank i, rank 0 being the strongest: the AND of bitmaps holds the candidates, the lowest bit wins.

A *line* table maps an ordered value to a bitmap: with sorted bounds b0 < b1 < … it has 2n+1 cells:
cell 2i+1 for the value b[i] itself, cell 2i for values between b[i-1] and b[i]. A schedule is
half-open instead: n bounds and n+1 cells, cell i for b[i-1] <= second < b[i].

The bucket of a hash is (hash * buckets) >> 64, so that bucket j begins with the hash
ceil(j * 2**64 / buckets). A reader takes any count of buckets; bucket_layout.py chooses.

Shard (H): for each of its buckets 16 bytes of digest, then for each of its buckets FILTER_WORDS
little-endian 64-bit words of the filter. All zeros as a digest says that the bucket is empty and
has no key. So a shard of k buckets has a payload of k * (16 + 8 * FILTER_WORDS) bytes. Every shard
but the last has SHARD_BUCKETS buckets.

Bucket (no frame; its digest stands in the shard): one entry an id, sorted by hash. An entry is the
remainder of the hash, its low `remainder_bits(buckets)` bits, then the number of the id's set in
`number_bits` bits: together one big-endian number of whole bytes, without a gap. Example: of 57,344
buckets the remainders have 49 bits; with numbers of 23 bits an entry has 9 bytes (remainder 1 and
number 5: 00 00 00 00 00 00 80 00 05), and a bucket of 174 ids 1,566 bytes.

Pack: the buckets of one shard, one after another, each preceded by its length in 4 bytes.
The filter: bit pattern `filter_pattern(hash)` is set in the word of index
(hash * buckets * FILTER_WORDS) >> 64, counted over all shards; that word is of the hash's bucket.

Windows. A release with an open time window stands in its program's `windows`: its seats are asked
for in Redis. Once it is frozen, as nobody else will be seated, it does not stand there: its seats
are ids of the list `window:<app>/<release>`, which it needs like any other list.

Sets (M): three columns of little-endian 32-bit numbers. `numbers` holds the sets' numbers, and
`ends` where the members of each end, both strictly ascending; `members` holds indexes into `lists`.
The set of number numbers[i] is on the lists of members[ends[i-1]:ends[i]] (from 0 for the first),
ascending and never none. So s sets of m members in all take 4 * (2 * s + m) bytes.

Compatibility: changed fields or hashes make a new version (the magic's digit and the version byte
are one number). A reader takes its own and the one before (1 was never released). _UPGRADES makes
of an older map one of today's. Signed and Epoch never change: they are the history.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any, TypedDict, cast

import msgpack
from xxhash import xxh3_64_intdigest

from gateway.errors import FormatError, OtherFormatError
from gateway.shape import hold

FORMAT = 2
FORMATS = (2,)  # that this code reads
FORMATS_READ = f"this Tidegate reads {' and '.join(map(str, FORMATS))} only"

_HEAD = struct.Struct(">4sBBHQ")
_MAGIC = b"TGD%d" % FORMAT

DIGEST_BYTES = 32
BUCKET_DIGEST_BYTES = 16
EMPTY_BUCKET = bytes(BUCKET_DIGEST_BYTES)
FILTER_WORDS = 32
"""Words of the filter for a bucket: 6.5 ids a word at most, so under 2 % of strangers pass."""
SHARD_BUCKETS = 240
"""A full shard is just under 64 KiB, a size that Redis's allocator hands out without waste."""
MAX_BUCKETS = 1 << 27
"""So that filter words are numbered in 32 bits; at 208 ids each, 27 thousand million ids."""
MAX_NUMBER_BITS = 32

assert _HEAD.size == 16
assert MAX_BUCKETS * FILTER_WORDS <= 1 << 32


class Line(TypedDict):
    """A line table over versions (texts), or over numbers; see above for the cells."""

    bounds: list[str] | list[int | float]
    cells: list[bytes]


class Schedule(TypedDict):
    """Which releases are active at a second: half-open cells."""

    bounds: list[int]
    cells: list[bytes]


class Globs(TypedDict):
    """The releases in `bits` accept a text only if one of `patterns` (case folded) matches it."""

    patterns: list[str]
    bits: bytes


class Text(TypedDict):
    """A table over case-folded texts: those that a condition names, else `other`, less globs."""

    exact: dict[str, bytes]
    other: bytes
    globs: list[Globs]


class Attribute(TypedDict):
    """The table of one attribute; `absent` is the bitmap when it counts as not sent.

    A text attribute has `text`; a version has `versions`, and `text` too if a condition matches
    it by pattern; a custom one has those of `text`, `numbers` and `bools` (for false, for true)
    whose kind a condition compares with. A client's value of a kind without table is `absent`.
    """

    absent: bytes
    text: Text | None
    versions: Line | None
    numbers: Line | None
    bools: list[bytes] | None


class Hosts(TypedDict):
    """Which releases' packages serve a host app: by platform (case folded), then client_version.

    `any` is for clients of an unnamed platform, or without a readable client_version.
    """

    any: bytes
    platforms: dict[str, Line]


class ListNeed(TypedDict):
    """The releases in `bits` need a member of one of `lists`, if any, of none of `not_lists`."""

    lists: list[str]
    not_lists: list[str]
    bits: bytes


class Percent(TypedDict):
    """The release of this rank reaches the percent buckets whose place under `key` is below."""

    rank: int
    basis_points: int
    by_user: bool
    key: int


class WindowEntry(TypedDict):
    """The release of this rank has an open window, whose seats are asked for in Redis."""

    rank: int
    by_user: bool


class FormEntry(TypedDict):
    """One downloadable form of a package; `path` is appended to a CDN base."""

    compression: str
    size: int
    sha256: str
    path: str


class EncryptionEntry(TypedDict):
    """How the bytes at every path of a package are encrypted, and for whose key."""

    format: str
    key_id: str


class PatchEntry(TypedDict):
    """A patch from the `installed` version's file; `path` is appended to a CDN base."""

    installed: str
    format: str
    size: int
    sha256: str
    path: str


class PackageEntry(TypedDict):
    """A package that some release of the program offers; `info` is JSON text."""

    version: str
    download: str
    install: str
    info: bytes | None
    size: int
    sha256: str
    forms: list[FormEntry]
    encryption: EncryptionEntry | None
    patches: list[PatchEntry]
    signatures: list[str]


class ReleaseEntry(TypedDict):
    """A release, or a step of its ramp; its place in the list is its rank; `package` an index."""

    id: str
    package: int
    upgrade: str


class Tables(TypedDict):
    """The compiled decision tables: they say which ranks accept a client."""

    schedule: Schedule
    hosts: Hosts
    attributes: dict[str, Attribute]
    lists: list[ListNeed]
    percents: list[Percent]


class Program(Tables):
    """One app: releases are the ranks; phones may have `versions`, and tell of known releases.

    Those in `halts` have a guardrail.
    """

    app: str
    packages: list[PackageEntry]
    versions: list[str]
    known_releases: list[str]
    halts: list[str]
    withdrawn: list[str]
    releases: list[ReleaseEntry]
    windows: list[WindowEntry]


class Split(TypedDict):
    """Weighted variants, by the place of a subject's percent bucket under `key`.

    Who has a place from bounds[i-1] (0 for the first) to below bounds[i] gets variants[i], an
    index into those of the switch. The bounds rise, and the last one is 10,000.
    """

    key: int
    bounds: list[int]
    variants: list[int]


class TargetEntry(TypedDict):
    """What a switch gives to whom one of its rows accepts: the variant, or one of the split.

    A split counts subjects as a percentage does, and without a subject its row accepts nobody.
    """

    variant: int | None
    split: Split | None
    by_user: bool


class VariantEntry(TypedDict):
    """A variant of a switch; `value` is JSON text."""

    name: str
    value: bytes


class SwitchEntry(TypedDict):
    """A switch: the first of its rows that accepts a client decides, else `default`."""

    key: str
    variants: list[VariantEntry]
    default: int
    enabled: bool
    targeting: list[TargetEntry]


class Switches(Tables):
    """All switches, by key: their targeting rows, one after another, are the ranks."""

    switches: list[SwitchEntry]


class Cdn(TypedDict):
    """The ordered bases for regions that match a pattern (case folded); `expires` is cdn.py's."""

    regions: list[str]
    bases: list[str]
    expires: int | None


class ListEntry(TypedDict):
    """A list's kind of id, and its regular expressions (none: its ids are in the buckets).

    The kind is user, device, or that of a frozen window: subject, the device id or else the user
    id.
    """

    of: str
    regex: list[str]


class Identity(TypedDict):
    """Whose tokens count, see identity.py; `keys`: by `kid` ("" for none) the key's SPKI (DER)."""

    keys: dict[str, bytes]
    issuer: str | None
    audience: list[str]
    device: str


class Settings(TypedDict):
    """What holds for the whole workspace; `check_after` in seconds."""

    workspace: str
    check_after: int
    cdn: list[Cdn]
    placeholders: list[str]
    cors: list[str]
    identity: Identity | None
    lists: dict[str, ListEntry]


class Sets(TypedDict):
    """The membership sets that ids refer to, as packed columns; see above."""

    number_bits: int
    lists: list[str]
    numbers: bytes
    ends: bytes
    members: bytes


class Membership(TypedDict):
    """Where the hashed buckets are: how many, and the digests of sets, shards and packs."""

    buckets: int
    ids: int
    sets: bytes
    shards: list[bytes]
    packs: list[bytes]


class Amended(TypedDict):
    """Hashes of ids (64 bits, sorted, big-endian) that overrides put on a list or take off it."""

    added: bytes
    removed: bytes


class Contents(TypedDict):
    """What an epoch publishes: equal for equal plans and overrides.

    `format` is that of its oldest blob; `amended` is by list.
    """

    format: int
    settings: bytes
    programs: dict[str, bytes]
    switches: bytes | None
    membership: Membership | None
    amended: dict[str, Amended]
    plan: bytes


class ListFile(TypedDict):
    """A list's ids in the store: sorted, one a line; `of`, and how many."""

    digest: bytes
    of: str
    count: int
    column: str | None


class Override(TypedDict):
    """One value laid over the plan: `what` of which app's release or version; see the compiler."""

    what: str
    app: str
    name: str
    value: str


class Patches(TypedDict):
    """What was known of an app's patches: by the version that they lead to."""

    patches: dict[str, list[PatchEntry]]


class Window(TypedDict):
    """A time window of the plan: what its record in Redis is to say, and, once frozen, its seats.

    `starts` is given if the pace is linear; `state` is that of the release. `seats` is the digest
    of a blob of `count` sorted big-endian 64-bit hashes, and both are empty while it is open.
    """

    first: int
    until: int
    starts: int | None
    by_user: bool
    state: str
    seats: bytes
    count: int


class Tree(TypedDict):
    """The plan's texts and lists, files and A blobs by app, and what lies over it.

    `switch_apps` are those that switches name; `windows` has every release with a time window, as
    `<app>/<release>`.
    """

    files: dict[str, bytes]
    apps: dict[str, str]
    switch_apps: list[str]
    lists: dict[str, ListFile]
    patches: dict[str, bytes]
    overrides: list[Override]
    windows: dict[str, Window]


class Epoch(TypedDict):
    """One publication. `previous` is the digest of the epoch before (empty for the first)."""

    format: int
    workspace: str
    number: int
    previous: bytes
    contents: bytes
    author: str
    time: int
    note: str
    commit: str


class Signed(TypedDict):
    """The envelope: `epoch` is the encoded Epoch map, signed as SIGNED_CONTEXT + epoch."""

    epoch: bytes
    key: bytes
    signature: bytes


class Compiled(TypedDict):
    """The root of an image file made by `compile --out`; `commit` is Git's, or empty."""

    contents: bytes
    commit: str


SIGNED_CONTEXT = b"tidegate epoch\0"

Blob = bytes | memoryview
"""A blob's bytes, or a view of them where they lie in a mapped file."""

_KINDS: dict[type, bytes] = {
    Signed: b"E",
    Contents: b"C",
    Settings: b"S",
    Program: b"P",
    Switches: b"W",
    Sets: b"M",
    Tree: b"T",
    Patches: b"A",
    Compiled: b"D",
}
_SHARD = b"H"

_UPGRADES: dict[type, Callable[[Any], Any]] = {}
"""By shape: makes of a decoded map of the version before one of FORMAT. Others did not change."""


def digest_of(blob: Blob) -> bytes:
    """Name a blob: its SHA-256."""
    return hashlib.sha256(blob).digest()


def bucket_digest(bucket: bytes) -> bytes:
    """Name a bucket: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(bucket).digest()[:BUCKET_DIGEST_BYTES]


def encode(shape: type, value: Any) -> bytes:
    """Encode a map of the given shape as a framed blob. Raises FormatError if it doesn't fit."""
    hold(value, shape)
    return _frame(_KINDS[shape], pack_map(value))


def decode(shape: type, blob: Blob) -> Any:
    """Decode a framed blob to a map of the shape (a TypedDict above). Raises FormatError."""
    return unpack_map(shape, _unframe(_KINDS[shape], blob), blob[5])


def decode_again(shape: type, blob: Blob) -> Any:
    """Decode a framed blob that `decode` took before: without a look at its shape."""
    return _brought_forward(shape, msgpack.unpackb(memoryview(blob)[_HEAD.size :]), blob[5])


def pack_map(value: Any) -> bytes:
    """Write a map as MessagePack with sorted keys."""
    return cast("bytes", msgpack.packb(_sorted(value)))


def unpack_map(shape: type, payload: Blob, version: int = FORMAT) -> Any:
    """Read a MessagePack map of a version and hold it to its shape of today. Raises FormatError."""
    try:
        value = _brought_forward(shape, msgpack.unpackb(payload), version)
    except (ValueError, LookupError, TypeError, msgpack.UnpackException, RecursionError) as fault:
        raise FormatError(
            f"{shape.__name__} is not MessagePack of format {version}: {fault!r}"
        ) from None
    hold(value, shape)
    return value


def _brought_forward(shape: type, value: Any, version: int) -> Any:
    return value if version == FORMAT or shape not in _UPGRADES else _UPGRADES[shape](value)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, kind[0], FORMAT, 0, xxh3_64_intdigest(payload)) + payload


def _unframe(kind: bytes, blob: Blob) -> memoryview:
    """Give the payload, not copied: a large copy would hold up an event loop."""
    if len(blob) < _HEAD.size:
        raise FormatError(f"a blob of {len(blob)} bytes is cut short: its head alone takes 16")
    magic, found, version, zero, checksum = _HEAD.unpack_from(blob)
    if magic[:3] != _MAGIC[:3] or zero or (version in FORMATS and magic != b"TGD%d" % version):
        raise FormatError(f"this is no Tidegate blob: it does not start with {_MAGIC.decode()}")
    if version not in FORMATS:
        raise OtherFormatError(f"it is in data format {version}, and {FORMATS_READ}")
    if found != kind[0]:
        raise FormatError(f"this blob is of kind {chr(found)!r}, where {kind.decode()!r} must be")
    payload = memoryview(blob)[_HEAD.size :]
    if xxh3_64_intdigest(payload) != checksum:
        raise FormatError("a blob is damaged: its payload does not have its checksum")
    return payload


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def all_bits(releases: int) -> int:
    """Give the bitmap of so many releases: here, as compiled code would shift it in C."""
    return (1 << releases) - 1


def encode_bits(bits: int) -> bytes:
    """Write a bitmap of ranks."""
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def decode_bits(data: bytes) -> int:
    """Read a bitmap of ranks."""
    return int.from_bytes(data, "little")


def encode_shard(digests: bytes, words: bytes) -> bytes:
    """Join the digests and the filter words (little-endian) of up to SHARD_BUCKETS buckets."""
    return _frame(_SHARD, digests + words)


def decode_shard(blob: Blob) -> tuple[bytes, bytes]:
    """Split a shard into digests and filter words. Raises FormatError."""
    digests, words = view_shard(blob)
    return digests.tobytes(), words.tobytes()


def view_shard(blob: Blob) -> tuple[memoryview, memoryview]:
    """Split a shard as `decode_shard` does, but copy nothing."""
    payload = _unframe(_SHARD, blob)
    each = BUCKET_DIGEST_BYTES + 8 * FILTER_WORDS
    count, rest = divmod(len(payload), each)
    if rest or not 0 < count <= SHARD_BUCKETS:
        raise FormatError(f"a shard of {len(payload)} payload bytes holds no whole buckets")
    border = count * BUCKET_DIGEST_BYTES
    return payload[:border], payload[border:]
