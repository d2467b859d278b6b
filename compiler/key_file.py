"""Private keys as files: one that only its owner can read, and a line of text beside it.

<folder>/<name>.pem   PKCS #8, encrypted when there is a passphrase; mode 0600
<folder>/<name>.pub   the public key, one line, for those who trust it

Identities of age are files of another format (packaging/identity_file.py), kept in the same way.
What the public line looks like, and which kinds of key do, is for those who use the key to say.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from gateway.errors import TidegateError

KEYGEN = "tidegate keygen"

_FILE_LIMIT = 65_536  # bytes; a key file has some 200, of RSA some 3,000
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
AGE_MAGIC = b"age-encryption.org/"
AGE_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"


class KeyFileError(TidegateError):
    """A key file that cannot be made or used; the sentence says what to do."""


def create_key_files(
    folder: Path, name: str, private: PrivateKeyTypes, public_line: str, passphrase: str | None
) -> Path:
    """Write both files and give the private one's path. Neither is ever overwritten.

    Raises KeyFileError for an empty passphrase, when a file exists, or cannot be written.
    """
    if passphrase == "":
        raise KeyFileError("The passphrase is empty. Type one, or ask for a key without.")
    private_path, public_path = folder / f"{name}.pem", folder / f"{name}.pub"
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase.encode())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    create_files(private_path, pem, public_path, public_line)
    return private_path


def create_files(private_path: Path, data: bytes, public_path: Path, public_line: str) -> None:
    """Write a private key, for its owner alone, and its public line. Neither is overwritten.

    Raises KeyFileError when a file exists, or cannot be written.
    """
    folder = private_path.parent
    try:
        _refuse_existing(private_path, public_path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(private_path, data, 0o600)
        _create(public_path, public_line.encode() + b"\n", 0o644)
    except OSError as error:
        raise KeyFileError(
            f"The key cannot be written: {error.filename or folder}: {error.strerror}. "
            "Choose a folder that you may write to."
        ) from error


def is_encrypted(path: Path) -> bool:
    """Tell whether a key file needs a passphrase; a file that cannot be read does not."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT)
    except OSError:
        return False
    return _ENCRYPTED in data or data.startswith((AGE_MAGIC, AGE_ARMOR))


def load_private(path: Path, passphrase: str | None, command: str = KEYGEN) -> PrivateKeyTypes:
    """Read a private key; the passphrase is used only when the file is encrypted.

    `command` is what makes such a key. Raises KeyFileError: a public key, no file, open to
    others, wrong passphrase, no key.
    """
    if path.suffix == ".pub":
        raise KeyFileError(
            f"{path} is a public key. Name the private one that was made with it: "
            f"{path.with_suffix('.pem')}"
        )
    pem = read_private(path, command)
    encrypted = _ENCRYPTED in pem
    if encrypted and not passphrase:
        raise KeyFileError(f"{path} is encrypted. Give its passphrase.")
    secret = passphrase.encode() if encrypted and passphrase else None
    try:
        return serialization.load_pem_private_key(pem, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path} does not open with this passphrase. Try again; if you are sure of it, the "
            "file is damaged: take it from a copy."
            if encrypted
            else f"{path} holds no readable private key. Make one with `{command}`."
        ) from error


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise KeyFileError(
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


def read_private(path: Path, command: str) -> bytes:
    """Read a private file; `command` is what makes such a one.

    Raises KeyFileError: no file, not a regular one, open to others.
    """
    try:
        with path.open("rb") as file:
            # Asked of the open file, so that it cannot be changed for another in between.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path} is no regular file. Name a file.")
            if status.st_mode & _OPEN_TO_OTHERS:
                raise KeyFileError(
                    f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}), so its "
                    f"key may be known. Run `chmod 600 {path}`, or make a new key."
                )
            return file.read(_FILE_LIMIT)
    except FileNotFoundError as error:
        raise KeyFileError(f"There is no key at {path}. Make one: run `{command}`.") from error
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be read: {error.strerror}. Check the path and who owns the file."
        ) from error
