"""A publisher's private key: one Ed25519 key a person, in a PEM file that only they can read.

<folder>/<name>.pem   PKCS #8, encrypted when there is a passphrase; mode 0600
<folder>/<name>.pub   one line `name:base64`, for the gateways' trusted keys
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import TidegateError
from gateway.signing import KEY_NAME, KEY_NAME_RULE, PublicKey, key_id, public_line

_FILE_LIMIT = 65_536  # bytes; a key file has some 200
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PublisherKeyError(TidegateError):
    """A key file that cannot be made or used; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """A private key ready to sign; `public.name` is the author that the history shows."""

    public: PublicKey
    _private: Ed25519PrivateKey = field(repr=False)

    @property
    def name(self) -> str:
        """The publisher's name: the file's name without `.pem`."""
        return self.public.name

    @property
    def raw(self) -> bytes:
        """The public key's 32 bytes."""
        return self.public.raw

    @property
    def id(self) -> str:
        """The public key's short name (gateway.signing.key_id)."""
        return key_id(self.public.raw)

    def sign(self, message: bytes) -> bytes:
        """Sign: 64 bytes that gateway.signing.verify accepts for this key and message only."""
        return self._private.sign(message)


def create_key(folder: Path, name: str, passphrase: str | None) -> Path:
    """Make a key and give its private file's path. Neither file is ever overwritten.

    Raises PublisherKeyError for a bad name or passphrase, when a file exists, or cannot be made.
    """
    if not KEY_NAME.match(name):
        raise PublisherKeyError(f"{name!r} is no key name. Use {KEY_NAME_RULE}.")
    if passphrase == "":
        raise PublisherKeyError("The passphrase is empty. Type one, or ask for a key without.")
    private_path, public_path = folder / f"{name}.pem", folder / f"{name}.pub"
    private = Ed25519PrivateKey.generate()
    public = PublicKey(name, private.public_key().public_bytes_raw())
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase.encode())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    try:
        _refuse_existing(private_path, public_path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(private_path, pem, 0o600)
        _create(public_path, public_line(public).encode() + b"\n", 0o644)
    except OSError as error:
        raise PublisherKeyError(
            f"The key cannot be written: {error.filename or folder}: {error.strerror}. "
            "Choose a folder that you may write to."
        ) from error
    return private_path


def load_key(path: Path, passphrase: str | None) -> PublisherKey:
    """Read a private key; the passphrase is used only when the file is encrypted.

    Raises PublisherKeyError: no file, open to others, wrong passphrase, no Ed25519 key.
    """
    name = path.stem
    if not KEY_NAME.match(name):
        raise PublisherKeyError(
            f"{path} has no key name: the file's name is the publisher's. Use {KEY_NAME_RULE}."
        )
    pem = _read_private(path)
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem
    if encrypted and not passphrase:
        raise PublisherKeyError(f"{path} is encrypted. Give its passphrase.")
    secret = passphrase.encode() if encrypted and passphrase else None
    try:
        private = serialization.load_pem_private_key(pem, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PublisherKeyError(
            f"{path} does not open with this passphrase. Try again; if you are sure of it, the "
            "file is damaged: take it from a copy."
            if encrypted
            else f"{path} holds no readable private key. Make one with `tidegate keygen`."
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise PublisherKeyError(
            f"{path} holds a key of another kind; epochs are signed with Ed25519. "
            "Make one with `tidegate keygen`."
        )
    return PublisherKey(PublicKey(name, private.public_key().public_bytes_raw()), private)


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise PublisherKeyError(
                f"{path} exists already, and a key is never overwritten. "
                "Choose another name, or move the old key away."
            )


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; a write that fails leaves nothing behind."""
    # Opened with its mode, so that the key is at no moment readable by others.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # Asked of the open file, so that it cannot be changed for another in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PublisherKeyError(f"{path} is no regular file. Name a .pem file.")
            if status.st_mode & _OPEN_TO_OTHERS:
                raise PublisherKeyError(
                    f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}), so its "
                    f"key may be known. Run `chmod 600 {path}`, or make a new key."
                )
            return file.read(_FILE_LIMIT)
    except FileNotFoundError as error:
        raise PublisherKeyError(
            f"There is no key at {path}. Make one: run `tidegate keygen`."
        ) from error
    except OSError as error:
        raise PublisherKeyError(
            f"{path} cannot be read: {error.strerror}. Check the path and who owns the file."
        ) from error
