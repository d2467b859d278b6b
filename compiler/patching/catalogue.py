"""The catalogue: what a publication offers of the patches that the store knows.

A patch is offered where plan and index agree on the bytes of both versions, and it is encrypted
as its target is. It does not matter whether a release leads to the target now: a pause or a
withdrawal may make it the one that phones are led to.
"""

from compiler.patching.patch_index import Patch, PatchIndex, index_path, read_index
from compiler.plan import Package, Plan
from compiler.storage.parallel import in_parallel
from compiler.storage.store import Store
from gateway import layout
from gateway.version import VersionKey, parse_version


def patched_apps(store: Store) -> set[str]:
    """Name the apps for which the store has an index. Raises StoreError."""
    return {path.split("/")[1] for path in store.list_named("patches")}


def read_catalogue(store: Store, plan: Plan) -> dict[str, layout.Patches]:
    """Read what the store knows of each app's patches. Raises StoreError and FormatError."""
    there = set(store.list_named("patches"))
    targets = [
        (app, package)
        for app in plan.apps
        for package in app.packages
        if package.record is not None and index_path(app.id, package.version) in there
    ]
    indexes = in_parallel(lambda each: read_index(store, each[0].id, each[1].version), targets)
    found: dict[str, layout.Patches] = {}
    for (app, package), index in zip(targets, indexes, strict=True):
        known = {each.key: each for each in app.packages if each.record is not None}
        offered = _offered(index, package, known)
        if offered:
            found.setdefault(app.id, {"patches": {}})["patches"][package.version] = offered
    return found


def _offered(
    index: PatchIndex, target: Package, known: dict[VersionKey, Package]
) -> list[layout.PatchEntry]:
    return [
        {
            "installed": patch.from_version,
            "format": patch.format,
            "size": patch.size,
            "sha256": patch.sha256,
            "path": patch.path,
        }
        for patch in index.patches
        if patch.path is not None
        and patch.sha256 is not None
        and _fits(patch, known.get(parse_version(patch.from_version) or ()), target)
    ]


def _fits(patch: Patch, old: Package | None, new: Package) -> bool:
    if old is None or old.record is None or new.record is None:
        return False
    return (
        patch.from_sha256 == old.record.sha256
        and patch.to_sha256 == new.record.sha256
        and patch.encryption == new.record.encryption
    )
