"""The plan that an epoch carries as text: read as a whole, or only what concerns some apps."""

from collections.abc import Callable, Collection

from compiler.diagnostic import PlanError
from compiler.language.reading import read_files
from compiler.plan import Plan
from gateway.layout import Tree

Blob = Callable[[bytes], bytes]
"""Gives a blob by its digest. Raises StoreError or FormatError."""

_OF_APPS = ("apps/", "packages/")


def read_plan(tree: Tree, blob: Blob, apps: Collection[str] | None = None) -> Plan:
    """Read a tree's plan, without its overrides; of apps only these, if given, and of switches.

    Whatever is asked of ten thousand apps, only those files are read. Raises PlanError when this
    compiler no longer accepts it.
    """
    paths = _paths_of(tree, apps)
    reading = read_files({path: blob(digest).decode() for path, digest in paths.items()}, now=0)
    if reading.plan is None:
        raise PlanError(reading.diagnostics, reading.sources)
    return reading.plan


def plan_digests(tree: Tree, apps: Collection[str]) -> set[bytes]:
    """Name the blobs that are read for these apps, for who fetches them all at once."""
    return set(_paths_of(tree, apps).values())


def _paths_of(tree: Tree, apps: Collection[str] | None) -> dict[str, bytes]:
    files = tree["files"]
    if apps is None:
        return files
    apps = {*apps, *tree["switch_apps"]}  # those that switches.yaml names
    folders = tuple(f"packages/{app}/" for app in apps)
    own = {tree["apps"][app] for app in apps if app in tree["apps"]}
    return {
        path: digest
        for path, digest in files.items()
        if path in own or not path.startswith(_OF_APPS) or (folders and path.startswith(folders))
    }
