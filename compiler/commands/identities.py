"""Identities of devices, as commands take them: --identity FILE, again for others."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.passphrase import known_passphrase
from compiler.packaging.encryption import Identity
from compiler.packaging.identity_file import load_identities
from compiler.patching.job import Job

IdentityFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="What opens encrypted packages: keygen NAME --for devices. Again for others.",
    ),
]


def identities_for(jobs: Iterable[Job], files: Sequence[Path] | None) -> tuple[Identity, ...]:
    """Read the identities in files, and hold them to the jobs before any work is done.

    Passphrases are as of other keys. Raises KeyFileError; BadParameter when a job is on a package
    that none of the identities opens.
    """
    paths = [file.expanduser() for file in files or ()]
    found = tuple(each for path in paths for each in load_identities(path, known_passphrase(path)))
    held = {identity.recipient for identity in found}
    for job in jobs:
        for source in (job.pair.old, job.pair.new):
            secret = source.encryption
            if secret is None or held.intersection(secret.recipients):
                continue
            why = "none of these identities opens it" if held else "no identity was named"
            raise typer.BadParameter(
                f"{job.pair.app} {source.version} is encrypted (the newest key is "
                f"{secret.key_id}), and {why}. Say --identity FILE, the .age-key file of "
                f"{' or '.join(secret.recipients)}."
            )
    return found
