"""Encryption in the age format (age-encryption.org/v1, X25519), to whoever holds an identity.

A recipient (`age1…`) is public and stands in the plan; its identity (`AGE-SECRET-KEY-1…`) is what
devices hold (identity_file.py). A file is encrypted once, to all its recipients; any one of their
identities opens it. age is randomised: the same bytes encrypted again are other bytes.

Streams pass in pieces of 64 KiB. What is decrypted counts only once all of it is: each piece is
authentic, but a cut file shows at its end.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, cast

import pyrage  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from compiler.key_file import AGE_MAGIC
from compiler.plan import Encryption, Recipient
from gateway.errors import TidegateError

AGE = "age"
SUFFIX = ".age"
MOST_RECIPIENTS = 8
"""Of one app: each costs every download some 100 bytes, and a device one try."""

SECRET_MARK = "AGE-SECRET-KEY-"  # noqa: S105 - how an identity begins

_MOST_HEADER = 16_384  # bytes; of MOST_RECIPIENTS it has some 1,000
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_POINT_BYTES = 32
_CHECKSUM_CHARS = 6


class Source(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes; none at the end."""


class Target(Protocol):
    """What can be written."""

    def write(self, data: bytes, /) -> int:
        """Take the bytes."""

    def flush(self) -> None:
        """Pass on what was taken."""


class EncryptionError(TidegateError):
    """What cannot be encrypted or decrypted; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What opens files: its public half, and the secret itself, which is never shown."""

    recipient: str
    secret: str = field(repr=False)


@lru_cache(maxsize=4096)
def parse_recipient(text: str) -> str:
    """Give a recipient as age writes it. Raises ValueError with a sentence, without a secret."""
    if text.upper().startswith(SECRET_MARK):
        raise ValueError(
            "This is an identity, which opens what is encrypted: it is known to whoever reads "
            "this. Make another with `tidegate keygen NAME --for devices`, and write its "
            "recipient (age1…)."
        )
    try:
        found = str(pyrage.x25519.Recipient.from_str(text))
    except pyrage.RecipientError as error:
        raise ValueError(
            f"{text!r:.80} is no recipient of age's kind X25519 ({error}). Write the age1… line "
            "that `tidegate keygen NAME --for devices` or `age-keygen` prints."
        ) from error
    # Of a point of low order the shared secret is known to everybody, and age's library panics.
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(_point(found)))
    except ValueError as error:
        raise ValueError(
            f"{text!r:.80} is no honest recipient: everybody could open what is encrypted to it. "
            "Take the age1… line from `tidegate keygen NAME --for devices`."
        ) from error
    return found


def _point(recipient: str) -> bytes:
    """Unpack the 32 bytes of a recipient whose checksum has been verified."""
    number = 0
    digits = recipient.rpartition("1")[2][:-_CHECKSUM_CHARS]
    for digit in digits:
        number = number << 5 | _BECH32.index(digit)
    return (number >> len(digits) * 5 - _POINT_BYTES * 8).to_bytes(_POINT_BYTES)


def parse_identity(text: str) -> Identity:
    """Read an identity (AGE-SECRET-KEY-1…). Raises ValueError with a sentence that keeps it."""
    try:
        found = pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError as error:
        raise ValueError(f"this is no identity of age's kind X25519 ({error})") from error
    return Identity(str(found.to_public()), str(found))


def new_identity() -> Identity:
    """Make an identity by the system's randomness."""
    made = pyrage.x25519.Identity.generate()
    return Identity(str(made.to_public()), str(made))


def encryption_of(recipients: Sequence[Recipient]) -> Encryption | None:
    """Say how what is encrypted to them is described in records and answers; None for nobody."""
    if not recipients:
        return None
    return Encryption(AGE, recipients[0].key, tuple(each.recipient for each in recipients))


def is_for(found: Encryption | None, wanted: Encryption | None) -> bool:
    """Tell whether something is encrypted as is wanted: to the same all, the same named first."""
    if found is None or wanted is None:
        return found is wanted
    return (found.key_id, sorted(found.recipients)) == (wanted.key_id, sorted(wanted.recipients))


def read_encryption(value: object) -> Encryption:
    """Read the member `encryption` of a record or an index. Raises ValueError, TypeError."""
    if not isinstance(value, dict) or value.keys() != {"format", "key_id", "recipients"}:
        raise ValueError("encryption has other members")
    format_, key_id, recipients = value["format"], value["key_id"], value["recipients"]
    if format_ != AGE or not isinstance(key_id, str) or not _KEY_ID.match(key_id):
        raise ValueError("encryption is of another kind")
    if not isinstance(recipients, list) or not 0 < len(recipients) <= MOST_RECIPIENTS:
        raise ValueError("encryption has no recipients, or too many")
    return Encryption(AGE, key_id, tuple(map(parse_recipient, recipients)))


def encryption_member(encryption: Encryption) -> dict[str, Any]:
    """Write the member `encryption` of a record or an index."""
    return {
        "format": encryption.format,
        "key_id": encryption.key_id,
        "recipients": list(encryption.recipients),
    }


def encrypt(source: Source, target: Target, recipients: Sequence[str]) -> None:
    """Encrypt a stream to recipients. Raises EncryptionError, and what the two streams raise."""
    try:
        public = [pyrage.x25519.Recipient.from_str(parse_recipient(each)) for each in recipients]
    except ValueError as error:
        raise EncryptionError(str(error)) from error
    reader, writer = _Watched(source), _Watched(target)
    try:
        pyrage.encrypt_io(reader, writer, public)
    except (pyrage.EncryptError, OSError) as error:
        _raise_first(reader, writer)
        raise EncryptionError(f"Nothing can be encrypted: {error}") from error


def decrypt(source: Source, target: Target, identities: Sequence[Identity]) -> None:
    """Decrypt a stream; what `target` got counts only when this returns.

    Raises EncryptionError when no identity opens it, or when it is damaged or cut; and what the
    two streams raise.
    """
    secrets = [pyrage.x25519.Identity.from_str(each.secret) for each in identities]
    head = _head(source)
    reader, writer = _Watched(source, head), _Watched(target)
    try:
        pyrage.decrypt_io(reader, writer, secrets)
    except (pyrage.DecryptError, OSError) as error:  # the latter for what is damaged, too
        _raise_first(reader, writer)
        raise EncryptionError(_why(str(error))) from error


def encrypted(data: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypt bytes. Raises EncryptionError."""
    target = io.BytesIO()
    encrypt(io.BytesIO(data), target, recipients)
    return target.getvalue()


def decrypted(data: bytes, identities: Sequence[Identity]) -> bytes:
    """Decrypt bytes; the result is never longer than they are. Raises EncryptionError."""
    target = io.BytesIO()
    decrypt(io.BytesIO(data), target, identities)
    return target.getvalue()


def _head(source: Source) -> bytes:
    """Read the beginning, which holds the whole header. Raises EncryptionError if it does not.

    age's library takes a time that grows by the square of a header's length, however long it is.
    """
    head = b""
    while len(head) < _MOST_HEADER and (more := source.read(_MOST_HEADER - len(head))):
        head += more
    if not head.startswith(AGE_MAGIC) or b"\n---" not in head:
        raise EncryptionError(_why("it has no header as such files have"))
    return head


def _why(said: str) -> str:
    if said.startswith("No matching keys"):
        return "none of the identities opens it: it was encrypted to others"
    return f"it is no whole age file: damaged, cut, or something else ({said})"


def _raise_first(*watched: "_Watched") -> None:
    for each in watched:
        if each.fault is not None:
            raise each.fault


class _Watched:
    """A stream that remembers what it raised: age's library would give its text alone."""

    def __init__(self, stream: Any, head: bytes = b"") -> None:
        self._stream = stream
        self._head = head  # what was read of it before
        self.fault: BaseException | None = None

    def read(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        with self._watch():
            return cast("bytes", self._stream.read(size))

    def write(self, data: bytes) -> int:
        with self._watch():
            self._stream.write(data)
            return len(data)

    def flush(self) -> None:
        with self._watch():
            self._stream.flush()

    @contextmanager
    def _watch(self) -> Iterator[None]:
        try:
            yield
        except BaseException as fault:
            self.fault = fault
            raise
