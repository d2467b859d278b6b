"""When each release of some apps was last changed, and by whom: found by walking the history back.

A release changes when the plan with its overrides says something else of it, or of the package that
it offers; an app when any of its releases or packages does, or its name. Of each epoch on the way
only the files of those apps are read whose digests differ from the next one's.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from compiler.carried_plan import plan_digests
from compiler.diagnostic import PlanError
from compiler.explanation import plan_of
from compiler.plan import App, Plan
from compiler.publication.change import AppChange, changed_apps
from compiler.publication.epoch import Publication, read_publication
from compiler.publication.history import End, walk
from compiler.storage.store import Store
from gateway import layout

WALK = 50
"""Epochs that are looked at, counted from the newest."""

WALK_SECONDS = 2.0
"""As long as anybody waits for that: one of 10,000 apps takes 0.1 s to read."""

Place = tuple[str, str]
"""An app and one of its releases; "" for the app as a whole."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The epoch in which something changed last; `time` is in Unix seconds."""

    epoch: int
    time: int
    author: str
    note: str


@dataclass(slots=True)
class LastChanges:
    """The changes that were found; whatever is not among them changed before epoch `before`."""

    found: dict[Place, Changed] = field(default_factory=dict)
    before: int = 0


def last_changes(store: Store, newest: Publication, plan: Plan, *, most: int = WALK) -> LastChanges:
    """Find when the apps of `plan` and their releases changed; `plan` is the newest epoch's.

    Raises StoreError and FormatError.
    """
    wanted = {(app.id, release.id) for app in plan.apps for release in app.releases}
    wanted |= {(app.id, "") for app in plan.apps}
    told = LastChanges(before=newest.number + 1)
    apps = {app.id: app for app in plan.apps}
    after, end = newest, time.monotonic() + WALK_SECONDS
    for before in _older(store, newest, most):
        if isinstance(before, End):
            if before is End.FIRST:  # what is left was there from the start
                told.found |= dict.fromkeys(wanted - told.found.keys(), _changed(after.epoch))
            break
        pending = sorted({app for app, _ in wanted - told.found.keys()})
        try:
            _compare(store, before, after, pending, apps, told)
        except PlanError:
            break  # a much older tidegate's
        told.before = after.number
        if wanted <= told.found.keys() or time.monotonic() > end:
            break
        after = before
    return told


def _compare(
    store: Store,
    before: Publication,
    after: Publication,
    pending: Iterable[str],
    apps: dict[str, App],
    told: LastChanges,
) -> None:
    """Note what the epoch `after` changed; `apps` are its apps, and then those of `before`."""
    differing = [app for app in pending if _differs(before, after, app)]
    if not differing:
        return
    old = _apps(store, before, differing)
    now = {app: apps.pop(app) for app in differing if app in apps}
    for change in changed_apps(old.values(), now.values()):
        for place in _places(change, now.get(change.app)):
            told.found.setdefault(place, _changed(after.epoch))
    apps.update(old)


def _older(store: Store, newest: Publication, most: int) -> Iterator[Publication | End]:
    """Give the epochs before the newest, `most` at most, or why there are no more."""
    for at, found in enumerate(walk(store, newest.digest)):
        if isinstance(found, End):
            yield found
        elif at > most:
            yield End.LIMIT
            return
        elif at:
            yield read_publication(found.digest, store.get_blob)


def _changed(epoch: layout.Epoch) -> Changed:
    return Changed(epoch["number"], epoch["time"], epoch["author"], epoch["note"])


def _differs(before: Publication, after: Publication, app: str) -> bool:
    """Tell whether anything that is said of an app may differ."""
    if before.epoch["contents"] == after.epoch["contents"]:
        return False
    return _pieces(before, app) != _pieces(after, app)


def _pieces(publication: Publication, app: str) -> tuple[object, ...]:
    tree = publication.tree
    file = tree["apps"].get(app)
    return (
        publication.contents["programs"].get(app),
        tree["files"].get(file) if file is not None else None,
        [each for each in tree["overrides"] if each["app"] == app],
    )


def _apps(store: Store, publication: Publication, apps: Iterable[str]) -> Mapping[str, App]:
    """Read apps of an epoch, its overrides laid over them; all of its files at once."""
    ids = list(apps)
    blobs = dict(store.get_blobs(sorted(plan_digests(publication.tree, ids))))
    plan = plan_of(publication, blobs.__getitem__, ids)
    return {app.id: app for app in plan.apps}


def _places(change: AppChange, now: App | None) -> Iterator[Place]:
    """Name what an app's change is a change of: of a package, also what offers it."""
    yield change.app, ""
    if now is None:
        return
    names = {(each.what, each.name) for each in change.changes}
    for release in now.releases:
        if ("release", release.id) in names or ("package", release.package) in names:
            yield change.app, release.id
