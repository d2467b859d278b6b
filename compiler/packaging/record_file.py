"""A version's record in the plan's folder: packages/<app>/<version>.json.

    {
      "code": 2,                             a MiniApp's version.code; others have none
      "format": 1,
      "encryption": {"format": "age", "key_id": "coffee-2026", "recipients": ["age1…"]},
      "forms": [{"compression": "identity", "path": "files/ab/….zip", "sha256": "…", "size": 9}],
      "sha256": "…",                         hex, of the file as it is installed
      "signatures": [],
      "size": 9                              bytes, of the file as it is installed
    }

The identity form is the file itself; gzip and zstd forms stand beside it, where they are smaller.
A version's bytes never change: a record is written once, and other bytes are refused.

With `encryption`, which an app's file asks for, every form's bytes are an age file, whose size and
SHA-256 it has. When the recipients change, the next upload encrypts anew and writes the record
again; what it says of the installed file stays.
compiler/language/package_record.py reads records as a part of the plan.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compiler.atomic_file import atomic_file
from compiler.packaging.encryption import read_encryption
from compiler.packaging.upload_fault import UploadError, UploadRefusedError
from compiler.plan import Encryption, Form
from compiler.storage.store import Digest
from gateway.version import PLAN_PARTS, parse_version

FORMAT = 1
IDENTITY = "identity"
COMPRESSIONS = (IDENTITY, "gzip", "zstd")

_PLACE = re.compile(r"files/([0-9a-f]{2})/\1[0-9a-f]{62}(?:\.[a-z0-9]{1,16}){1,4}")


def record_path(plan: Path, app: str, version: str) -> Path:
    """Name the file of a version's record in a plan's folder."""
    return plan / "packages" / app / f"{version}.json"


def refuse_equal_version(record: Path, version: str) -> None:
    """Refuse `1.0` beside a record of `1.0.0.0`: they are one version, with one file's bytes."""
    key = parse_version(version, PLAN_PARTS)
    for other in sorted(record.parent.glob("*.json")):
        if other.stem != version and parse_version(other.stem, PLAN_PARTS) == key:
            raise UploadRefusedError(
                f"{version} equals {other.stem}, which has its record already ({other}). "
                "Pack a new version, or write this one in the same way."
            )


def read_record(record: Path, found: Digest) -> dict[str, Any] | None:
    """Read the record of a package of those bytes; None where there is none.

    Raises UploadError when it cannot be read, UploadRefusedError when it is of other bytes.
    """
    try:
        value: dict[str, Any] = json.loads(record.read_bytes())
        if value["format"] != FORMAT:
            raise UploadError(
                f"{record} has format {value['format']}, which this Tidegate does not know. "
                "Install a newer one."
            )
        _check_signatures(value)
        secret = recorded_encryption(value)
        size, sha256, forms = value["size"], value["sha256"], recorded_forms(value)
        strays = [form for form in forms if not _is_place(form)]
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
    if strays:
        raise UploadError(
            f"{record} names {strays[0].path!r:.200}, which is no place of its bytes in files/. "
            "Take it from Git again."
        )
    whole = [(form.size, form.sha256) for form in forms if form.compression == IDENTITY]
    if len(whole) != 1 or (whole == [(size, sha256)]) != (secret is None):
        raise UploadError(f"{record} names no identity form in files/. Take it from Git again.")
    return value


def recorded_forms(value: dict[str, Any]) -> tuple[Form, ...]:
    """Give the forms that a record names. Raises KeyError, TypeError, ValueError."""
    if any(form["compression"] not in COMPRESSIONS for form in value["forms"]):
        raise ValueError("a compression is not known")
    forms = tuple(
        Form(str(form["compression"]), int(form["size"]), str(form["sha256"]), str(form["path"]))
        for form in value["forms"]
    )
    if len({form.compression for form in forms}) != len(forms):
        raise ValueError("a compression is recorded twice")
    return forms


def recorded_encryption(value: dict[str, Any]) -> Encryption | None:
    """Say how a record's forms are encrypted; None: not. Raises TypeError, ValueError."""
    return read_encryption(value["encryption"]) if "encryption" in value else None


def _check_signatures(value: dict[str, Any]) -> None:
    texts = value.get("signatures", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("signatures are a list of texts")


def record_entry(form: Form) -> dict[str, Any]:
    """Write a form as a record has it."""
    return {
        "compression": form.compression,
        "path": form.path,
        "sha256": form.sha256,
        "size": form.size,
    }


def _is_place(form: Form) -> bool:
    return _PLACE.fullmatch(form.path) is not None and form.path.startswith(
        f"files/{form.sha256[:2]}/{form.sha256}."
    )


@contextmanager
def locked_record(record: Path) -> Iterator[None]:
    """Keep other uploads from an app's records, until left or killed. Raises UploadError."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        # The folder itself is locked: a lock file would be committed with the plan.
        folder = os.open(record.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(record, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_record(record: Path, value: dict[str, Any]) -> None:
    """Write a record: members sorted, indented, seen whole or not at all. Raises UploadError."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        with atomic_file(record) as file:
            file.write(text.encode())
    except OSError as error:
        raise _unwritable(record, error) from error


def _unwritable(record: Path, error: OSError) -> UploadError:
    return UploadError(
        f"{record} cannot be written: {error.strerror or error}. "
        "Give this user the right to write in the plan's folder."
    )
