"""A MiniApp's version.code must rise with its version: phones may order packages by it.

It is known of every version that was uploaded, as its record holds it. Bundles of other kinds have
none, and so have records of before.
"""

import json
from pathlib import Path

from compiler.packaging.miniapp import MOST_CODE
from compiler.packaging.upload_fault import UploadRefusedError
from gateway.version import PLAN_PARTS, VersionKey, parse_version


def refuse_code(record: Path, version: str, code: int | None) -> None:
    """Refuse a code that does not rise with the version among the app's other records."""
    key = parse_version(version, PLAN_PARTS)
    if code is None or key is None:
        return
    for other in sorted(record.parent.glob("*.json")):
        its_key, its_code = parse_version(other.stem, PLAN_PARTS), _recorded_code(other)
        if its_key is None or its_key == key or its_code is None:
            continue
        if not rises((its_key, its_code), (key, code)):
            side = "over" if its_key < key else "under"
            raise UploadRefusedError(
                f"version.code of {version} is {code}, and {other.stem} has {its_code} ({other}): "
                f"it must rise with the version. Write one {side} {its_code} in "
                "manifest.json and pack again."
            )


def rises(one: tuple[VersionKey, int], other: tuple[VersionKey, int]) -> bool:
    """Tell whether the higher of two versions has the higher code."""
    return (one[0] < other[0]) == (one[1] < other[1]) and one[1] != other[1]


def _recorded_code(record: Path) -> int | None:
    """Read another version's code; a record that cannot be read is for `validate` to report."""
    try:
        code = json.loads(record.read_bytes())["code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return code if type(code) is int and 0 <= code <= MOST_CODE else None
