"""Commands on packages: pack, upload."""

from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.commands.console import byte_progress, say, say_json
from compiler.commands.naming import app_of_file
from compiler.commands.session import AsJson, StorePlace
from compiler.commands.signatures import signature_texts
from compiler.language.encryption_source import read_encryption
from compiler.language.key_source import read_keys
from compiler.language.reading import WORKSPACE_FILE
from compiler.packaging.archive import pack as pack_archive
from compiler.packaging.encryption import encryption_member
from compiler.packaging.record_file import record_entry
from compiler.packaging.upload import upload_all
from compiler.packaging.uploaded import Uploaded
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
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Files that `tidegate pack` made.")
    ],
    store: StorePlace,
    app: Annotated[
        str, typer.Option(help="The app's id, or its file's name. MiniApps name their own.")
    ] = "",
    version: Annotated[
        str, typer.Option(help="Of one file; default: that of the MiniApp's manifest.")
    ] = "",
    plan: Annotated[Path, typer.Option(help="The plan's folder, for the records.")] = Path(),
    signatures: Annotated[
        Path | None, typer.Option(help="Of one file: its signatures. Default: FILE.jws.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put packages into the store.

    As they are, and as gzip and zstd where that is smaller. Each is read back, and its record,
    packages/APP/VERSION.json, written into the plan, to be committed. A version's bytes never
    change: other bytes under an uploaded version are refused. Whenever an upload ends early, the
    same command goes on where it stopped.

    Signatures in FILE.jws go into the record, also when the file is there already. Where the plan
    names keys, one of them must have signed.

    Packages of an app whose file has `encryption:` are sent encrypted only (see `tidegate keygen
    --help`). After a change of it upload the same files again: they are encrypted anew.

    Credentials of buckets come from the environment, or from the machine's role:
    s3:// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, and
    AWS_ENDPOINT_URL for another service than Amazon's (~/.aws is not read: type first
    eval "$(aws configure export-credentials --format env)");
    gs:// GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`;
    az:// AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN.
    """
    if not (plan / WORKSPACE_FILE).is_file():
        raise typer.BadParameter(
            f"{plan} is no plan's folder: it has no {WORKSPACE_FILE}. Name one with --plan."
        )
    if version and len(files) > 1:
        raise typer.BadParameter("--version is for one file. Upload these one by one.")
    if signatures is not None:
        if len(files) > 1:
            raise typer.BadParameter("--signatures is for one file. Upload these one by one.")
        signature_texts(files[0], signatures)
    with byte_progress() as show:
        done = upload_all(
            files,
            app=app_of_file(plan, app) if app else None,
            version=version or None,
            plan=plan,
            store=open_store(store),
            signatures=signatures,
            keys=read_keys(plan),
            encryption=read_encryption(plan),
            progress=show,
        )
    if as_json:
        say_json([_uploaded(each) for each in done])
        return
    for each in done:
        say(each.message)


def _uploaded(done: Uploaded) -> dict[str, Any]:
    return {
        "app": done.app,
        "version": done.version,
        "record": str(done.record),
        "forms": [record_entry(form) for form in done.forms],
        "signatures": done.signatures,
        "encryption": encryption_member(done.encryption) if done.encryption else None,
        "recorded": done.recorded,
        "stored": done.stored,
    }
