"""Passphrases of private keys: from TIDEGATE_KEY_PASSPHRASE, else typed."""

import getpass
import os
import sys
from pathlib import Path

import typer

from compiler.key_file import is_encrypted

_VARIABLE = "TIDEGATE_KEY_PASSPHRASE"


def new_passphrase() -> str:
    """Give the passphrase for a new key. Raises BadParameter where nobody can type one."""
    passphrase = os.environ.get(_VARIABLE)
    if passphrase is not None:
        return passphrase
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"Nobody can type a passphrase here: set {_VARIABLE}, or say --no-passphrase."
        )
    passphrase = getpass.getpass("Passphrase: ")
    if getpass.getpass("Again: ") != passphrase:
        raise typer.BadParameter("The two passphrases differ.")
    return passphrase


def known_passphrase(file: Path) -> str | None:
    """Give the passphrase of a key file; None when it has none, or nobody can type it."""
    passphrase = os.environ.get(_VARIABLE)
    if passphrase is None and is_encrypted(file) and sys.stdin.isatty():
        return getpass.getpass(f"Passphrase of {file.name}: ")
    return passphrase
