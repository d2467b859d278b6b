"""The command on encryption: encrypt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.commands.console import byte_progress, say, say_json
from compiler.commands.naming import app_of_file
from compiler.commands.session import AsJson
from compiler.language.encryption_source import read_encryption
from compiler.language.reading import WORKSPACE_FILE
from compiler.packaging.archive import manifest_of
from compiler.packaging.encrypted_file import EncryptedFile, default_target, encrypt_file
from compiler.packaging.encryption import parse_recipient
from compiler.packaging.forms import SUFFIXES
from compiler.packaging.identity_file import COMMAND


def encrypt(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Packages, or any other files.")
    ],
    app: Annotated[
        str,
        typer.Option(help="Encrypt to this app's `encryption:`: its id, or its file's name."),
    ] = "",
    plan: Annotated[Path, typer.Option(help="The plan's folder.")] = Path(),
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="age1…", help="Instead of an app's: a recipient. Again for others."),
    ] = None,
    compression: Annotated[
        str, typer.Option(help="Before it is encrypted: zstd, gzip, or identity for none.")
    ] = "zstd",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Of one file; default: FILE.zst.age.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt files for devices that hold an app's identity, in the age format.

    Each is compressed first, as phones expect it, and becomes FILE.zst.age beside it. To open one:
    age -d -i NAME.age-key FILE.zst.age | zstd -d > FILE

    Whom for: the app's `encryption:` in the plan (a MiniApp names its app itself), or --to.
    `tidegate upload` encrypts by itself; this is for other ways to a phone.
    """
    if compression not in SUFFIXES:
        raise typer.BadParameter(f"--compression is {', '.join(SUFFIXES)}, not {compression!r}.")
    if out is not None and len(files) > 1:
        raise typer.BadParameter("--out is for one file. Encrypt these one by one.")
    if to and app:
        raise typer.BadParameter("Say --app or --to, not both.")
    orders = [(file, _recipients(file, app, plan, to or ())) for file in files]
    done = []
    with byte_progress() as show:
        for file, recipients in orders:
            target = out or default_target(file, compression)
            done.append(encrypt_file(file, target, compression, recipients, show))
    if as_json:
        say_json([_as_data(each) for each in done])
        return
    for each in done:
        say(
            f"{each.target}: {each.size:,} bytes (from {each.plain_size:,}, {compression}), "
            f"encrypted to {', '.join(each.recipients)}"
        )


def _recipients(file: Path, app: str, plan: Path, to: Sequence[str]) -> list[str]:
    """Give whom a file is for. Raises BadParameter when nobody is named."""
    if to:
        try:
            return list(dict.fromkeys(map(parse_recipient, to)))
        except ValueError as fault:
            raise typer.BadParameter(str(fault)) from None
    if not (plan / WORKSPACE_FILE).is_file():
        raise typer.BadParameter(
            f"Whom for? {plan} is no plan's folder: say --to age1…, or name one with --plan."
        )
    if not app:
        manifest = manifest_of(file) if file.is_file() else None
        if manifest is None:
            raise typer.BadParameter(f"{file} names no app. Say --app, or --to age1….")
        app = manifest.app
    else:
        app = app_of_file(plan, app)
    found = read_encryption(plan).get(app)
    if found is None:
        raise typer.BadParameter(
            f"The plan encrypts no app {app!r:.80}. Make an identity with `{COMMAND}`, put its "
            "line under encryption: in the app's file, or say --to age1…."
        )
    return [each.recipient for each in found]


def _as_data(done: EncryptedFile) -> dict[str, Any]:
    return {
        "file": str(done.target),
        "size": done.size,
        "sha256": done.sha256,
        "recipients": list(done.recipients),
    }
