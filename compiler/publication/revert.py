"""`tidegate revert E`: what epoch E published, under a new number, and the overrides of now.

Every override of the live epoch is laid over E's plan, also one that E's plan says itself: the
next push is made from a plan that knows nothing of E. E's own overrides are gone. And a version
that the live plan withdraws stays withdrawn, as does one that was withdrawn after E and has
vanished from the plan since. Whoever has been seated in a time window since keeps the seat.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from compiler.carried_plan import read_plan
from compiler.diagnostic import PlanError
from compiler.image import Image, relay_image
from compiler.overrides import What, lay_over, named, put
from compiler.plan import Plan
from compiler.publication.change import Change, changed_settings
from compiler.publication.epoch import Publication, Reader, read_publication, stored_digests
from compiler.publication.freshness import withdrawn_keys
from compiler.publication.history import End, find_epoch, walk
from compiler.publication.mirror import Mirror
from compiler.publication.stranding import strandings
from compiler.publication.windows import carry_over
from compiler.refusal import Refused
from compiler.storage.spool import Spool
from compiler.storage.store import Store
from compiler.windows import Frozen
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
    """What a revert would publish: `kept` are the overrides laid over it, `stranded` is lost.

    `keys` tells how the trusted keys of the plan would change, None when they stay. `hosts` are
    the host apps that a withdrawal leaves without a target under E's plan, and not under the live.
    """

    source: Publication
    image: Image
    kept: tuple[layout.Override, ...]
    stranded: tuple[Stranded, ...]
    keys: Change | None
    hosts: tuple[str, ...] = ()


def prepare_revert(
    store: Store, mirror: Mirror, live: Publication, number: int, *, now: int
) -> Reversion:
    """Build the image that `revert number` publishes; `now` is in Unix seconds.

    Publish it with `force=True` and `commit=live.epoch["commit"]`: it stands on no checkout, and
    the next push must still contain what is live now. Raises Refused, PlanError (this compiler no
    longer accepts that plan), StoreError and FormatError.
    """
    if number == live.number:
        raise Refused(f"Epoch {number} is live already: there is nothing to revert.")
    source = find_epoch(store, live.digest, number)
    plan = _plan(source, store.get_blob)
    overrides = _overrides(store, live, source, plan)
    wanted = source.tree["windows"]  # whoever was seated since keeps the seat
    frozen = carry_over(mirror, {**wanted, **live.tree["windows"]}, wanted, store.get_blob)
    image = _relaid(store, source, overrides, frozen)
    was = _plan(live, store.get_blob)
    stranded = tuple(_stranded(was, plan)) if plan else ()
    keys = _changed_keys(was, plan) if was and plan else None
    before = _hosts(was, live.tree["overrides"], now)
    hosts = tuple(line for line in _hosts(plan, overrides, now) if line not in before)
    return Reversion(source, image, tuple(image.tree["overrides"]), stranded, keys, hosts)


def _hosts(plan: Plan | None, overrides: list[layout.Override], now: int) -> list[str]:
    """Name the host apps that overrides, withdrawing versions, leave without a target."""
    if plan is None:
        return []
    laid = lay_over(plan, overrides)
    return [
        f"{named(each)}: {host}"
        for each in overrides
        if each["what"] == What.WITHDRAWN and each["value"] == "true"
        for host in strandings(laid, each["app"], parse_version(each["name"]), now)
    ]


def _relaid(
    store: Store,
    source: Publication,
    overrides: list[layout.Override],
    frozen: Mapping[str, Frozen],
) -> Image:
    """Lay the overrides over E, with all of its blobs: a `gc` may run, Redis may lack some."""
    blobs = Spool()
    blobs.update(store.get_blobs(stored_digests(source) - {source.digest}))
    image = relay_image(
        source.contents, source.tree, blobs.__getitem__, overrides, frozen, blobs=Spool()
    )
    blobs.update(image.blobs)
    return replace(image, blobs=blobs)


def _overrides(
    store: Store, live: Publication, source: Publication, plan: Plan | None
) -> list[layout.Override]:
    """Gather the live overrides, and what E's plan knows and is withdrawn now."""
    found = list(live.tree["overrides"])
    known = {
        (app.id, package.key): package.version
        for app in (plan.apps if plan is not None else ())
        for package in app.packages
    }
    for app, key in _withdrawn_since(store, live, source):
        if (app, key) in known:
            withdrawal = layout.Override(
                what=What.WITHDRAWN.value, app=app, name=known[app, key], value="true"
            )
            found = put(found, withdrawal)
    return found


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
    for each in epoch.tree["overrides"]:
        key = parse_version(each["name"])
        if each["what"] == What.WITHDRAWN and each["value"] == "true" and key is not None:
            found.add((each["app"], key))
    return found


def _known(epoch: Publication, blob: Reader) -> set[tuple[str, VersionKey]]:
    plan = _plan(epoch, blob)
    if plan is None:
        return set()
    return {(app.id, package.key) for app in plan.apps for package in app.packages}


def _plan(epoch: Publication, blob: Reader) -> Plan | None:
    try:
        return read_plan(epoch.tree, blob)
    except PlanError:
        return None


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
