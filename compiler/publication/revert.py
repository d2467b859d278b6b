"""`tidegate revert E`: what epoch E published, under a new number, less what is withdrawn now.

No override is lost: a version that the live epoch holds for withdrawn stays so, whether its plan
says it or an operator laid it over. And a version that was withdrawn after E, and has vanished
from the plan since, is not offered again either.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.image import Image, rebuild_image
from compiler.language.reading import read_files
from compiler.plan import Plan
from compiler.publication.change import Change, changed_settings
from compiler.publication.epoch import Publication, Reader, read_publication
from compiler.publication.freshness import withdrawn_keys
from compiler.publication.history import End, find_epoch, walk
from compiler.publication.mirror import Mirror
from compiler.publication.windows import carry_over
from compiler.refusal import Refused
from compiler.storage.spool import Spool
from compiler.storage.store import Store
from gateway import layout
from gateway.version import VersionKey, parse_version


@dataclass(frozen=True, slots=True)
class Stranded:
    """A version that the live epoch knows and the one reverted to does not.

    `version` is None for a whole app. Phones that have it keep it; nothing newer reaches them
    from this epoch. `offered` tells whether the live epoch offers it.
    """

    app: str
    version: str | None
    offered: bool


@dataclass(frozen=True, slots=True)
class Reversion:
    """What a revert would publish: `kept` are the withdrawals laid over it, `stranded` is lost.

    `keys` tells how the trusted keys of the plan would change, None when they stay.
    """

    source: Publication
    image: Image
    kept: tuple[layout.Withdrawal, ...]
    stranded: tuple[Stranded, ...]
    keys: Change | None


def prepare_revert(
    store: Store, live: Publication, number: int, mirror: Mirror | None = None
) -> Reversion:
    """Build the image that `revert number` publishes; `mirror` tells of time windows.

    Publish it with `force=True` and `commit=live.epoch["commit"]`: it stands on no checkout, and
    the next push must still contain what is live now. Raises Refused, PlanError (this compiler no
    longer accepts that plan), StoreError and FormatError.
    """
    if number == live.number:
        raise Refused(f"Epoch {number} is live already: there is nothing to revert.")
    source = find_epoch(store, live.digest, number)
    plan = _plan(source, store.get_blob)
    withdrawals = _withdrawals(store, live, source, plan)
    frozen = None
    if mirror is not None:  # whoever was seated since keeps the seat
        wanted = source.tree["windows"]
        known = {**wanted, **live.tree["windows"]}
        frozen = carry_over(mirror, known, wanted, store.get_blob)
    image = rebuild_image(
        source.tree, source.contents["membership"], store.get_blob, withdrawals, Spool(), frozen
    )
    now = _plan(live, store.get_blob)
    stranded = tuple(_stranded(now, plan)) if plan else ()
    keys = _changed_keys(now, plan) if now and plan else None
    return Reversion(source, image, tuple(image.tree["withdrawals"]), stranded, keys)


def _withdrawals(
    store: Store, live: Publication, source: Publication, plan: Plan | None
) -> list[layout.Withdrawal]:
    """Gather what must stay withdrawn: overrides, and what E's plan knows and is withdrawn now."""
    found = {(each["app"], each["version"]) for each in live.tree["withdrawals"]}
    known = {
        (app.id, package.key): package.version
        for app in (plan.apps if plan is not None else ())
        for package in app.packages
    }
    for app, key in _withdrawn_since(store, live, source):
        if (app, key) in known:
            found.add((app, known[app, key]))
    return [{"app": app, "version": version} for app, version in sorted(found)]


def _withdrawn_since(
    store: Store, live: Publication, source: Publication
) -> set[tuple[str, VersionKey]]:
    """Name every version whose last word, from the source to the live epoch, is "withdrawn".

    An epoch that knows the version and does not withdraw it has taken the withdrawal back; one
    that does not know it says nothing.
    """
    digests = []
    for found in walk(store, live.digest):
        if isinstance(found, End) or found.number <= source.number:
            break
        digests.append(found.digest)
    withdrawn: set[tuple[str, VersionKey]] = set()
    seen: dict[bytes, set[VersionKey]] = {}
    for digest in reversed(digests):
        epoch = read_publication(digest, store.get_blob)
        gone = _withdrawn(epoch, store.get_blob, seen)
        if not withdrawn <= gone:
            withdrawn -= _known(epoch, store.get_blob)
        withdrawn |= gone
    return withdrawn


def _withdrawn(
    epoch: Publication, blob: Reader, seen: dict[bytes, set[VersionKey]]
) -> set[tuple[str, VersionKey]]:
    """Name what an epoch withdraws; `seen` keeps what programs say, as most do not change."""
    found: set[tuple[str, VersionKey]] = set()
    for app, digest in epoch.contents["programs"].items():
        if digest not in seen:
            seen[digest] = withdrawn_keys(epoch.contents, app, blob)
        found.update((app, key) for key in seen[digest])
    for each in epoch.tree["withdrawals"]:
        key = parse_version(each["version"])
        if key is not None:
            found.add((each["app"], key))
    return found


def _known(epoch: Publication, blob: Reader) -> set[tuple[str, VersionKey]]:
    plan = _plan(epoch, blob)
    if plan is None:
        return set()
    return {(app.id, package.key) for app in plan.apps for package in app.packages}


def _plan(epoch: Publication, blob: Reader) -> Plan | None:
    files = {path: blob(digest).decode() for path, digest in epoch.tree["files"].items()}
    return read_files(files, now=0).plan


def _changed_keys(live: Plan, plan: Plan) -> Change | None:
    changes = changed_settings(live.workspace, plan.workspace)
    return next((each for each in changes if each.name == "keys"), None)


def _stranded(live: Plan | None, plan: Plan) -> Iterator[Stranded]:
    if live is None:
        return
    known = {app.id: {package.key for package in app.packages} for app in plan.apps}
    for app in live.apps:
        offered = {release.package for release in app.releases}
        if app.id not in known:
            yield Stranded(app.id, None, offered=bool(offered))
            continue
        for package in app.packages:
            if package.key not in known[app.id]:
                yield Stranded(app.id, package.version, offered=package.version in offered)
