"""Publishers' public keys, and whether a signature is theirs: Ed25519, RFC 8032. No I/O.

Trusted keys are text, one `name:base64` a line (or between commas), `#` begins a comment:

    ann:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=   # Ann, laptop, 2026

The name is what the history shows as an epoch's author.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_BYTES = 32
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
KEY_NAME_RULE = "up to 64 letters, digits and ._@-, the first a letter or digit"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A publisher's public key: `name` is the author, `raw` the 32 bytes of RFC 8032."""

    name: str
    raw: bytes


def parse_trusted_keys(text: str) -> tuple[PublicKey, ...]:
    """Read trusted keys; the same line twice counts once, no keys give an empty tuple.

    Raises ValueError with a sentence that names the line: for what is no `name:base64`, and for
    one name with two keys or one key with two names, as the author would then be in doubt.
    """
    keys: dict[str, PublicKey] = {}
    names: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for item in line.partition("#")[0].split(","):
            if not item.strip():
                continue
            key = _parse_key(item.strip(), number)
            if keys.setdefault(key.name, key) != key:
                raise ValueError(
                    f"Trusted keys, line {number}: {key.name} has another key already. "
                    "Give each key a name of its own."
                )
            if names.setdefault(key.raw, key.name) != key.name:
                raise ValueError(
                    f"Trusted keys, line {number}: {key.name} has the same key as "
                    f"{names[key.raw]}. Keep one of the two lines."
                )
    return tuple(keys.values())


def _parse_key(item: str, number: int) -> PublicKey:
    name, colon, encoded = item.partition(":")
    name, encoded = name.strip(), encoded.strip()
    if not colon:
        raise ValueError(
            f"Trusted keys, line {number}: {item[:80]!r} has no colon. "
            "Write name:base64, as in the .pub file that `tidegate keygen` made."
        )
    if not KEY_NAME.match(name):
        raise ValueError(
            f"Trusted keys, line {number}: {name[:80]!r} is no key name. Use {KEY_NAME_RULE}."
        )
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ValueError(
            f"Trusted keys, line {number}: what follows {name}: is not {KEY_BYTES} bytes in "
            "base64. Copy the whole line from the .pub file that `tidegate keygen` made."
        )
    return PublicKey(name, raw)


def public_line(key: PublicKey) -> str:
    """Write a key as `parse_trusted_keys` reads it, without a line's end."""
    return f"{key.name}:{base64.b64encode(key.raw).decode('ascii')}"


def key_id(raw: bytes) -> str:
    """Name a key in short: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(raw).hexdigest()[:16]


def verify(key_raw: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether the key's owner signed the message; a malformed key or signature: False."""
    try:
        Ed25519PublicKey.from_public_bytes(key_raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
