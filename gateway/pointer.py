"""The pointer to the live epoch: a line of text, the only thing in Redis that changes in place."""

from gateway.errors import FormatError
from gateway.layout import DIGEST_BYTES


def encode_pointer(number: int, digest: bytes) -> bytes:
    """Write the pointer to the live epoch, readable in redis-cli: `42:<hex digest>`."""
    return f"{number}:{digest.hex()}".encode()


def decode_pointer(text: bytes) -> tuple[int, bytes]:
    """Read a pointer: number and digest of the E blob. Raises FormatError."""
    number, _, digest = text.partition(b":")
    try:
        found = int(number), bytes.fromhex(digest.decode())
    except ValueError:
        raise FormatError(f"the pointer {text[:80]!r} is not NUMBER:DIGEST") from None
    if found[0] < 1 or len(found[1]) != DIGEST_BYTES:
        raise FormatError(f"the pointer {text[:80]!r} is not NUMBER:DIGEST")
    return found
