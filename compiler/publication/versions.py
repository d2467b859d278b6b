"""The ledger of versions: a version's bytes never change once an epoch has known them.

    versions/<app>/<version>    hex SHA-256 of the package's file; the version in its canonical
                                text, so that 1.0 and 1.0.0.0 share one name

An epoch's packages enter the ledger after its pointer has moved and before the store's `live`
does. So a push that failed claims nothing, and the ledger is complete up to the store's `live`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping

from compiler.refusal import Refused
from compiler.storage.parallel import in_parallel
from compiler.storage.store import Store
from gateway.errors import FormatError
from gateway.layout import Tree
from gateway.version import CLIENT_PARTS, parse_version

_RECORD = re.compile(r"packages/([A-Za-z0-9._-]{1,64})/([^/]+)\.json\Z")
_SHOWN = 5

Packages = Mapping[tuple[str, str], str]
"""(app, canonical version) to the package's hex SHA-256."""


def canonical_version(version: str) -> str:
    """Write a version so that equal versions give equal text. Raises ValueError if it is none."""
    key = parse_version(version)
    if key is None:
        raise ValueError(f"{version!r} is no version")
    numbers = [str(number) for number in key[:CLIENT_PARTS]]
    while len(numbers) > 1 and numbers[-1] == "0":
        numbers.pop()
    text = ".".join(numbers)
    identifiers = [_identifier(found) for found in key[CLIENT_PARTS + 1 :]]
    return f"{text}-{'.'.join(identifiers)}" if identifiers else text


def _identifier(found: object) -> str:
    assert isinstance(found, tuple)
    is_word, number, word = found
    return str(word) if is_word else str(number)


def packages_of(
    tree: Tree, blob: Callable[[bytes], bytes], known: Tree | None = None
) -> dict[tuple[str, str], str]:
    """Read the packages that an epoch's records name; those that `known` has too are left out.

    Raises FormatError for a record that cannot be read.
    """
    before = known["files"] if known is not None else {}
    found = {}
    for path, digest in tree["files"].items():
        if before.get(path) == digest:
            continue
        record = _RECORD.match(path)
        if record is None:
            continue
        try:
            sha256 = json.loads(blob(digest))["sha256"]
            found[record[1], canonical_version(record[2])] = str(sha256).lower()
        except (ValueError, KeyError, TypeError):
            raise FormatError(
                f"{path} is no package record. Let `tidegate upload` write it again."
            ) from None
    return found


def check_versions(store: Store, packages: Packages) -> None:
    """Hold packages to the ledger. Raises Refused if one has other bytes under a known version."""
    changed = [
        f"{app} {version} (then {known[:12]}…, now {packages[app, version][:12]}…)"
        for (app, version), known in _known(store, packages)
        if known != packages[app, version]
    ]
    if not changed:
        return
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    raise Refused(
        f"The bytes of a published version never change, but these have others now: "
        f"{', '.join(changed[:_SHOWN])}{more}. Give the new file a new version."
    )


def check_files(
    store: Store, tree: Tree, blob: Callable[[bytes], bytes], known: Tree | None
) -> None:
    """Refuse packages whose files the store lacks, as no phone could fetch them.

    Those that `known` has too are not looked at. Raises Refused and FormatError.
    """
    before = known["files"] if known is not None else {}
    sizes: dict[str, int] = {}
    owners: dict[str, str] = {}
    for path, digest in tree["files"].items():
        record = _RECORD.match(path)
        if record is None or before.get(path) == digest:
            continue
        for form in json.loads(blob(digest))["forms"]:
            sizes[form["path"]] = form["size"]
            owners[form["path"]] = f"{record[1]} {record[2]}"
    found = in_parallel(store.size_named, sizes)
    lacking = [owners[path] for path, size in zip(sizes, found, strict=True) if size != sizes[path]]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise Refused(
            f"The store {store.name} has no file, or a cut one, of {', '.join(lacking[:_SHOWN])}"
            f"{more}. Run `tidegate upload` with this store, then push again."
        )


def note_versions(store: Store, packages: Packages) -> None:
    """Enter packages of a published epoch into the ledger; those in it stay as they are."""

    def note(item: tuple[tuple[str, str], str]) -> bool:
        name, sha256 = item
        return store.create_named(_path(*name), sha256.encode())

    for _ in in_parallel(note, packages.items()):
        pass


def _known(store: Store, packages: Packages) -> Iterator[tuple[tuple[str, str], str]]:
    found = in_parallel(lambda name: store.get_named(_path(*name)), packages)
    for name, sha256 in zip(packages, found, strict=True):
        if sha256 is not None:
            yield name, sha256.decode("ascii", "replace").strip()


def _path(app: str, version: str) -> str:
    return f"versions/{app}/{version}"
