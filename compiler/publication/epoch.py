"""One epoch as the commands see it, and the names of all that it needs.

the store needs   everything but the buckets, which lie in its packs
Redis needs       everything but packs, patches, the lists' ids and the seats of frozen windows,
                  and the buckets
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from compiler.windows import frozen_of
from gateway import layout
from gateway.errors import OtherFormatError
from gateway.pointer import encode_pointer

Reader = Callable[[bytes], bytes]
"""Gives a blob by its digest. Raises StoreError or FormatError."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An epoch that has been read: its number and digest, what it says, and what it publishes."""

    digest: bytes
    epoch: layout.Epoch
    contents: layout.Contents
    tree: layout.Tree

    @property
    def number(self) -> int:
        """The epoch's number."""
        return self.epoch["number"]

    @property
    def pointer(self) -> bytes:
        """The pointer to this epoch."""
        return encode_pointer(self.number, self.digest)


def read_epoch(blob: bytes) -> tuple[layout.Signed, layout.Epoch]:
    """Read an E blob; its signature is not looked at. Raises FormatError."""
    signed: layout.Signed = layout.decode(layout.Signed, blob)
    epoch: layout.Epoch = layout.unpack_map(layout.Epoch, signed["epoch"])
    if epoch["format"] not in layout.FORMATS:
        raise OtherFormatError(f"it is in data format {epoch['format']}, and {layout.FORMATS_READ}")
    return signed, epoch


def read_publication(digest: bytes, blob: Reader) -> Publication:
    """Read the epoch of this digest. Raises what `blob` raises, and FormatError."""
    _, epoch = read_epoch(blob(digest))
    contents: layout.Contents = layout.decode(layout.Contents, blob(epoch["contents"]))
    tree: layout.Tree = layout.decode(layout.Tree, blob(contents["plan"]))
    return Publication(digest, epoch, contents, tree)


def mirrored_digests(contents: layout.Contents, tree: layout.Tree) -> set[bytes]:
    """Name the blobs below a contents blob that Redis needs (the buckets apart)."""
    found = {contents["settings"], contents["plan"]}
    found.update(contents["programs"].values(), tree["files"].values())
    if contents["switches"] is not None:
        found.add(contents["switches"])
    membership = contents["membership"]
    if membership is not None:
        found.update((membership["sets"], *membership["shards"]))
    return found


def stored_digests(publication: Publication) -> set[bytes]:
    """Name every blob that the store needs for an epoch, the epoch's own and contents included."""
    found = published_digests(publication.contents, publication.tree)
    found.update((publication.digest, publication.epoch["contents"]))
    return found


def published_digests(contents: layout.Contents, tree: layout.Tree) -> set[bytes]:
    """Name the blobs below a contents blob that the store needs."""
    found = mirrored_digests(contents, tree)
    found.update(each["digest"] for each in tree["lists"].values())
    found.update(tree["patches"].values())
    found.update(each["seats"] for each in frozen_of(tree["windows"]).values())
    membership = contents["membership"]
    if membership is not None:
        found.update(membership["packs"])
    return found


def shard_buckets(shard: bytes) -> list[bytes]:
    """Give the digests of a shard's buckets in order; EMPTY_BUCKET has no key. FormatError."""
    digests, _ = layout.decode_shard(shard)
    size = layout.BUCKET_DIGEST_BYTES
    return [digests[at : at + size] for at in range(0, len(digests), size)]


def bucket_digests(publication: Publication, blob: Reader) -> set[bytes]:
    """Name every bucket that Redis needs for an epoch."""
    membership = publication.contents["membership"]
    shards = membership["shards"] if membership is not None else []
    found = {digest for shard in shards for digest in shard_buckets(blob(shard))}
    return found - {layout.EMPTY_BUCKET}


def described(epoch: layout.Epoch) -> str:
    """Name an epoch in a sentence: `epoch 42 (ann, 2026-11-22 09:00:00 UTC, "ramp to 10 %")`."""
    note = f', "{epoch["note"]}"' if epoch["note"] else ""
    return f"epoch {epoch['number']} ({epoch['author']}, {shown_time(epoch['time'])}{note})"


def shown_time(seconds: int) -> str:
    """Write Unix seconds for people, in UTC."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
