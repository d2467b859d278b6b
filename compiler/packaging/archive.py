"""`tidegate pack`: a folder or a tarball becomes a package, the same bytes on any machine.

A package is a ZIP with stored entries (stored_zip.py): patches between such files are
seven times smaller than between deflated ones, and the whole compresses better for transport.
Times, modes, owners, empty folders and the order of files leave no trace in it.
"""

import errno
import hashlib
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compiler.atomic_file import atomic_file
from compiler.packaging import stored_zip
from compiler.packaging.entry_names import PATH_BYTES, clash_faults, name_fault
from compiler.packaging.members import (
    MOST_BYTES,
    MOST_ENTRIES,
    Contents,
    Member,
    PackError,
    open_members,
)
from compiler.packaging.miniapp import (
    MANIFEST,
    MANIFEST_BYTES,
    Manifest,
    layout_faults,
    read_manifest,
    stated,
)

__all__ = ["Kind", "PackError", "Packed", "manifest_of", "pack", "version_of"]

Kind = Literal["miniapp", "bundle"]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that a MiniApp may use
# RuntimeError: an encrypted entry; NotImplementedError: a feature of a later ZIP.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError),
    *(RuntimeError, NotImplementedError),
)

assert MOST_ENTRIES <= stored_zip.MOST_ENTRIES
assert MOST_BYTES + MOST_ENTRIES * (2 * PATH_BYTES + 76) <= stored_zip.MOST_BYTES


@dataclass(frozen=True, slots=True)
class Packed:
    """A package that was written: `size` in bytes, `sha256` in hex, the number of `entries`.

    `app` and `version` are a MiniApp's own words; None for a bundle of another kind.
    """

    path: Path
    size: int
    sha256: str
    entries: int
    kind: Kind
    app: str | None
    version: str | None


def pack(source: Path, target: Path, *, app: str | None = None, kind: Kind | None = None) -> Packed:
    """Write the package of a folder or tarball to `target`, whole or not at all.

    A bundle with an app_id in the manifest.json at its root is a MiniApp, unless `kind` says
    otherwise, and is held to the rules of miniapp.py; `app`, when given, must be its id.
    Raises PackError with every fault.
    """
    with open_members(source) as contents:
        if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
            mend = "Write the package somewhere else."
            raise PackError([f"{target} lies in the folder that is packed. {mend}"])
        if target.exists() and target.samefile(source):
            raise PackError([f"{target} is what is packed. Write the package somewhere else."])
        manifest, faults = _manifest(contents.members, kind)
        found: Kind = "bundle" if kind == "bundle" or manifest is None else "miniapp"
        names = [member.name for member in contents.members]
        faults = [*contents.faults, *_faults(names, kind or found), *faults]
        if manifest is not None and found == "miniapp":
            faults += layout_faults(manifest, set(names), app)
        if faults:
            raise PackError(faults)
        said = stated(manifest) if manifest is not None and found == "miniapp" else None
        try:
            return _write(contents, target, found, said)
        except OSError as error:
            raise PackError(
                [f"{target} cannot be written: {error.strerror or error}. Choose another place."]
            ) from error


def manifest_of(package: Path) -> Manifest | None:
    """Give what a package's MiniApp manifest says; None when it is no ZIP, or no MiniApp.

    Raises OSError when the file cannot be read.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            entry = archive.getinfo(MANIFEST)
            if entry.compress_type not in _METHODS or entry.file_size > MANIFEST_BYTES:
                return None
            return stated(read_manifest(archive.read(entry)))
    except _UNREADABLE:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset before the file's beginning
            return None
        raise


def version_of(package: Path) -> str | None:
    """Give a package's version.name, or None as `manifest_of`. Raises OSError."""
    manifest = manifest_of(package)
    return manifest.version if manifest is not None else None


def _faults(names: Collection[str], kind: Kind) -> list[str]:
    found = (name_fault(name, miniapp=kind == "miniapp") for name in names)
    return [*(fault for fault in found if fault), *clash_faults(names)]


def _manifest(members: list[Member], kind: Kind | None) -> tuple[dict[str, Any] | None, list[str]]:
    """Give the manifest of what is, or shall be, a MiniApp, and what is wrong with it."""
    if kind == "bundle":
        return None, []
    member = next((member for member in members if member.name == MANIFEST), None)
    if member is None:
        lacks = f"There is no {MANIFEST} at the root. Add one, or pack with --kind bundle."
        return None, [lacks] if kind == "miniapp" else []
    if member.size > MANIFEST_BYTES:
        return None, [f"{MANIFEST} is longer than {MANIFEST_BYTES} bytes. Shorten it."]
    try:
        manifest = read_manifest(member.read())
    except ValueError as error:
        return None, [str(error)]
    return (manifest, []) if kind == "miniapp" or "app_id" in manifest else (None, [])


def _write(contents: Contents, target: Path, kind: Kind, said: Manifest | None) -> Packed:
    sha256 = hashlib.sha256()
    with atomic_file(target) as file:

        def write(data: bytes) -> None:
            sha256.update(data)
            file.write(data)

        archive = stored_zip.StoredZip(write)
        for member in sorted(contents.members, key=lambda member: stored_zip.place(member.name)):
            archive.add(member.name, member.read())
        size = archive.finish()
    return Packed(
        path=target,
        size=size,
        sha256=sha256.hexdigest(),
        entries=len(contents.members),
        kind=kind,
        app=said.app if said else None,
        version=said.version if said else None,
    )
