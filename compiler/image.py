"""The image: every blob of one publication, made from a checked plan and its lists' ids.

Equal plans, lists and overrides give equal images, byte for byte; number, author, time and note
belong to the epoch that publishes an image, not to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler.carried_plan import read_plan
from compiler.diagnostic import Diagnostic, PlanError, error
from compiler.lowering import lower_app, offered
from compiler.overrides import in_order, lay_over
from compiler.plan import App, ListSource, Plan
from compiler.progress import Progress, quiet
from compiler.switches import lower_switches, switch_apps
from gateway import layout
from gateway.errors import FormatError
from gateway.layout import digest_of
from gateway.membership import ExpressionLists
from gateway.program import Program
from gateway.remembered import Memory
from gateway.switches import open_switches

if TYPE_CHECKING:
    from compiler.lists.allowlist import ListIds


@dataclass(frozen=True, slots=True)
class Image:
    """The tree of blobs below `root`, the digest of the contents blob.

    `blobs` holds all of them by digest: contents, settings, programs, switches, sets, shards,
    packs, the plan tree, plan files, patches and the lists' ids. Of a relaid image it holds what is
    new.
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
) -> Image:
    """Compile a plan. `lists` are the read ids of all its lists of ids, `patches` those by app.

    `lists` may be a generator, so that one list's ids are in memory at a time. The image's blobs
    are put into `blobs`, if given, which is empty.
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
    if not all(source.regex for source in plan.lists):
        # numpy takes its time to import, and who changes one value at once needs none.
        from compiler.lists.buckets import build_membership  # noqa: PLC0415

        table = build_membership(plan.workspace.name, texts(), progress, found)
        membership = table.membership
    return _assemble(plan, files, membership, found, overrides, patches or {})


def relay_image(
    contents: layout.Contents,
    tree: layout.Tree,
    blob: Callable[[bytes], bytes],
    overrides: Sequence[layout.Override],
    patches: Mapping[str, layout.Patches] | None = None,
) -> Image:
    """Lay other overrides over a compiled plan, by compiling again only what they touch.

    With `patches` these take the place of those that it has.

    `contents` and `tree` are of an epoch or an image, and `blob` gives any blob of theirs by its
    digest. The image's `blobs` are only those that it has made: all others are theirs.
    Raises PlanError when this compiler no longer accepts a touched app, or cannot offer it.
    """
    blobs = _Blobs({})
    apps = _touched(tree["overrides"], overrides)
    if patches is not None:
        known, offers = tree["patches"], _keep_patches(patches, blobs)
        apps |= {app for app in known.keys() | offers.keys() if known.get(app) != offers.get(app)}
        tree = {**tree, "patches": offers}
    apps &= contents["programs"].keys()
    plan = lay_over(read_plan(tree, blob, apps), overrides)
    faults = [*_unrecorded(plan)]
    if faults:
        raise PlanError(faults, plan.files)
    if patches is None:
        patches = {
            app: layout.decode(layout.Patches, blob(tree["patches"][app]))
            for app in apps
            if app in tree["patches"]
        }
    programs = {
        app.id: blobs.keep(_program(app, plan, patches)) for app in plan.apps if app.id in apps
    }
    tree = {**tree, "overrides": in_order(overrides)}
    contents = {
        **contents,
        "settings": blobs.keep(layout.encode(layout.Settings, _settings(plan))),
        "programs": {**contents["programs"], **programs},
        "switches": _switches(plan, blobs),
        "plan": blobs.keep(layout.encode(layout.Tree, tree)),
    }
    root = blobs.keep(layout.encode(layout.Contents, contents))
    return Image(root, contents, tree, blobs.found)


def _touched(old: Sequence[layout.Override], new: Sequence[layout.Override]) -> set[str]:
    """Name the apps whose overrides differ."""
    return {each["app"] for each in (*old, *new) if each not in old or each not in new}


def _assemble(
    plan: Plan,
    lists: dict[str, layout.ListFile],
    membership: layout.Membership | None,
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
    }
    contents: layout.Contents = {
        "format": layout.FORMAT,
        "settings": blobs.keep(layout.encode(layout.Settings, _settings(plan))),
        "programs": {app.id: blobs.keep(_program(app, plan, patches)) for app in plan.apps},
        "switches": _switches(plan, blobs),
        "membership": membership,
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


def _program(app: App, plan: Plan, patches: Mapping[str, layout.Patches]) -> bytes:
    """Compile an app, and open the result as a gateway will: it decodes at the first check only."""
    known = patches[app.id]["patches"] if app.id in patches else {}
    blob = layout.encode(layout.Program, lower_app(app, known))
    bits = {source.name: at for at, source in enumerate(plan.lists)}
    Program(layout.decode(layout.Program, blob), bits, Memory())
    return blob


def _switches(plan: Plan, blobs: _Blobs) -> bytes | None:
    """Compile the switches, open the result as a gateway will, and give its digest."""
    lowered = lower_switches(plan)
    if lowered is None:
        return None
    blob = layout.encode(layout.Switches, lowered)
    bits = {source.name: at for at, source in enumerate(plan.lists)}
    open_switches(blob, bits, Memory())
    return blobs.keep(blob)


def _settings(plan: Plan) -> layout.Settings:
    workspace = plan.workspace
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
        "lists": {source.name: _list_entry(source) for source in plan.lists},
    }
