"""`tidegate upload`: a package's file goes to the store, and its record into the plan.

    store   files/<2 hex>/<64 hex>.zip       the bytes under their SHA-256; a CDN serves this path
    plan    packages/<app>/<version>.json    the record, committed with the plan:

    {
      "format": 1,
      "forms": [{"compression": "identity", "path": "files/ab/….zip", "sha256": "…", "size": 9}],
      "sha256": "…",                         hex, of the file as it is installed
      "signatures": [],
      "size": 9                              bytes, of the file as it is installed
    }

The identity form is the file itself; other forms (gzip, zstd) take their place beside it. A
version's bytes never change: a record is written once, and other bytes are refused.
"""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.atomic_file import atomic_file
from compiler.packaging.archive import manifest_of
from compiler.packaging.miniapp import APP_ID_RULE, VERSION_RULE, Manifest, is_app_id, is_version
from compiler.storage.store import Digest, Store
from gateway.errors import StoreError, TidegateError
from gateway.version import PLAN_PARTS, parse_version

FORMAT = 1
IDENTITY = "identity"

_CHUNK = 1 << 20
_SUFFIX = re.compile(r"(?:\.tar)?\.[a-z][a-z0-9]{0,7}\Z")


class UploadError(TidegateError):
    """A package, app or version that cannot be uploaded; the sentence says why."""


class UploadRefusedError(UploadError):
    """Other bytes, or another spelling, of a version that has its record already."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What is so now: the record's file, the object's path in the store, and the version.

    `size` is in bytes, `sha256` in hex. `recorded` and `stored` tell what this call did itself.
    """

    app: str
    version: str
    record: Path
    path: str
    size: int
    sha256: str
    recorded: bool
    stored: bool

    @property
    def message(self) -> str:
        """Say in a sentence what was done."""
        what = f"{self.app} {self.version} ({self.size:,} bytes)"
        if self.recorded:
            return f"{what} is uploaded; commit {self.record} with the plan."
        if self.stored:
            return f"{what} was recorded already; its file is in this store now."
        return f"{what} is there already, with the same bytes: nothing changed."


def upload(package: Path, *, app: str, version: str | None, plan: Path, store: Store) -> Uploaded:
    """Put a package into the store, read it back, and write its record into the plan's folder.

    `version` may be None for a MiniApp, which names its own. Raises UploadError (the input is
    wrong), UploadRefusedError (the version has other bytes), StoreError.
    """
    if not is_app_id(app):
        raise UploadError(f"{app!r} is no app id. Use {APP_ID_RULE}.")
    try:
        _check_plan(plan)
        found = _digest(package)
        version = _agreed_version(package, app, version)
        suffix = _suffix(package)
    except OSError as error:
        raise UploadError(
            f"{error.filename or package} cannot be read: {error.strerror or error}. "
            "Check the path and its permissions."
        ) from error
    record = plan / "packages" / app / f"{version}.json"
    _refuse_equal_version(record, version)
    sha256 = found.sha256.hex()
    path = f"files/{sha256[:2]}/{sha256}{suffix}"
    recorded_path = _recorded_path(record, found)
    stored = _store_file(store, recorded_path or path, package, found)
    if recorded_path is None:
        _write_record(record, _record(found, path))
    return Uploaded(
        app=app,
        version=version,
        record=record,
        path=recorded_path or path,
        size=found.size,
        sha256=sha256,
        recorded=recorded_path is None,
        stored=stored,
    )


def _check_plan(plan: Path) -> None:
    if not plan.is_dir():
        raise UploadError(f"There is no plan at {plan}. Name the plan's folder.")


def _digest(package: Path) -> Digest:
    if package.is_dir():
        raise UploadError(f"{package} is a folder. Pack it first: run `tidegate pack`.")
    size, sha256 = 0, hashlib.sha256()
    with package.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            size += len(chunk)
    if size == 0:
        raise UploadError(f"{package} is empty. Pack it again.")
    return Digest(size, sha256.digest())


def _suffix(package: Path) -> str:
    if zipfile.is_zipfile(package):
        return ".zip"
    found = _SUFFIX.search(package.name.lower())
    suffix = found[0] if found else ".bin"
    if suffix == ".zip":
        raise UploadError(f"{package} is no whole ZIP. Pack it again, or fetch it again.")
    return suffix


def _agreed_version(package: Path, app: str, version: str | None) -> str:
    """Give the version, once the command line and the package's manifest say the same."""
    manifest = manifest_of(package)
    if manifest is not None:
        _check_manifest(package, manifest, app, version)
    if version is None:
        version = manifest.version if manifest is not None else None
    if version is None:
        raise UploadError(f"{package} names no version. Give it with --version.")
    if not is_version(version):
        raise UploadError(f"{version!r:.200} is no version. Write {VERSION_RULE}.")
    return version


def _check_manifest(package: Path, manifest: Manifest, app: str, version: str | None) -> None:
    if manifest.app != app:
        raise UploadError(
            f"{package} is a package of {manifest.app!r:.200}, not of {app}. "
            "Upload the other file, or name the other app."
        )
    if None not in {version, manifest.version} and version != manifest.version:
        raise UploadError(
            f"{package} says in its manifest that it is version {manifest.version!r:.200}, "
            f"not {version}. Upload the other file, or leave --version out."
        )


def _refuse_equal_version(record: Path, version: str) -> None:
    """Refuse `1.0` beside a record of `1.0.0.0`: they are one version, with one file's bytes."""
    key = parse_version(version, PLAN_PARTS)
    for other in sorted(record.parent.glob("*.json")):
        if other.stem != version and parse_version(other.stem, PLAN_PARTS) == key:
            raise UploadRefusedError(
                f"{version} equals {other.stem}, which has its record already ({other}). "
                "Pack a new version, or write this one in the same way."
            )


def _recorded_path(record: Path, found: Digest) -> str | None:
    """Give the store's path that an existing record of the same bytes names; None: no record."""
    try:
        value = json.loads(record.read_bytes())
        if value["format"] != FORMAT:
            raise UploadError(
                f"{record} has format {value['format']}, which this Tidegate does not know. "
                "Install a newer one."
            )
        size, sha256, forms = value["size"], value["sha256"], value["forms"]
        paths = [str(form["path"]) for form in forms if form["compression"] == IDENTITY]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UploadError(
            f"{record} cannot be read: {error.strerror}. Check the plan's folder packages/."
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UploadError(
            f"{record} is no record of a package. Take it from Git again, or remove it."
        ) from error
    if (size, sha256) != (found.size, found.sha256.hex()):
        raise UploadRefusedError(
            f"{record} records other bytes for this version, and a version's bytes never change. "
            "Pack a new version."
        )
    # A record may come from anywhere: it shall not make an upload write over other objects.
    if not paths or not paths[0].startswith(f"files/{sha256[:2]}/{sha256}."):
        raise UploadError(f"{record} names no identity form in files/. Take it from Git again.")
    return paths[0]


def _store_file(store: Store, path: str, package: Path, expected: Digest) -> bool:
    """Put the file there unless it is already, whole; read it back. False: it was there."""
    if store.digest_named(path) == expected:
        return False
    store.put_file(path, package)
    if store.digest_named(path) != expected:
        raise StoreError(
            f'The store {store.name} did not keep "{path}" as it was sent, or {package} changed '
            "meanwhile. Run the upload again; if it fails again, check the disk."
        )
    return True


def _record(found: Digest, path: str) -> dict[str, Any]:
    sha256 = found.sha256.hex()
    form = {"compression": IDENTITY, "size": found.size, "sha256": sha256, "path": path}
    return {
        "format": FORMAT,
        "size": found.size,
        "sha256": sha256,
        "forms": [form],
        "signatures": [],
    }


def _write_record(record: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        with atomic_file(record) as file:
            file.write(text.encode())
    except OSError as error:
        raise UploadError(
            f"{record} cannot be written: {error.strerror or error}. "
            "Give this user the right to write in the plan's folder."
        ) from error
