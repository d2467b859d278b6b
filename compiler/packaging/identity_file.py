"""Identities of devices, as files that every age tool reads.

<folder>/<name>.age-key     mode 0600; what `age-keygen` writes, inside an age file that a
                            passphrase opens (`age -p`), if there is one
<folder>/<name>.recipient   the line to put under `encryption:` in an app's file

    # created: 2026-11-22T09:00:00Z
    # public key: age1…
    AGE-SECRET-KEY-1…
"""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path

import pyrage  # type: ignore[import-untyped]

from compiler.key_file import (
    AGE_ARMOR,
    AGE_MAGIC,
    KEYGEN,
    KeyFileError,
    create_files,
    read_private,
)
from compiler.packaging.encryption import Identity, new_identity, parse_identity
from compiler.packaging.package_key import NAME, NAME_RULE
from compiler.plan import Recipient

COMMAND = f"{KEYGEN} NAME --for devices"
PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".age-key", ".recipient"

MOST_WORK = 22
"""The highest work factor of a passphrase, as a power of two, and the highest that `age` takes.

`age -p` writes 18. The library that makes ours takes what costs a second: 19 or 20, so 1 GiB.
"""

_MOST_IDENTITIES = 100
_SCRYPT = re.compile(rb"age-encryption\.org/v1\n-> scrypt [A-Za-z0-9+/]{22} ([1-9][0-9]?)\n")


def recipient_line(recipient: Recipient) -> str:
    """Write a recipient as an entry of `encryption:`."""
    return f"- {{key: {recipient.key}, recipient: {recipient.recipient}}}"


def create_identity(folder: Path, name: str, passphrase: str | None) -> tuple[Path, Recipient]:
    """Make an identity; give its private file's path and its recipient. Nothing is overwritten.

    Raises KeyFileError for a bad name or passphrase, when a file exists, or cannot be written.
    """
    if not NAME.match(name):
        raise KeyFileError(f"{name!r} is no key name. Use {NAME_RULE}.")
    if passphrase == "":
        raise KeyFileError("The passphrase is empty. Type one, or ask for a key without.")
    identity = new_identity()
    recipient = Recipient(name, identity.recipient)
    text = (
        f"# created: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n"
        f"# public key: {identity.recipient}\n{identity.secret}\n"
    )
    data = text.encode()
    if passphrase is not None:
        data = pyrage.passphrase.encrypt(data, passphrase)
    path = folder / f"{name}{PRIVATE_SUFFIX}"
    public = folder / f"{name}{PUBLIC_SUFFIX}"
    create_files(path, data, public, recipient_line(recipient))
    return path, recipient


def load_identities(path: Path, passphrase: str | None) -> tuple[Identity, ...]:
    """Read a file of identities; the passphrase is used only when the file is encrypted.

    Raises KeyFileError: a recipient, no file, open to others, wrong passphrase, an absurd work
    factor, no identity, one of another kind.
    """
    if path.suffix == PUBLIC_SUFFIX:
        raise KeyFileError(
            f"{path} is a recipient, which opens nothing. Name the identity that was made with "
            f"it: {path.with_suffix(PRIVATE_SUFFIX)}"
        )
    data = read_private(path, COMMAND)
    if data.startswith((AGE_MAGIC, AGE_ARMOR)):
        data = _opened(path, data, passphrase)
    lines = [line.strip() for line in data.decode("ascii", "replace").split("\n")]
    found = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(found) <= _MOST_IDENTITIES:
        raise KeyFileError(
            f"{path} holds {len(found) or 'no'} identities, not 1 to {_MOST_IDENTITIES}. Make one "
            f"with `{COMMAND}`."
        )
    try:
        return tuple(parse_identity(line) for line in found)
    except ValueError as fault:
        raise KeyFileError(
            f"{path} holds a line that is no identity: {fault}. Take the file from a copy, or make "
            f"one with `{COMMAND}`."
        ) from None


def _opened(path: Path, data: bytes, passphrase: str | None) -> bytes:
    if data.startswith(AGE_ARMOR):
        data = _without_armor(path, data)
    work = _SCRYPT.match(data)
    if work is None:
        raise KeyFileError(
            f"{path} is an age file that no passphrase opens. Name a file of identities, which "
            f"`{COMMAND}` makes."
        )
    if int(work[1]) > MOST_WORK:
        raise KeyFileError(
            f"{path} asks for 2^{int(work[1])} steps to try a passphrase, and 2^{MOST_WORK} are "
            "allowed: it is damaged, or hostile. Take it from a copy."
        )
    if not passphrase:
        raise KeyFileError(f"{path} is encrypted. Give its passphrase.")
    try:
        opened: bytes = pyrage.passphrase.decrypt(data, passphrase)
    except (pyrage.DecryptError, OSError) as error:
        raise KeyFileError(
            f"{path} does not open with this passphrase. Try again; if you are sure of it, the "
            "file is damaged: take it from a copy."
        ) from error
    return opened


def _without_armor(path: Path, data: bytes) -> bytes:
    """Take the base64 of `age -p --armor` apart, so that what it asks for is seen before."""
    lines = data.split()
    begin, end = AGE_ARMOR.split(), AGE_ARMOR.replace(b"BEGIN", b"END").split()
    damaged = f"{path} is damaged or cut. Take it from a copy."
    if lines[-len(end) :] != end:
        raise KeyFileError(damaged)
    try:
        return base64.b64decode(b"".join(lines[len(begin) : -len(end)]), validate=True)
    except ValueError as error:
        raise KeyFileError(damaged) from error
