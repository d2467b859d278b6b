"""A package's file, looked at before it is signed or uploaded: its bytes, app and version."""

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from compiler.packaging.archive import manifest_of
from compiler.packaging.claims import PackageFacts
from compiler.packaging.miniapp import APP_ID_RULE, VERSION_RULE, Manifest, is_app_id, is_version
from compiler.packaging.upload_fault import UploadError
from compiler.storage.media import MINIAPP
from compiler.storage.store import Digest

_CHUNK = 1 << 20
_SUFFIX = re.compile(r"(?:\.tar)?\.[a-z][a-z0-9]{0,7}\Z")


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A local file that is a package: whose, which version, and the digest of its bytes.

    `suffix` is how its objects' names end, such as `.zip`; `media_type` is None where the suffix
    tells it. `code` is a MiniApp's version.code.
    """

    app: str
    version: str
    file: Path
    digest: Digest
    suffix: str
    media_type: str | None
    code: int | None = None

    @property
    def path(self) -> str:
        """The store's path of the file itself."""
        return file_path(self.digest.sha256, self.suffix)

    @property
    def facts(self) -> PackageFacts:
        """What signatures must say of it."""
        return PackageFacts(self.app, self.version, self.digest.size, self.digest.sha256.hex())


def file_path(sha256: bytes, suffix: str) -> str:
    """Name the store's object of these bytes; a CDN serves it by this path."""
    name = sha256.hex()
    return f"files/{name[:2]}/{name}{suffix}"


def read_package(file: Path, app: str | None, version: str | None) -> PackageFile:
    """Read a package's bytes, and agree with its manifest on app and version.

    A MiniApp names its own; of any other file both must be given. Raises UploadError.
    """
    if app is not None and not is_app_id(app):
        raise UploadError(f"{app!r} is no app id. Use {APP_ID_RULE}.")
    try:
        digest = _digest(file)
        manifest = manifest_of(file)
        suffix = _suffix(file)
    except OSError as error:
        raise UploadError(
            f"{error.filename or file} cannot be read: {error.strerror or error}. "
            "Check the path and its permissions."
        ) from error
    if manifest is not None:
        _check_manifest(file, manifest, app, version)
        app = manifest.app
        version = manifest.version if version is None else version
    if app is None:
        raise UploadError(f"{file} names no app. Give it with --app.")
    if version is None:
        raise UploadError(f"{file} names no version. Give it with --version.")
    if not is_app_id(app):  # of the manifest
        raise UploadError(f"{app!r:.200} is no app id. Use {APP_ID_RULE}.")
    if not is_version(version):
        raise UploadError(f"{version!r:.200} is no version. Write {VERSION_RULE}.")
    media_type, code = (MINIAPP, manifest.code) if manifest else (None, None)
    return PackageFile(app, version, file, digest, suffix, media_type, code)


def _digest(file: Path) -> Digest:
    if file.is_dir():
        raise UploadError(f"{file} is a folder. Pack it first: run `tidegate pack`.")
    size, sha256 = 0, hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            sha256.update(chunk)
            size += len(chunk)
    if size == 0:
        raise UploadError(f"{file} is empty. Pack it again.")
    return Digest(size, sha256.digest())


def _suffix(file: Path) -> str:
    if zipfile.is_zipfile(file):
        return ".zip"
    found = _SUFFIX.search(file.name.lower())
    suffix = found[0] if found else ".bin"
    if suffix == ".zip":
        raise UploadError(f"{file} is no whole ZIP. Pack it again, or fetch it again.")
    return suffix


def _check_manifest(file: Path, manifest: Manifest, app: str | None, version: str | None) -> None:
    if app is not None and manifest.app != app:
        raise UploadError(
            f"{file} is a package of {manifest.app!r:.200}, not of {app}. "
            "Take the other file, or name the other app."
        )
    if None not in {version, manifest.version} and version != manifest.version:
        raise UploadError(
            f"{file} says in its manifest that it is version {manifest.version!r:.200}, "
            f"not {version}. Take the other file, or leave --version out."
        )
