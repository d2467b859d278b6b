"""The image: every blob of one publication, made from a checked plan and its lists' ids.

Equal plans, lists and withdrawals give equal images, byte for byte; number, author, time and note
belong to the epoch that publishes an image, not to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

from compiler.diagnostic import Diagnostic, PlanError, error
from compiler.language.reading import read_files
from compiler.lists.allowlist import ListIds
from compiler.lists.buckets import build_membership
from compiler.lowering import lower_app, offered
from compiler.plan import App, ListSource, Plan
from compiler.progress import Progress, quiet
from compiler.windows import (
    Frozen,
    Hashes,
    frozen_of,
    frozen_releases,
    kind_of,
    list_name,
    windows_of,
)
from gateway import layout
from gateway.errors import FormatError
from gateway.layout import digest_of
from gateway.membership import ExpressionLists
from gateway.program import Program
from gateway.remembered import Memory
from gateway.version import parse_version


@dataclass(frozen=True, slots=True)
class Image:
    """The tree of blobs below `root`, the digest of the contents blob.

    `blobs` holds all of them by digest: contents, settings, programs, sets, shards, packs, the
    plan tree, plan files, patches and the lists' ids.
    """

    root: bytes
    contents: layout.Contents
    tree: layout.Tree
    blobs: Mapping[bytes, bytes]


def build_image(
    plan: Plan,
    lists: Iterable[ListIds],
    withdrawals: Sequence[layout.Withdrawal] = (),
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

    membership = None
    windows = _windows(plan, frozen or {}, found)
    if frozen_of(windows) or not all(source.regex for source in plan.lists):
        seated = _seated(windows, found)
        table = build_membership(plan.workspace.name, texts(), progress, found, seated)
        membership = table.membership
    return _assemble(plan, files, membership, windows, found, withdrawals, patches or {})


def rebuild_image(
    tree: layout.Tree,
    membership: layout.Membership | None,
    blob: Callable[[bytes], bytes],
    withdrawals: Sequence[layout.Withdrawal],
    blobs: MutableMapping[bytes, bytes] | None = None,
    frozen: Mapping[str, Frozen] | None = None,
) -> Image:
    """Compile an epoch's own plan again, with other withdrawals laid over it.

    `blob` gives any blob of that epoch. The lists are the same, so their tables are reused, unless
    other windows are `frozen` (None: the same as there). The image's blobs are put into `blobs`,
    if given, which is empty.
    Raises PlanError when this compiler no longer accepts that plan.
    """
    texts = {path: blob(digest).decode() for path, digest in tree["files"].items()}
    reading = read_files(texts, now=0)
    if reading.plan is None:
        raise PlanError(reading.diagnostics, reading.sources)
    found = {} if blobs is None else blobs
    for each in tree["lists"].values():
        found[each["digest"]] = blob(each["digest"])
    if frozen is None:
        frozen = {name: Frozen(blob(each["seats"])) for name, each in _known(tree).items()}
    windows = _windows(reading.plan, frozen, found)
    if _seats(windows) != _seats(tree["windows"]):
        workspace = reading.plan.workspace.name
        texts_of = (
            (name, each["of"], blob(each["digest"])) for name, each in tree["lists"].items()
        )
        membership = None
        if tree["lists"] or frozen_of(windows):
            seated = _seated(windows, found)
            membership = build_membership(workspace, texts_of, quiet, found, seated).membership
    elif membership is not None:
        for digest in (membership["sets"], *membership["shards"], *membership["packs"]):
            found[digest] = blob(digest)
    patches: dict[str, layout.Patches] = {
        app: layout.decode(layout.Patches, blob(digest)) for app, digest in tree["patches"].items()
    }
    return _assemble(reading.plan, tree["lists"], membership, windows, found, withdrawals, patches)


def _known(tree: layout.Tree) -> dict[str, layout.Window]:
    return frozen_of(tree["windows"])


def _seats(windows: Mapping[str, layout.Window]) -> dict[str, tuple[bytes, str]]:
    """Say what of windows stands in the membership table."""
    return {name: (each["seats"], kind_of(each)) for name, each in frozen_of(windows).items()}


def _windows(
    plan: Plan, frozen: Mapping[str, Frozen], found: MutableMapping[bytes, bytes]
) -> dict[str, layout.Window]:
    """Give the plan's windows, and put the seats of the frozen ones into `found`."""
    windows = windows_of(plan.apps)
    for name, window in windows.items():
        if name in frozen:
            window["seats"] = digest_of(frozen[name].seats)
            window["count"] = frozen[name].count
            found[window["seats"]] = frozen[name].seats
    return windows


def _seated(
    windows: Mapping[str, layout.Window], found: Mapping[bytes, bytes]
) -> Iterator[tuple[str, Hashes]]:
    for name, window in frozen_of(windows).items():
        yield list_name(name), Frozen(found[window["seats"]]).hashes


def _assemble(
    plan: Plan,
    lists: dict[str, layout.ListFile],
    membership: layout.Membership | None,
    windows: dict[str, layout.Window],
    found: MutableMapping[bytes, bytes],
    withdrawals: Sequence[layout.Withdrawal],
    patches: Mapping[str, layout.Patches],
) -> Image:
    apps = [withdraw(app, withdrawals) for app in plan.apps]
    faults = [*_unusable(plan)]
    faults += [
        error(
            package.span,
            f"package {package.version} of {app.id} is on offer but has no record, so no phone "
            f"could fetch it. Run: tidegate upload FILE --app {app.id} --version {package.version}",
        )
        for app in apps
        for package in app.packages
        if package.record is None and package.version in {each.package for each in offered(app)}
    ]
    if faults:
        raise PlanError(faults, plan.files)

    def keep(blob: bytes) -> bytes:
        digest = digest_of(blob)
        found[digest] = blob
        return digest

    tree: layout.Tree = {
        "files": {path: keep(text.encode()) for path, text in sorted(plan.files.items())},
        "lists": lists,
        "patches": {
            app: keep(layout.encode(layout.Patches, each)) for app, each in sorted(patches.items())
        },
        "withdrawals": _still_needed(plan, withdrawals),
        "windows": windows,
    }
    settings = _settings(plan, windows)
    contents: layout.Contents = {
        "format": layout.FORMAT,
        "settings": keep(layout.encode(layout.Settings, settings)),
        "programs": {app.id: keep(_program(app, settings, windows, patches)) for app in apps},
        "membership": membership,
        "plan": keep(layout.encode(layout.Tree, tree)),
    }
    root = keep(layout.encode(layout.Contents, contents))
    return Image(root, contents, tree, found)


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


def withdraw(app: App, withdrawals: Sequence[layout.Withdrawal]) -> App:
    """Lay withdrawals over an app: its packages of these versions count as withdrawn."""
    keys = {parse_version(each["version"]) for each in withdrawals if each["app"] == app.id}
    if not keys:
        return app
    packages = tuple(
        replace(package, withdrawn=package.withdrawn or package.key in keys)
        for package in app.packages
    )
    return replace(app, packages=packages)


def _still_needed(plan: Plan, withdrawals: Sequence[layout.Withdrawal]) -> list[layout.Withdrawal]:
    """Drop what the plan says itself; keep the rest, sorted."""
    said = {
        (app.id, package.key) for app in plan.apps for package in app.packages if package.withdrawn
    }
    kept = {
        (each["app"], each["version"])
        for each in withdrawals
        if (each["app"], parse_version(each["version"])) not in said
    }
    return [{"app": app, "version": version} for app, version in sorted(kept)]


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
        "lists": lists,
    }
