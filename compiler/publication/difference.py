"""The difference of two epochs, or of an epoch and an image: what a push changes, in few lines.

Pure: blobs come from readers. Both plans' texts are read again, but of thousands of apps only
those that changed, because contents and plan trees name everything by digest.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from compiler.amendments import changed_ids
from compiler.language.reading import read_files
from compiler.overrides import What, in_order, in_words, named, place_of
from compiler.plan import ListSource, Plan
from compiler.publication.change import (
    AppChange,
    Change,
    Kind,
    changed_apps,
    changed_settings,
    differing,
)
from compiler.publication.epoch import Publication, Reader
from compiler.publication.switch_change import changed_switches
from gateway import layout

_APP_FILE = re.compile(r"apps/.*\Z", re.DOTALL)
_RECORD = re.compile(r"packages/([^/]+)/")
_NAMED = 3
APPS_SHOWN = 40
_EMPTY: layout.Tree = {
    "files": {},
    "apps": {},
    "switch_apps": [],
    "lists": {},
    "patches": {},
    "overrides": [],
    "windows": {},
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared, and where its blobs are read."""

    contents: layout.Contents
    tree: layout.Tree
    blob: Reader


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs. `files` names plan files whose text alone differs, or that cannot be read."""

    apps: tuple[AppChange, ...] = ()
    lists: tuple[Change, ...] = ()
    settings: tuple[Change, ...] = ()
    overrides: tuple[Change, ...] = ()
    patches: tuple[Change, ...] = ()
    windows: tuple[Change, ...] = ()
    files: tuple[Change, ...] = ()
    switches: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


def compare(before: Publication | None, after: Publication, blob: Reader) -> Difference:
    """Compare two epochs of one store; without `before` everything is new."""
    old = Side(before.contents, before.tree, blob) if before is not None else None
    return compare_sides(old, Side(after.contents, after.tree, blob))


def compare_sides(before: Side | None, after: Side) -> Difference:
    """Compare. Raises what the readers raise, and FormatError."""
    if before is not None and before.contents == after.contents:
        return Difference()
    tree: layout.Tree = before.tree if before else _EMPTY
    files = tuple(_changed_files(tree["files"], after.tree["files"]))
    overrides = tuple(_changed_overrides(tree, after.tree))
    paths = None if before is None else _paths_to_read(before, after)
    old = _read(before, paths) if before is not None else None
    new = _read(after, paths)
    if new is None or (before is not None and old is None):
        # A plan that this compiler does not read, as of a much older tidegate.
        lists = tuple(_changed_lists((), (), tree, after.tree))
        return Difference(lists=lists, overrides=overrides, files=files)
    found = Difference(
        tuple(changed_apps(old.apps if old else (), new.apps)),
        tuple(_changed_lists(old.lists if old else (), new.lists, tree, after.tree)),
        tuple(changed_settings(old.workspace if old else None, new.workspace)),
        overrides,
        tuple(_changed_patches(before, after)),
        tuple(_changed_windows(tree, after.tree)),
        switches=tuple(changed_switches(old.switches if old else (), new.switches)),
    )
    return found or Difference(files=files)


def shown(difference: Difference, most: int | None = APPS_SHOWN) -> str:
    """Write a difference for people: a line a change, at most so many apps (None: all)."""
    lines = [_line(each) for each in (*difference.settings, *difference.lists)]
    for app in difference.apps[:most]:
        title = f" ({app.name})" if app.name and app.name != app.app else ""
        lines.append(f"{app.kind} app {app.app}{title}")
        if app.kind is not Kind.REMOVED:
            lines += ["    " + _line(each) for each in app.changes]
    if most is not None and len(difference.apps) > most:
        lines.append(f"… and {len(difference.apps) - most:,} more apps")
    lines += [_line(each) for each in difference.switches]
    others = (
        *difference.overrides,
        *difference.patches,
        *difference.windows,
        *difference.files,
    )
    lines += [_line(each) for each in others]
    return "\n".join(lines) or "nothing differs"


def summary(difference: Difference) -> str:
    """Write a difference in one short line, as the history shows it."""
    parts = [f"{each.name} {'; '.join(each.details)}".strip() for each in difference.settings]
    parts += [f"{each.kind}list {each.name}" for each in difference.lists]
    apps = difference.apps
    if len(apps) > _NAMED:
        counts = {kind: sum(app.kind is kind for app in apps) for kind in Kind}
        told = ", ".join(f"{kind}{count:,}" for kind, count in counts.items() if count)
        parts.append(f"{told} apps")
    else:
        for app in apps:
            inner = ", ".join(f"{each.kind}{each.what} {each.name}" for each in app.changes)
            told = f": {inner}" if inner and app.kind is Kind.CHANGED else ""
            parts.append(f"{app.kind}{app.name or app.app}{told}")
    parts += [f"{each.kind}switch {each.name}" for each in difference.switches[:_NAMED]]
    parts += [f"{each.kind}{each.name} {'; '.join(each.details)}" for each in difference.overrides]
    parts += [f"{each.kind}patches of {each.name}" for each in difference.patches[:_NAMED]]
    parts += [f"window {each.name} {'; '.join(each.details)}" for each in difference.windows]
    parts += [f"{each.kind}{each.name}" for each in difference.files[:_NAMED]]
    return "; ".join(parts) or "nothing differs"


def _line(change: Change) -> str:
    head = f"{change.kind} {change.what} {change.name}".rstrip()
    return f"{head}: {'; '.join(change.details)}" if change.details else head


def _changed_files(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[Change]:
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            yield Change(_kind(path in old, path in new), "file", path)


def _changed_overrides(old: layout.Tree, new: layout.Tree) -> Iterator[Change]:
    before, after = ({place_of(each): each for each in tree["overrides"]} for tree in (old, new))
    for each in in_order({**before, **after}.values()):
        if each["what"] == What.MEMBER:
            continue
        was, now = before.get(place_of(each)), after.get(place_of(each))
        if was and now and was["value"] == now["value"]:
            continue
        said = [in_words(each["what"], side["value"]) for side in (was, now) if side is not None]
        yield Change(
            _kind(was is not None, now is not None),
            "override",
            named(each),
            (" → ".join(said),),
        )
    for name, phrases in changed_ids(before.values(), after.values()):
        yield Change(Kind.CHANGED, "override", name, phrases)


def _changed_windows(old: layout.Tree, new: layout.Tree) -> Iterator[Change]:
    """Tell the windows that have been frozen, or opened again."""
    for name, window in sorted(new["windows"].items()):
        frozen = name in old["windows"] and bool(old["windows"][name]["seats"])
        if bool(window["seats"]) is not frozen:
            said = f"frozen with {window['count']:,} seats" if window["seats"] else "open again"
            yield Change(Kind.CHANGED, "window", name, (said,))


def _changed_patches(before: Side | None, after: Side) -> Iterator[Change]:
    """Tell the apps for which other patches are known, and how many of them."""
    old, new = before.tree["patches"] if before else {}, after.tree["patches"]
    for app in sorted({*old, *new}):
        if old.get(app) == new.get(app):
            continue
        was = _patches(before, app) if before else 0
        details = (
            (f"{was:,} → {_patches(after, app):,}",) if was else (f"{_patches(after, app):,}",)
        )
        yield Change(_kind(app in old, app in new), "patches", app, details if app in new else ())


def _patches(side: Side, app: str) -> int:
    digest = side.tree["patches"].get(app)
    if digest is None:
        return 0
    known: layout.Patches = layout.decode(layout.Patches, side.blob(digest))
    return sum(map(len, known["patches"].values()))


def _changed_lists(
    old: Iterable[ListSource], new: Iterable[ListSource], before: layout.Tree, after: layout.Tree
) -> Iterator[Change]:
    sources = [{each.name: each for each in side} for side in (old, new)]
    trees = (before["lists"], after["lists"])
    for name in sorted({*sources[0], *sources[1], *trees[0], *trees[1]}):
        there = [name in sources[side] or name in trees[side] for side in (0, 1)]
        phrases = [_list_phrases(sources[side].get(name), trees[side].get(name)) for side in (0, 1)]
        if not all(there):
            told = phrases[there.index(True)]
            details = tuple(f"{part} {text}".strip() for part, text in told.items() if text)
            yield Change(_kind(there[0], there[1]), "list", name, details if there[1] else ())
            continue
        details = differing(phrases[0], phrases[1])
        ids = [trees[side].get(name) for side in (0, 1)]
        if ids[0] and ids[1] and ids[0]["digest"] != ids[1]["digest"] and not details:
            details = (f"other ids, {ids[1]['count']:,} as before",)
        if details:
            yield Change(Kind.CHANGED, "list", name, details)


def _list_phrases(source: ListSource | None, ids: layout.ListFile | None) -> dict[str, str]:
    return {
        "": f"{ids['count']:,} ids" if ids is not None else "",
        "of": ids["of"] if ids is not None else source.of if source is not None else "",
        "regex": " ".join(source.regex) if source is not None else "",
    }


def _kind(before: bool, after: bool) -> Kind:
    if before and after:
        return Kind.CHANGED
    return Kind.ADDED if after else Kind.REMOVED


def _read(side: Side, paths: set[str] | None) -> Plan | None:
    texts = {
        path: side.blob(digest).decode()
        for path, digest in side.tree["files"].items()
        if paths is None or path in paths
    }
    return read_files(texts, now=0).plan


def _paths_to_read(before: Side, after: Side) -> set[str] | None:
    """Name the files without which no change would be missed; None means all of them."""
    old, new = before.tree["files"], after.tree["files"]
    every = {*old, *new}
    changed = {path for path in every if old.get(path) != new.get(path)}
    shared = {path for path in every if not _APP_FILE.match(path) and not _RECORD.match(path)}
    if changed & shared:
        return None
    programs = (before.contents["programs"], after.contents["programs"])
    apps = {
        app for app in {*programs[0], *programs[1]} if programs[0].get(app) != programs[1].get(app)
    }
    apps |= {found[1] for path in changed if (found := _RECORD.match(path))}
    owners = [(app, path) for side in (before, after) for app, path in side.tree["apps"].items()]
    apps |= {app for app, path in owners if path in changed}
    files = {path for app, path in owners if app in apps}
    records = {path for path in every if (found := _RECORD.match(path)) and found[1] in apps}
    return shared | files | records
