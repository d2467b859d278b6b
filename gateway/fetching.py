"""Fetching blobs from Redis in pieces so small that the event loop never feels them."""

from collections.abc import AsyncIterator, Iterator, Sequence

from gateway.errors import StoreError
from gateway.keys import Keys
from gateway.link import AsyncLink

KEYS_AT_ONCE = 100
BYTES_AT_ONCE = 1 << 19
"""A round trip reads at most so much (or one blob): some milliseconds of the event loop."""


async def fetch(
    link: AsyncLink, keys: Keys, digests: Sequence[bytes]
) -> AsyncIterator[dict[bytes, bytes]]:
    """Yield blobs, unverified, in batches. Raises StoreError when one is missing, RedisFault."""
    for start in range(0, len(digests), KEYS_AT_ONCE):
        some = digests[start : start + KEYS_AT_ONCE]
        sizes = await _pipelined(link, "STRLEN", [keys.blob(digest) for digest in some])
        for batch in _batches(some, sizes):
            found = await _pipelined(link, "GET", [keys.blob(digest) for digest in batch])
            blobs = {}
            for digest, blob in zip(batch, found, strict=True):
                if not isinstance(blob, bytes):
                    raise StoreError(f"blob {digest.hex()} is missing in Redis")
                blobs[digest] = blob
            yield blobs


async def _pipelined(link: AsyncLink, command: str, names: Sequence[str]) -> list[object]:
    pipeline = link.pipeline(transaction=False)
    for name in names:
        pipeline.execute_command(command, name)
    values: list[object] = await pipeline.execute()
    return values


def _batches(digests: Sequence[bytes], sizes: Sequence[object]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    total = 0
    for digest, size in zip(digests, sizes, strict=True):
        if not isinstance(size, int) or size == 0:
            raise StoreError(f"blob {digest.hex()} is missing in Redis")
        if batch and total + size > BYTES_AT_ONCE:
            yield batch
            batch, total = [], 0
        batch.append(digest)
        total += size
    if batch:
        yield batch
