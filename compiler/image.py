"""The image: every blob of one publication, made from a checked plan and its lists' ids.

Equal plans, lists, overrides and seats of frozen windows give equal images, byte for byte; number,
author, time and note belong to the epoch that publishes an image, not to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler.amendments import amended
from compiler.carried_plan import read_plan
from compiler.diagnostic import Diagnostic, PlanError, error
from compiler.lowering import lower_app, offered
from compiler.overrides import What, in_order, lay_over, place_of
from compiler.plan import App, Identity, ListSource, Plan
from compiler.progress import Progress, quiet
from compiler.switches import lower_switches, switch_apps
from compiler.windows import (
    Frozen,
    frozen_of,
    frozen_releases,
    kind_of,
    list_name,
    split_name,
    windows_of,
)
from gateway import layout
from gateway.errors import FormatError
from gateway.layout import digest_of
from gateway.membership import ExpressionLists
from gateway.program import Program
from gateway.remembered import Memory
from gateway.switches import open_switches

if TYPE_CHECKING:
    from compiler.lists.allowlist import ListIds
    from compiler.windows import Hashes


@dataclass(frozen=True, slots=True)
class Image:
    """The tree of blobs below `root`, the digest of the contents blob.

    `blobs` holds all of them by digest: contents, settings, programs, switches, sets, shards,
    packs, the plan tree, plan files, patches, the lists' ids and the seats of frozen windows. Of a
    relaid image it holds what is new.
    """

    root: bytes
    contents: layout.Contents
    tree: layout.Tree
    blobs: MutableMapping[bytes, bytes]


def build_image(
    plan: Plan,
    lists: "Iterable[ListIds]",
    overrides: Sequence[layout.Override] = (),
    progress: Progress = quiet,
    blobs: MutableMapping[bytes, bytes] | None = None,
    patches: Mapping[str, layout.Patches] | None = None,
    frozen: Mapping[str, Frozen] | None = None,
) -> Image:
    """Compile a plan. `lists` are the read ids of all its lists of ids, `patches` those by app.

    `lists` may be a generator, so that one list's ids are in memory at a time. The image's blobs
    are put into `blobs`, if given, which is empty. `frozen` has the seats of the windows that are
    frozen, by name; what is no window of the plan is passed over.
    Raises PlanError when a package on offer has no record, so that no answer could be made.
    """
    found = {} if blobs is None else blobs
    columns = {source.name: source.column for source in plan.lists}
    files: dict[str, layout.ListFile] = {}

    def texts() -> Iterator[tuple[str, str, bytes]]:
        for each in lists:
            digest = digest_of(each.text)
            found[digest] = each.text
            column = columns[each.name]
            files[each.name] = {
                "digest": digest,
                "of": each.of,
                "count": each.count,
                "column": column,
            }
            yield each.name, each.of, each.text
            del each  # before the next one is read

    windows = windows_of(lay_over(plan, overrides).apps)
    _freeze(windows, windows, frozen or {}, found)
    membership = None
    if frozen_of(windows) or not all(source.regex for source in plan.lists):
        seated = _seated(windows, found.__getitem__)
        membership = _membership(plan, texts(), seated, progress, found)
    return _assemble(plan, files, membership, windows, found, overrides, patches or {})


def relay_image(
    contents: layout.Contents,
    tree: layout.Tree,
    blob: Callable[[bytes], bytes],
    overrides: Sequence[layout.Override],
    frozen: Mapping[str, Frozen] | None = None,
    progress: Progress = quiet,
    blobs: MutableMapping[bytes, bytes] | None = None,
    patches: Mapping[str, layout.Patches] | None = None,
) -> Image:
    """Lay other overrides over a compiled plan, by compiling again only what they touch.

    With `patches` these take the place of those that it has.

    `contents` and `tree` are of an epoch or an image, and `blob` gives any blob of theirs by its
    digest. The same windows are frozen as there; or those of `frozen`, and where they differ the
    apps and the table of all lists are made again. The image's `blobs` are only those that it has
    made: all others are theirs. They are put into `blobs`, if given, which is empty.
    Raises PlanError when this compiler no longer accepts a touched app, or cannot offer it.
    """
    made = _Blobs({} if blobs is None else blobs)
    old, changed = tree["windows"], set[str]()
    if frozen is not None:
        seats = {name: digest_of(each.seats) for name, each in frozen.items()}
        changed = {name for name, each in old.items() if each["seats"] != seats.get(name, b"")}
    apps = _touched(tree["overrides"], overrides) | {split_name(name)[0] for name in changed}
    if patches is not None:
        known, offers = tree["patches"], _keep_patches(patches, made)
        apps |= {app for app in known.keys() | offers.keys() if known.get(app) != offers.get(app)}
        tree = {**tree, "patches": offers}
    apps &= contents["programs"].keys()
    plan = lay_over(read_plan(tree, blob, apps), overrides)
    faults = [*_unrecorded(plan)]
    if faults:
        raise PlanError(faults, plan.files)
    windows = dict(old)
    for name, window in windows_of(plan.apps).items():
        windows[name] = {**window, "seats": old[name]["seats"], "count": old[name]["count"]}
    _freeze(windows, changed, frozen or {}, made.found)
    membership = contents["membership"]
    if changed:
        texts = ((name, each["of"], blob(each["digest"])) for name, each in tree["lists"].items())
        found = made.found
        seated = _seated(windows, lambda each: found[each] if each in found else blob(each))
        some = bool(tree["lists"] or frozen_of(windows))
        membership = _membership(plan, texts, seated, progress, found) if some else None
    if patches is None:
        patches = {
            app: layout.decode(layout.Patches, blob(tree["patches"][app]))
            for app in apps
            if app in tree["patches"]
        }
    settings = _settings(plan, windows)
    programs = {
        app.id: made.keep(_program(app, settings, windows, patches))
        for app in plan.apps
        if app.id in apps
    }
    tree = {**tree, "overrides": in_order(overrides), "windows": windows}
    contents = {
        **contents,
        "settings": made.keep(layout.encode(layout.Settings, settings)),
        "programs": {**contents["programs"], **programs},
        "switches": _switches(plan, settings, made),
        "membership": membership,
        "amended": amended(plan, tree["overrides"]),
        "plan": made.keep(layout.encode(layout.Tree, tree)),
    }
    root = made.keep(layout.encode(layout.Contents, contents))
    return Image(root, contents, tree, made.found)


def _freeze(
    windows: Mapping[str, layout.Window],
    names: Iterable[str],
    frozen: Mapping[str, Frozen],
    found: MutableMapping[bytes, bytes],
) -> None:
    """Freeze or open the windows of these names; put the seats of the frozen ones into `found`."""
    for name in names:
        window, seats, count = windows[name], b"", 0
        if name in frozen:
            seats, count = digest_of(frozen[name].seats), frozen[name].count
            found[seats] = frozen[name].seats
        window["seats"], window["count"] = seats, count


def _seated(
    windows: Mapping[str, layout.Window], blob: Callable[[bytes], bytes]
) -> "Iterator[tuple[str, Hashes]]":
    for name, window in frozen_of(windows).items():
        yield list_name(name), Frozen(blob(window["seats"])).hashes


def _membership(
    plan: Plan,
    texts: Iterable[tuple[str, str, bytes]],
    seated: "Iterable[tuple[str, Hashes]]",
    progress: Progress,
    found: MutableMapping[bytes, bytes],
) -> layout.Membership:
    """Make the table of all lists and frozen windows, and put its blobs into `found`."""
    # numpy takes its time to import, and who changes one value at once needs none.
    from compiler.lists.buckets import build_membership  # noqa: PLC0415

    return build_membership(plan.workspace.name, texts, progress, found, seated).membership


def _touched(old: Sequence[layout.Override], new: Sequence[layout.Override]) -> set[str]:
    """Name the apps whose overrides differ, and switches."""
    one, other = (
        {place_of(each): each["value"] for each in side if each["what"] != What.MEMBER}
        for side in (old, new)
    )
    return {place.app for place in {*one, *other} if one.get(place) != other.get(place)}


def _assemble(
    plan: Plan,
    lists: dict[str, layout.ListFile],
    membership: layout.Membership | None,
    windows: dict[str, layout.Window],
    found: MutableMapping[bytes, bytes],
    overrides: Sequence[layout.Override],
    patches: Mapping[str, layout.Patches],
) -> Image:
    files = plan.files
    plan = lay_over(plan, overrides)
    faults = [*_unusable(plan), *_unrecorded(plan)]
    if faults:
        raise PlanError(faults, files)
    blobs = _Blobs(found)
    tree: layout.Tree = {
        "files": {path: blobs.keep(text.encode()) for path, text in sorted(files.items())},
        "apps": {app.id: app.file for app in plan.apps},
        "switch_apps": switch_apps(plan),
        "lists": lists,
        "patches": _keep_patches(patches, blobs),
        "overrides": in_order(overrides),
        "windows": windows,
    }
    settings = _settings(plan, windows)
    contents: layout.Contents = {
        "format": layout.FORMAT,
        "settings": blobs.keep(layout.encode(layout.Settings, settings)),
        "programs": {
            app.id: blobs.keep(_program(app, settings, windows, patches)) for app in plan.apps
        },
        "switches": _switches(plan, settings, blobs),
        "membership": membership,
        "amended": amended(plan, tree["overrides"]),
        "plan": blobs.keep(layout.encode(layout.Tree, tree)),
    }
    root = blobs.keep(layout.encode(layout.Contents, contents))
    return Image(root, contents, tree, found)


@dataclass(frozen=True, slots=True)
class _Blobs:
    """Blobs on their way into an image."""

    found: MutableMapping[bytes, bytes]

    def keep(self, blob: bytes) -> bytes:
        """Add a blob; give its digest."""
        digest = digest_of(blob)
        self.found[digest] = blob
        return digest


def _keep_patches(patches: Mapping[str, layout.Patches], blobs: _Blobs) -> dict[str, bytes]:
    return {
        app: blobs.keep(layout.encode(layout.Patches, each))
        for app, each in sorted(patches.items())
    }


def _unrecorded(plan: Plan) -> Iterator[Diagnostic]:
    """Report packages that would be offered and have no record."""
    for app in plan.apps:
        versions = {each.package for each in offered(app)}
        for package in app.packages:
            if package.record is None and package.version in versions:
                yield error(
                    package.span,
                    f"package {package.version} of {app.id} is on offer but has no record, so no "
                    f"phone could fetch it. Run: tidegate upload FILE --app {app.id} --version "
                    f"{package.version}",
                )


def _unusable(plan: Plan) -> Iterator[Diagnostic]:
    """Report expressions that RE2 reads, but that no gateway would take: they need too much."""
    for source in plan.lists:
        try:
            ExpressionLists({source.name: _list_entry(source)}, {source.name: 0})
        except FormatError as fault:
            yield error(
                source.span,
                f'the expressions of the list "{source.name}" cannot be used: {fault}. '
                "Write shorter ones, with smaller repetitions.",
            )


def _list_entry(source: ListSource) -> layout.ListEntry:
    return {"of": source.of, "regex": list(source.regex)}


def _program(
    app: App,
    settings: layout.Settings,
    windows: Mapping[str, layout.Window],
    patches: Mapping[str, layout.Patches],
) -> bytes:
    """Compile an app, and open the result as a gateway will: it decodes at the first check only."""
    known = patches[app.id]["patches"] if app.id in patches else {}
    frozen = frozen_releases(windows, app.id)
    blob = layout.encode(layout.Program, lower_app(app, known, frozen))
    bits = {name: at for at, name in enumerate(sorted(settings["lists"]))}
    Program(layout.decode(layout.Program, blob), bits, Memory())
    return blob


def _switches(plan: Plan, settings: layout.Settings, blobs: _Blobs) -> bytes | None:
    """Compile the switches, open the result as a gateway will, and give its digest."""
    lowered = lower_switches(plan)
    if lowered is None:
        return None
    blob = layout.encode(layout.Switches, lowered)
    bits = {name: at for at, name in enumerate(sorted(settings["lists"]))}
    open_switches(blob, bits, Memory())
    return blobs.keep(blob)


def _identity(identity: Identity | None) -> layout.Identity | None:
    if identity is None:
        return None
    return {
        "keys": {key.kid or "": key.public for key in identity.keys},
        "issuer": identity.issuer,
        "audience": sorted(set(identity.audience)),
        "device": identity.device,
    }


def _settings(plan: Plan, windows: Mapping[str, layout.Window]) -> layout.Settings:
    workspace = plan.workspace
    lists = {source.name: _list_entry(source) for source in plan.lists}
    for name, window in frozen_of(windows).items():
        lists[list_name(name)] = {"of": kind_of(window), "regex": []}
    return {
        "workspace": workspace.name,
        "check_after": workspace.check_after,
        "cdn": [
            {
                "regions": [region.casefold() for region in rule.regions],
                "bases": list(rule.bases),
                "expires": rule.expires,
            }
            for rule in workspace.cdn
        ],
        "placeholders": sorted({text.casefold() for text in workspace.placeholders}),
        "cors": list(workspace.cors),
        "identity": _identity(workspace.identity),
        "lists": lists,
    }
