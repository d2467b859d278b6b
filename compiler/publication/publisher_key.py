"""A publisher's private key: one Ed25519 key a person, in a PEM file that only they can read.

<folder>/<name>.pem   the key (compiler/key_file.py)
<folder>/<name>.pub   one line `name:base64`, for the gateways' trusted keys
"""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compiler.key_file import KeyFileError, create_key_files, load_private
from gateway.signing import KEY_NAME, KEY_NAME_RULE, PublicKey, key_id, public_line


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

    Raises KeyFileError for a bad name or passphrase, when a file exists, or cannot be made.
    """
    if not KEY_NAME.match(name):
        raise KeyFileError(f"{name!r} is no key name. Use {KEY_NAME_RULE}.")
    private = Ed25519PrivateKey.generate()
    public = PublicKey(name, private.public_key().public_bytes_raw())
    return create_key_files(folder, name, private, public_line(public), passphrase)


def load_key(path: Path, passphrase: str | None) -> PublisherKey:
    """Read a private key; the passphrase is used only when the file is encrypted.

    Raises KeyFileError: no file, open to others, wrong passphrase, no Ed25519 key.
    """
    name = path.stem
    if not KEY_NAME.match(name):
        raise KeyFileError(
            f"{path} has no key name: the file's name is the publisher's. Use {KEY_NAME_RULE}."
        )
    private = load_private(path, passphrase)
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} holds a key of another kind; epochs are signed with Ed25519. "
            "Make one with `tidegate keygen`."
        )
    return PublisherKey(PublicKey(name, private.public_key().public_bytes_raw()), private)
