"""Commands on signatures of packages: sign, verify."""

import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.commands.console import counted, say, say_json
from compiler.commands.passphrase import known_passphrase
from compiler.commands.session import AsJson
from compiler.language.key_source import read_keys
from compiler.language.reading import WORKSPACE_FILE
from compiler.language.shapes import RefusalError
from compiler.language.words import TIME
from compiler.packaging.archive import manifest_of
from compiler.packaging.claims import Claims, SignatureError
from compiler.packaging.package_file import PackageFile, read_package
from compiler.packaging.package_key import PackageKey
from compiler.packaging.package_signature import read_signature
from compiler.packaging.signature_file import beside, read_texts
from compiler.packaging.signing import sign_package
from compiler.packaging.signing_key_file import load_signing_key
from compiler.packaging.trust import Judged, judge, trust_fault

NOT_TRUSTED = 3

PackagePath = Annotated[
    Path, typer.Argument(metavar="FILE", help="A package, as `tidegate pack` made it.")
]
AppOption = Annotated[
    str, typer.Option(help="The app's id. Default: that of the MiniApp's manifest.")
]
VersionOption = Annotated[str, typer.Option(help="Default: the version of the MiniApp's manifest.")]


def sign(
    file: PackagePath,
    key: Annotated[Path, typer.Option(help="A private key: keygen NAME --for packages.")],
    app: AppOption = "",
    version: VersionOption = "",
    clients: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLATFORM=RANGE",
            help='Host apps that can run it, such as android=">=10.2.0". Again for others.',
        ),
    ] = None,
    created: Annotated[
        str, typer.Option(help="When it was made: Unix seconds, or a time. Default: now.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Sign a package: its app, version, bytes and host apps.

    The signature goes into FILE.jws, one line a key: the same key's last line is replaced, and
    those of other keys stay, so that keys can be rotated. `tidegate upload` takes it from there.
    """
    found = read_package(file, app or None, version or None)
    path = key.expanduser()
    signed = sign_package(
        found,
        load_signing_key(path, known_passphrase(path)),
        created=_moment(created),
        clients=_clients(clients or []),
    )
    claims = signed.signature.claims
    if as_json:
        said = {"key": path.stem, "key_id": signed.signature.key_id, "claims": asdict(claims)}
        say_json({"file": str(signed.path), "signatures": signed.keys} | said)
        return
    again = " again" if signed.replaced else ""
    say(f"{path.stem} signed {_what(found)}{again}, for {_hosts(claims)}.")
    say(f"{signed.path}: signed by {counted(signed.keys, 'key')}.")


def verify(
    file: PackagePath,
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PLAN|FILE.pub",
            help="Whom to trust: a plan, its workspace.yaml, or a .pub file. Again for others. "
            "Default: this folder's plan.",
        ),
    ] = None,
    signatures: Annotated[
        Path | None, typer.Option(help="The file of signatures. Default: FILE.jws.")
    ] = None,
    app: AppOption = "",
    version: VersionOption = "",
    as_json: AsJson = False,
) -> None:
    """Tell whether a trusted key has signed just this file.

    Shows every signature: by which key, whether it is trusted, what it claims, and whether that
    is so. Ends with 0 only if a trusted one holds, and none is wrong.
    """
    trusted = _trusted(keys or [])
    texts = signature_texts(file, signatures) or ()
    found = _package(file, app, version, texts)
    judged = judge(texts, found.facts, trusted)
    fault = trust_fault(judged, needs_key=True)
    if as_json:
        rows = [_row(number, each) for number, each in enumerate(judged, 1)]
        said = {"file": str(file), "trusted": fault is None, "fault": fault}
        say_json(said | asdict(found.facts) | {"signatures": rows})
    else:
        say(f"{file}: {_what(found)}, sha256 {found.facts.sha256}")
        for number, each in enumerate(judged, 1):
            say(f"  {number}. {_line(each)}")
        say("Trusted." if fault is None else f"Not trusted: {fault}.")
    if fault is not None:
        raise typer.Exit(NOT_TRUSTED)


def signature_texts(file: Path, signatures: Path | None) -> tuple[str, ...] | None:
    """Read a package's signatures: of the file that is named, else of FILE.jws, None without it.

    Raises BadParameter when the file that is named is not there.
    """
    texts = read_texts(signatures or beside(file))
    if texts is None and signatures is not None:
        raise typer.BadParameter(f"There is no file {signatures}. Sign with `tidegate sign`.")
    return texts


def _package(file: Path, app: str, version: str, texts: Sequence[str]) -> PackageFile:
    """Read the package; a bundle that names no app and version is held to the first signature."""
    claims = None
    if texts and file.is_file() and manifest_of(file) is None:
        try:
            claims = read_signature(texts[0]).claims
        except SignatureError as error:
            if not app or not version:
                raise SignatureError(
                    f"The first signature cannot be used: {error}. Name the package's app and "
                    "version with --app and --version to see the others."
                ) from error
    return read_package(
        file,
        app or (claims.app if claims else None),
        version or (claims.version if claims else None),
    )


def _trusted(sources: Sequence[Path]) -> list[PackageKey]:
    if not sources:
        if not Path(WORKSPACE_FILE).is_file():
            raise typer.BadParameter("Whom do you trust? Say --keys PLAN, or --keys NAME.pub.")
        sources = [Path()]
    found = {key.id: key for source in sources for key in read_keys(source)}
    if not found:
        named = ", ".join(map(str, sources))
        raise typer.BadParameter(
            f"No key is named in {named}. Make one: run `tidegate keygen NAME --for packages`."
        )
    return list(found.values())


def _moment(text: str) -> int:
    if not text:
        return int(time.time())
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    try:
        return TIME.parse(text)
    except RefusalError as fault:
        raise typer.BadParameter(str(fault)) from None


def _clients(pairs: Sequence[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for pair in pairs:
        platform, equals, text = pair.partition("=")
        platform = platform.strip()
        if not equals or not platform or platform in found:
            raise typer.BadParameter(
                f"{pair!r} is no host app. Write each platform once, with its range: "
                '--clients android=">=10.2.0".'
            )
        found[platform] = text.strip()
    return found or None


def _what(package: PackageFile) -> str:
    return f"{package.app} {package.version} ({package.digest.size:,} bytes)"


def _hosts(claims: Claims) -> str:
    if claims.clients is None:
        return "every host app"
    return ", ".join(f"{platform} {text}" for platform, text in sorted(claims.clients.items()))


def _line(judged: Judged) -> str:
    signature = judged.signature
    if signature is None:
        return f"cannot be used: {judged.fault}"
    when = _shown_time(signature.claims.created)
    trusted = "trusted" if judged.key is not None else "not a trusted key"
    said = f"cannot be used: {judged.fault}" if judged.fault else "fits the file"
    if judged.holds:
        said = "holds"
    by = f"{judged.by} ({signature.algorithm}), {trusted}: {said}"
    return f"{by}; signed {when} for {_hosts(signature.claims)}"


def _shown_time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"at second {seconds}"


def _row(number: int, judged: Judged) -> dict[str, Any]:
    signature = judged.signature
    return {
        "number": number,
        "key": judged.key.name if judged.key is not None else None,
        "key_id": signature.key_id if signature else None,
        "algorithm": signature.algorithm if signature else None,
        "trusted": judged.key is not None,
        "holds": judged.holds,
        "fault": judged.fault,
        "claims": asdict(signature.claims) if signature else None,
    }
