"""The index of the patches to one version: a named object in the store, beside the patches.

    patches/<app>/<version>.json
    {
      "format": 1,
      "not_worth_it": […],                        the same, without `path` and `sha256`
      "patches": [
        {
          "format": "bsdiff4",                    or zstd-patch
          "from": "1.0.0.1",
          "from_sha256": "…", "to_sha256": "…",   hex, of the installed files
          "path": "files/ab/….bsdiff4",           the patch's object, named by its SHA-256
          "sha256": "…", "size": 3621,            of that object
          "encryption": {…}                       as in the target's record; the path ends in .age
        }
      ]
    }

Both lists are sorted by `from` and `format`, and have at most one entry of each. `not_worth_it`
remembers patches that were made and dropped, so that they are not made again. Many machines write
one index: each change is merged into what is there, by compare-and-set.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from compiler.packaging.encryption import SUFFIX, encryption_member, read_encryption
from compiler.patching.formats import FORMATS
from compiler.patching.selection import Pair
from compiler.plan import Encryption
from compiler.storage.store import Store
from gateway.errors import FormatError, StoreError
from gateway.version import parse_version

FORMAT = 1

_ATTEMPTS = 1000  # each that fails is one in which somebody else got on
_MOST_BYTES = 1 << 40  # a patch may be larger than its package, but no number is past counting
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that was made; `path` is None for one that is not worth it and was dropped."""

    format: str
    from_version: str
    from_sha256: str
    to_sha256: str
    size: int
    sha256: str | None = None
    path: str | None = None
    encryption: Encryption | None = None


@dataclass(frozen=True, slots=True)
class PatchIndex:
    """All that is known of the patches to one version."""

    patches: tuple[Patch, ...] = ()

    def find(self, pair: Pair, format: str) -> Patch | None:  # noqa: A002
        """Give the patch of this pair's bytes, served or dropped, or None when there is none.

        One that is served is encrypted as its target is.
        """
        for patch in self.patches:
            if _place(patch) == (pair.old.version, format):
                same = (pair.old.sha256, pair.new.sha256) == (patch.from_sha256, patch.to_sha256)
                open_to_all = patch.path is None or patch.encryption == pair.new.encryption
                return patch if same and open_to_all else None
        return None

    def having(self, patch: Patch) -> "PatchIndex":
        """Give the index with this patch, in place of one from the same version and format."""
        others = [each for each in self.patches if _place(each) != _place(patch)]
        return replace(self, patches=tuple(sorted([*others, patch], key=_place)))


def index_path(app: str, version: str) -> str:
    """Name the index's object in the store."""
    return f"patches/{app}/{version}.json"


def patch_path(sha256: str, format: str, *, encrypted: bool = False) -> str:  # noqa: A002
    """Name a patch's object in the store, by the SHA-256 of its bytes."""
    return f"files/{sha256[:2]}/{sha256}.{format}{SUFFIX if encrypted else ''}"


def read_index(store: Store, app: str, version: str) -> PatchIndex:
    """Read an index, an empty one if there is none. Raises FormatError, StoreError."""
    path = index_path(app, version)
    return _parsed(path, store.get_named(path))


def add_patch(store: Store, app: str, version: str, patch: Patch) -> None:
    """Merge a patch into its version's index. Raises FormatError, StoreError."""
    _merge(store, index_path(app, version), lambda index: index.having(patch))


def _merge(store: Store, path: str, change: Callable[[PatchIndex], PatchIndex]) -> None:
    for _ in range(_ATTEMPTS):
        before = store.get_named(path)
        after = _dumped(change(_parsed(path, before)))
        if after == before or store.swap_named(path, before, after):
            return
    raise StoreError(
        f'The store {store.name} never let "{path}" be written: others changed it each time. Run '
        "the command again."
    )


def _place(patch: Patch) -> tuple[str, str]:
    return patch.from_version, patch.format


def _dumped(index: PatchIndex) -> bytes:
    value: dict[str, Any] = {"format": FORMAT, "not_worth_it": [], "patches": []}
    for patch in index.patches:
        entry: dict[str, Any] = {
            "format": patch.format,
            "from": patch.from_version,
            "from_sha256": patch.from_sha256,
            "to_sha256": patch.to_sha256,
            "size": patch.size,
        }
        if patch.path is None:
            value["not_worth_it"].append(entry)
        else:
            entry |= {"path": patch.path, "sha256": patch.sha256}
            if patch.encryption is not None:
                entry["encryption"] = encryption_member(patch.encryption)
            value["patches"].append(entry)
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _parsed(path: str, data: bytes | None) -> PatchIndex:
    if data is None:
        return PatchIndex()
    try:
        value = json.loads(data)
        if type(value["format"]) is int and value["format"] == FORMAT:
            served = [_patch(entry) for entry in value["patches"]]
            dropped = [_dropped(entry) for entry in value.get("not_worth_it", [])]
            return PatchIndex(_one_a_place([*served, *dropped]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise FormatError(
            f'"{path}" in the store is no index of patches. Delete it and run `tidegate patch` '
            "again."
        ) from fault
    raise FormatError(
        f'"{path}" in the store has format {value["format"]!r:.40}, which this Tidegate does not '
        "know. Update Tidegate."
    )


def _one_a_place(patches: list[Patch]) -> tuple[Patch, ...]:
    if len({_place(each) for each in patches}) < len(patches):
        raise ValueError("two patches of one version and format")
    return tuple(sorted(patches, key=_place))


def _dropped(entry: dict[str, Any]) -> Patch:
    size, format_, old = entry["size"], entry["format"], entry["from"]
    if type(size) is not int or not 0 <= size <= _MOST_BYTES or format_ not in FORMATS:
        raise ValueError(entry)
    if type(old) is not str or parse_version(old) is None:
        raise ValueError(entry)
    return Patch(format_, old, _hex(entry["from_sha256"]), _hex(entry["to_sha256"]), size)


def _patch(entry: dict[str, Any]) -> Patch:
    sha256 = _hex(entry["sha256"])
    secret = read_encryption(entry["encryption"]) if "encryption" in entry else None
    path = patch_path(sha256, entry["format"], encrypted=secret is not None)
    found = replace(_dropped(entry), sha256=sha256, path=path, encryption=secret)
    if entry["path"] != found.path:
        raise ValueError(entry)
    return found


def _hex(text: str) -> str:
    if not _SHA256.match(text):
        raise ValueError(text)
    return text
