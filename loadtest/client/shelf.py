"""The packages that a client has: one an app, always a whole one.

    apps/<app>/<sha256>          the package, under its digest
    apps/<app>/installed.json    which one of the files here is installed; the last to be written

A kill between the two leaves the old one installed, and the new file for the next round. The old
file stays a round longer, for those who read it while the new one is installed.
"""

import hashlib
import json
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.client.answer import Offer
from loadtest.client.durable import make_folder, move_durably, write_durably

_RECORD = "installed.json"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed package. `may_open` is False once its version was withdrawn.

    `release` is the one that brought it, `info` what the plan tells the client about it.
    """

    app: str
    version: str
    size: int
    sha256: str
    path: Path
    may_open: bool = True
    release: str = ""
    info: Any = None


class Shelf:
    """The folder `apps`. Nothing is kept in memory: every answer is read from the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def installed(self, app: str) -> Installed | None:
        """Give what is installed, or None: also where the file or the record is damaged."""
        record = self._read(app)
        while record is not None:
            package = self._package(app, record)
            if package is None or is_whole(package.path, package.size, package.sha256):
                return package
            # Another process may have installed the next one, and deleted this one.
            before, record = record, self._read(app)
            if record == before:
                break
        return None

    def _read(self, app: str) -> bytes | None:
        try:
            return (self._folder / app / _RECORD).read_bytes()
        except OSError:
            return None

    def _package(self, app: str, record: bytes) -> Installed | None:
        """Read a record; None for one that is not as it was written."""
        folder = self._folder / app
        try:
            found = json.loads(record)
            if found.pop("digest") != _digest(found):
                return None
            return Installed(
                app=app,
                version=str(found["version"]),
                size=int(found["size"]),
                sha256=str(found["sha256"]),
                path=folder / Path(str(found["sha256"])).name,
                may_open=found["may_open"] is True,
                release=str(found["release"]),
                info=found["info"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def place(self, app: str, sha256: str) -> Path:
        """Say where a package with this digest belongs."""
        return self._folder / app / sha256

    def install(self, app: str, file: Path, offer: Offer) -> None:
        """Install a verified file: it is moved here, unless it is here. Raises OSError."""
        place = self.place(app, offer.sha256)
        if file != place:
            make_folder(self._folder)
            make_folder(place.parent)
            move_durably(file, place)
        package = Installed(
            app, offer.version, offer.size, offer.sha256, place, True, offer.release, offer.info
        )
        self._record(package)

    def tidy(self, app: str, kept: Container[str]) -> None:
        """Delete an app's files but those with these digests."""
        with suppress(OSError):  # the next round tries again
            for file in (self._folder / app).iterdir():
                if file.name != _RECORD and file.name not in kept:
                    file.unlink()

    def mark(self, package: Installed, *, may_open: bool) -> None:
        """Say whether an installed package may be opened. Raises OSError."""
        if package.may_open is not may_open:
            self._record(package, may_open=may_open)

    def _record(self, package: Installed, *, may_open: bool = True) -> None:
        record = {
            "version": package.version,
            "size": package.size,
            "sha256": package.sha256,
            "may_open": may_open,
            "release": package.release,
            "info": package.info,
        }
        record["digest"] = _digest(record)
        write_durably(package.path.with_name(_RECORD), json.dumps(record).encode())


def is_whole(path: Path, size: int, sha256: str) -> bool:
    """Tell whether a file is there with this size and SHA-256 (hex)."""
    try:
        if path.stat().st_size != size:
            return False
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest() == sha256


def _digest(record: Mapping[str, Any]) -> str:
    """Give a record's SHA-256: nothing else holds the version, or that it may be opened."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
