"""The plan that an epoch carries as text: read as a whole, or only what concerns some apps."""

import re
from collections.abc import Callable, Collection, Iterator

from compiler.diagnostic import PlanError
from compiler.language.reading import read_files
from compiler.plan import Plan
from gateway.layout import Tree

Blob = Callable[[bytes], bytes]
"""Gives a blob by its digest. Raises StoreError or FormatError."""

_OF_AN_APP = re.compile(r"(?:apps|packages)/")


def read_plan(tree: Tree, blob: Blob, apps: Collection[str] | None = None) -> Plan:
    """Read a tree's plan, without its overrides; of apps only these, if given (ids).

    Whatever is asked of ten thousand apps, only those files are read. Raises PlanError when this
    compiler no longer accepts it.
    """
    files = tree["files"]
    paths = files if apps is None else set(_paths_of(tree, apps))
    reading = read_files({path: blob(files[path]).decode() for path in paths}, now=0)
    if reading.plan is None:
        raise PlanError(reading.diagnostics, reading.sources)
    return reading.plan


def _paths_of(tree: Tree, apps: Collection[str]) -> Iterator[str]:
    folders = tuple(f"packages/{app}/" for app in apps)
    for path in tree["files"]:
        if not _OF_AN_APP.match(path) or (folders and path.startswith(folders)):
            yield path
    for app in apps:
        if app in tree["apps"]:
            yield tree["apps"][app]
