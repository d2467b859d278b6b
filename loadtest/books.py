"""The books: every kept epoch of a store as rules for the referee, by its number.

An answer is judged by the plan of the epoch that it names, so a run may be pushed to and paused in
its midst. Everything is read by its digest, which the store checks, and nothing is asked of
gateways. The store is enough: Redis only tells sooner which epoch is the newest.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from compiler.carried_plan import read_plan
from compiler.overrides import lay_over
from compiler.plan import Plan
from compiler.publication.epoch import Publication
from compiler.publication.history import find_epoch
from compiler.publication.live import newest_pointer, stored_pointer
from compiler.publication.mirror import Mirror
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from compiler.windows import frozen_of, split_name
from gateway import layout
from gateway.errors import StoreError
from gateway.layout import decode_pointer
from gateway.link import connect_sync, parse_url
from gateway.membership import MembershipTable
from loadtest.rules import Ids, Rules, SeatHashes

KEPT = 8
"""Epochs that are remembered; two follow one another in an ordinary push."""

PATIENCE_SECONDS = 5.0
"""Gateways serve an epoch a little before the store's own pointer moves."""

_AGAIN_SECONDS = 0.1
_REDIS_TIMEOUT_SECONDS = 5.0


def open_books(
    store: str, workspace: str, redis: str = "", url_secret: str | None = None
) -> "Books":
    """Open a store's books, with Redis's help if its URL is given.

    Raises StoreError when the store is away, ValueError for a URL that is none.
    """
    opened = open_store(store, create=False)
    if not redis:
        return Books(opened, url_secret=url_secret)
    link = connect_sync(parse_url(redis), timeout_seconds=_REDIS_TIMEOUT_SECONDS)
    mirror = Mirror(link, workspace)

    def newest() -> bytes | None:
        try:
            return newest_pointer(opened, mirror)
        except StoreError:  # Redis may be away in the midst of a run; if the store is, it says so
            return stored_pointer(opened)

    return Books(opened, newest, url_secret=url_secret)


_Files = dict[str, bytes]
"""Digests of a plan's files by path."""


class Books:
    """The epochs of one store, read when they are first asked for."""

    def __init__(
        self,
        store: Store,
        pointer: Callable[[], bytes | None] | None = None,
        *,
        url_secret: str | None = None,
    ) -> None:
        """`pointer` gives that to the newest epoch; else the store's own is followed."""
        self._store = store
        self._pointer = pointer or (lambda: stored_pointer(store))
        self._url_secret = url_secret
        self._rules: dict[int, Rules] = {}
        # Two epochs share what they share in the store, for as long as one of them is kept.
        self._lists: WeakValueDictionary[bytes, Ids] = WeakValueDictionary()
        self._last_plan: tuple[_Files, dict[str, _Files], Plan] | None = None
        self._last_table: tuple[layout.Membership, MembershipTable] | None = None

    def newest(self) -> Rules:
        """Read the newest epoch. Raises Refused when nothing was published; StoreError."""
        return self.rules(decode_pointer(self._told())[0])

    def rules(self, number: int, patience_seconds: float = PATIENCE_SECONDS) -> Rules:
        """Give an epoch's rules, waiting a little for one that is not in the store's pointer yet.

        Raises Refused when there is no such epoch, or it was collected; StoreError, FormatError,
        and PlanError when this compiler no longer reads its plan.
        """
        found = self._rules.pop(number, None) or self._read(self._find(number, patience_seconds))
        self._rules[number] = found  # the last is the one that was asked for last
        while len(self._rules) > KEPT:
            del self._rules[next(iter(self._rules))]
        return found

    def _told(self) -> bytes:
        pointer = self._pointer()
        if pointer is None:
            raise Refused("Nothing was published in this store yet. Run: tidegate push")
        return pointer

    def _find(self, number: int, patience_seconds: float) -> Publication:
        end = time.monotonic() + patience_seconds
        while True:
            newest, digest = decode_pointer(self._told())
            if number <= newest or time.monotonic() > end:
                return find_epoch(self._store, digest, number)
            time.sleep(_AGAIN_SECONDS)

    def _read(self, publication: Publication) -> Rules:
        blob, tree = self._store.get_blob, publication.tree
        return Rules(
            publication.number,
            lay_over(self._plan(tree), tree["overrides"]),
            {name: self._ids(each["digest"]) for name, each in tree["lists"].items()},
            {
                split_name(name): SeatHashes(blob(window["seats"]))
                for name, window in frozen_of(tree["windows"]).items()
            },
            {
                app: layout.decode(layout.Patches, blob(digest))["patches"]
                for app, digest in tree["patches"].items()
            },
            self._url_secret,
            self._table(publication),
        )

    def _plan(self, tree: layout.Tree) -> Plan:
        """Read a plan without its overrides: of ten thousand apps only what a push has changed."""
        shared, apps = _parts(tree)
        blob, before = self._store.get_blob, self._last_plan
        if before is None or before[0] != shared:
            plan = read_plan(tree, blob)
        else:
            plan = read_plan(tree, blob, [app for app in apps if before[1].get(app) != apps[app]])
            known = {app.id: app for app in (*before[2].apps, *plan.apps)}
            plan = replace(plan, apps=tuple(known[app] for app in sorted(apps)))
        self._last_plan = shared, apps, plan
        return plan

    def _table(self, publication: Publication) -> MembershipTable | None:
        membership = publication.contents["membership"]
        if membership is None:
            return None
        if self._last_table and self._last_table[0] == membership:  # few pushes change a list
            return self._last_table[1]
        blob = self._store.get_blob
        sets: layout.Sets = layout.decode(layout.Sets, blob(membership["sets"]))
        shards = [blob(digest) for digest in membership["shards"]]
        positions = {name: at for at, name in enumerate(sets["lists"])}
        table = MembershipTable(membership, sets, shards, positions)
        self._last_table = membership, table
        return table

    def _ids(self, digest: bytes) -> Ids:
        found = self._lists.get(digest)
        if found is None:
            self._lists[digest] = found = Ids(self._store.get_blob(digest))
        return found


def _parts(tree: layout.Tree) -> tuple[_Files, dict[str, _Files]]:
    """Divide a plan's files into those that all apps share, and those of each app."""
    owners = {file: app for app, file in tree["apps"].items()}
    shared: _Files = {}
    apps: dict[str, _Files] = {app: {} for app in tree["apps"]}
    for path, digest in tree["files"].items():
        owner = path.split("/")[1] if path.startswith("packages/") else owners.get(path)
        apps.get(owner or "", shared)[path] = digest
    return shared, apps
