"""A developer's key that signs packages, as files (compiler/key_file.py).

<folder>/<name>.pem   the private key
<folder>/<name>.pub   the line to put under `keys:` in workspace.yaml
"""

from pathlib import Path

from compiler.key_file import KEYGEN, KeyFileError, create_key_files, load_private
from compiler.packaging.package_key import (
    NAME,
    NAME_RULE,
    USUAL_RSA_BITS,
    PackageKey,
    SigningKey,
    generate,
    signing_key,
)
from gateway.signing import parse_trusted_keys

COMMAND = f"{KEYGEN} NAME --for packages"


def create_signing_key(
    folder: Path,
    name: str,
    passphrase: str | None,
    algorithm: str,
    rsa_bits: int = USUAL_RSA_BITS,
) -> tuple[Path, PackageKey]:
    """Make a key; give its private file's path and its public half. No file is overwritten.

    Raises KeyFileError for a bad name, passphrase, algorithm or size, when a file exists, or
    cannot be made.
    """
    if not NAME.match(name):
        raise KeyFileError(f"{name!r} is no key name. Use {NAME_RULE}.")
    try:
        key = generate(algorithm, name, rsa_bits)
    except ValueError as fault:
        raise KeyFileError(f"The key cannot be made: {fault}") from fault
    path = create_key_files(folder, name, key.private, key.public.line, passphrase)
    return path, key.public


def load_signing_key(path: Path, passphrase: str | None) -> SigningKey:
    """Read a private key; the passphrase is used only when the file is encrypted.

    Raises KeyFileError: no file, open to others, wrong passphrase, a kind that signs no packages,
    a publisher's key by the .pub file beside it.
    """
    private = load_private(path, passphrase, COMMAND)
    _refuse_publisher(path)
    try:
        return signing_key(private, path.stem)
    except ValueError as fault:
        raise KeyFileError(f"{path}: {fault}") from fault


def _refuse_publisher(path: Path) -> None:
    """Refuse a key that signs epochs: whoever holds it could then make packages trusted too."""
    try:
        if not parse_trusted_keys(path.with_suffix(".pub").read_text()):
            return
    except (OSError, ValueError):
        return  # no .pub file, or that of a key for packages
    raise KeyFileError(
        f"{path} is a publisher's key, which signs epochs (see {path.with_suffix('.pub')}). Make "
        f"one that signs packages: run `{COMMAND}`."
    )
