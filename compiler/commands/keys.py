"""Commands on keys: keygen."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import say
from compiler.commands.passphrase import new_passphrase
from compiler.packaging.identity_file import PUBLIC_SUFFIX, create_identity, recipient_line
from compiler.packaging.package_key import EDDSA, USUAL_RSA_BITS
from compiler.packaging.signing_key_file import create_signing_key
from compiler.publication.publisher_key import create_key

EPOCHS, PACKAGES, DEVICES = "epochs", "packages", "devices"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise typer.BadParameter("This user has no name here. Say yours: NAME.") from None


def keygen(
    name: Annotated[str, typer.Argument(help="Your name, as the history will show it.")] = "",
    purpose: Annotated[
        str, typer.Option("--for", help="What it signs, epochs or packages; or devices.")
    ] = EPOCHS,
    algorithm: Annotated[
        str, typer.Option(help="Of a key for packages: EdDSA (the default), ES256 or RS256.")
    ] = "",
    rsa_bits: Annotated[
        int,
        typer.Option(
            "--bits", help="Of an RS256 key, 2048 to 8192.", show_default=str(USUAL_RSA_BITS)
        ),
    ] = 0,
    folder: Annotated[Path, typer.Option("--dir", help="Where keys are kept.")] = Path(
        "~/.config/tidegate"
    ),
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="For machines; the file alone is enough.")
    ] = False,
) -> None:
    """Make a key: one that signs epochs, one that signs packages, or devices' identity.

    A publisher's key (Ed25519, one a person): the history shows its name as the author. You push
    with NAME.pem; gateways that are told to trust NAME.pub serve what you push.

    With --for packages: you sign with NAME.pem; a plan that names the line in NAME.pub under
    `keys:` offers what you signed, and nothing that nobody signed.

    With --for devices: an age identity, NAME.age-key, which goes into the host apps that shall
    open what is encrypted; an app whose file names the line in NAME.recipient under `encryption:`
    is encrypted to them. Every age tool reads both.

    The passphrase is asked, or taken from TIDEGATE_KEY_PASSPHRASE.
    """
    if purpose not in (EPOCHS, PACKAGES, DEVICES):
        raise typer.BadParameter(f"--for is epochs, packages or devices, not {purpose!r}.")
    if purpose != PACKAGES and (algorithm or rsa_bits):
        fixed = "Epochs are signed with Ed25519" if purpose == EPOCHS else "Identities are X25519"
        raise typer.BadParameter(f"{fixed}; say --for packages to choose.")
    if rsa_bits and algorithm != "RS256":
        raise typer.BadParameter("--bits is for --algorithm RS256.")
    passphrase = None if no_passphrase else new_passphrase()
    folder, name = folder.expanduser(), name or _user()
    if purpose == PACKAGES:
        path, key = create_signing_key(
            folder, name, passphrase, algorithm or EDDSA, rsa_bits or USUAL_RSA_BITS
        )
        say(f"{path}: keep it to yourself. To sign with it: tidegate sign FILE --key {path}")
        say(f"{path.with_suffix('.pub')}: its line, to be put under keys: in workspace.yaml:")
        say(f"  {key.line}")
        return
    if purpose == DEVICES:
        path, recipient = create_identity(folder, name, passphrase)
        say(f"{path}: what devices open packages with; keep it secret, and a copy of it.")
        public = path.with_suffix(PUBLIC_SUFFIX)
        say(f"{public}: its line, to be put first under encryption: in the app's file:")
        say(f"  {recipient_line(recipient)}")
        return
    path = create_key(folder, name, passphrase)
    say(f"{path}: keep it to yourself. To sign with it: export TIDEGATE_KEY={path}")
    public = path.with_suffix(".pub")
    say(f"{public}: give it to the gateways: TIDEGATE_TRUSTED_KEYS={public}")
