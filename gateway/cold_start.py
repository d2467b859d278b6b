"""Reading the store's folder with plain file access, for a gateway that starts without Redis.

live                        the pointer, the same bytes as in Redis
blobs/<2 hex>/<64 hex>      the blobs
"""

from pathlib import Path

from gateway.errors import StoreError


def read_pointer(store: Path) -> bytes | None:
    """Read the pointer, or None where nothing was published. Raises StoreError."""
    try:
        return (store / "live").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise StoreError(f"the store {store} cannot be read: {fault}") from None


def read_blob(store: Path, digest: bytes) -> bytes:
    """Read a blob, unverified. Raises StoreError."""
    name = digest.hex()
    try:
        return (store / "blobs" / name[:2] / name).read_bytes()
    except OSError as fault:
        raise StoreError(f"blob {name} is not in the store {store}: {fault}") from None
