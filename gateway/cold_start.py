"""Reading the store, for a gateway that starts without Redis.

live                        the pointer, the same bytes as in Redis
blobs/<2 hex>/<64 hex>      the blobs

A folder is read with plain file access; a bucket as store_place.py says.
"""

from pathlib import Path

from gateway.errors import StoreError
from gateway.store_place import Bucket


def read_pointer(store: Path | Bucket) -> bytes | None:
    """Read the pointer, or None where nothing was published. Raises StoreError."""
    if isinstance(store, Bucket):
        return store.get("live")
    try:
        return (store / "live").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise StoreError(f"the store {store} cannot be read: {fault}") from None


def read_blob(store: Path | Bucket, digest: bytes) -> bytes:
    """Read a blob, unverified. Raises StoreError."""
    name = digest.hex()
    if isinstance(store, Bucket):
        data = store.get(f"blobs/{name[:2]}/{name}")
        if data is None:
            raise StoreError(f"blob {name} is not in the store {store}")
        return data
    try:
        return (store / "blobs" / name[:2] / name).read_bytes()
    except OSError as fault:
        raise StoreError(f"blob {name} is not in the store {store}: {fault}") from None
