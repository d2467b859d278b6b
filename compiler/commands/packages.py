"""Commands on packages and keys: pack, upload, keygen."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import say, say_json
from compiler.commands.naming import app_of_file
from compiler.commands.session import AsJson, StorePlace
from compiler.language.reading import WORKSPACE_FILE
from compiler.packaging.archive import pack as pack_archive
from compiler.packaging.upload import upload as upload_package
from compiler.publication.publisher_key import create_key
from compiler.storage.store import open_store


def pack(
    source: Annotated[Path, typer.Argument(help="A folder, or a tarball (.tgz, .tar.gz, .tar).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ZIP file to write.")],
    app: Annotated[str, typer.Option(help="Hold a MiniApp's app_id to this app.")] = "",
    kind: Annotated[
        str, typer.Option(help="miniapp or bundle; default: a MiniApp if it has a manifest.json.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a package from a folder or a tarball.

    A ZIP of stored entries: the same input gives the same bytes, on any machine.
    """
    if kind not in ("", "miniapp", "bundle"):
        raise typer.BadParameter(f"--kind is miniapp or bundle, not {kind!r}.")
    packed = pack_archive(source, out, app=app or None, kind=kind or None)  # type: ignore[arg-type]
    if as_json:
        say_json(
            {
                "file": str(out),
                "size": packed.size,
                "sha256": packed.sha256,
                "entries": packed.entries,
            }
        )
    else:
        say(f"{out}: {packed.entries} files, {packed.size:,} bytes, sha256 {packed.sha256}")


def upload(
    package: Annotated[Path, typer.Argument(help="A file that `tidegate pack` made.")],
    app: Annotated[str, typer.Option(help="The app's id, or its file's name.")],
    store: StorePlace,
    version: Annotated[str, typer.Option(help="Default: that of the MiniApp's manifest.")] = "",
    plan: Annotated[Path, typer.Option(help="The plan's folder, for the record.")] = Path(),
) -> None:
    """Put a package into the store.

    And its record, packages/APP/VERSION.json, into the plan, to be committed: size and SHA-256.
    A version's bytes never change: other bytes under an uploaded version are refused.
    """
    if not (plan / WORKSPACE_FILE).is_file():
        raise typer.BadParameter(
            f"{plan} is no plan's folder: it has no {WORKSPACE_FILE}. Name one with --plan."
        )
    found = upload_package(
        package,
        app=app_of_file(plan, app),
        version=version or None,
        plan=plan,
        store=open_store(store),
    )
    say(found.message)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise typer.BadParameter("This user has no name here. Say yours: NAME.") from None


def keygen(
    name: Annotated[str, typer.Argument(help="Your name, as the history will show it.")] = "",
    folder: Annotated[Path, typer.Option("--dir", help="Where keys are kept.")] = Path(
        "~/.config/tidegate"
    ),
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="For machines; the file alone can sign.")
    ] = False,
) -> None:
    """Make a publisher's key (Ed25519), one a person.

    The history shows the key's name as the author. You sign with NAME.pem; gateways that are
    told to trust NAME.pub serve what you push.
    """
    passphrase = None
    if not no_passphrase:
        passphrase = os.environ.get("TIDEGATE_KEY_PASSPHRASE")
        if passphrase is None:
            if not sys.stdin.isatty():
                raise typer.BadParameter(
                    "Nobody can type a passphrase here: set TIDEGATE_KEY_PASSPHRASE, or say "
                    "--no-passphrase."
                )
            passphrase = getpass.getpass("Passphrase: ")
            if getpass.getpass("Again: ") != passphrase:
                raise typer.BadParameter("The two passphrases differ.")
    path = create_key(folder.expanduser(), name or _user(), passphrase)
    say(f"{path}: keep it to yourself. To sign with it: export TIDEGATE_KEY={path}")
    public = path.with_suffix(".pub")
    say(f"{public}: give it to the gateways: TIDEGATE_TRUSTED_KEYS={public}")
