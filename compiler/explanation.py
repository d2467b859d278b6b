"""Explain: what one client is told, and why, from an epoch's own plan and buckets.

The reference evaluator gives the reasons; memberships come from the same buckets that gateways
read, so no plan file and no list file is needed.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from compiler.amendments import laid_ids
from compiler.carried_plan import read_plan
from compiler.overrides import lay_over
from compiler.plan import App, Plan
from compiler.publication.epoch import Publication, Reader
from compiler.reference import Memberships, Seats, real_id
from compiler.windows import SUBJECT, USER, list_name, window_name
from gateway import layout
from gateway.hashing import id_hash, id_seed
from gateway.membership import ExpressionLists, MembershipTable

Bucket = Callable[[bytes], bytes | None]
"""Gives a bucket by its short digest, None when it is not there."""

Sit = Callable[[str, int, bool], bool]
"""Tells of an app's open window, by release id, whether a hash sits there, or (True) would."""


def plan_of(publication: Publication, blob: Reader, apps: Collection[str] | None = None) -> Plan:
    """Read the plan that an epoch carries, its overrides laid over it; of apps only these.

    Raises PlanError.
    """
    return lay_over(read_plan(publication.tree, blob, apps), publication.tree["overrides"])


class Roll:
    """The lists of an epoch: says which have a client, as a gateway would find out."""

    def __init__(self, publication: Publication, plan: Plan, blob: Reader, bucket: Bucket) -> None:
        self._plan = plan
        self._bucket = bucket
        settings: layout.Settings = layout.decode(
            layout.Settings, blob(publication.contents["settings"])
        )
        self._lists = settings["lists"]
        self._names = sorted(self._lists)
        bits = {name: at for at, name in enumerate(self._names)}
        self._expressions = ExpressionLists(settings["lists"], bits)
        self._laid = laid_ids(publication.tree["overrides"])
        self._table: MembershipTable | None = None
        membership = publication.contents["membership"]
        if membership is not None:
            sets: layout.Sets = layout.decode(layout.Sets, blob(membership["sets"]))
            shards = [blob(digest) for digest in membership["shards"]]
            self._table = MembershipTable(membership, sets, shards, bits)

    def memberships(self, check: Mapping[str, Any]) -> Memberships:
        """Find the lists of a client. A bucket that is missing leaves its lists unknown."""
        surely, unknown = set(), set()
        for kind in (USER, "device"):
            subject = real_id(self._plan.workspace, check, kind)
            if subject is None:
                continue
            surely |= self._named(self._expressions.mask(kind, subject))
            kinds = {kind}
            if kind != USER or real_id(self._plan.workspace, check, "device") is None:
                kinds.add(SUBJECT)
            ours = {
                name
                for name, entry in self._lists.items()
                if entry["of"] in kinds and not entry["regex"]
            }
            found = self._exact(id_hash(subject, id_seed(self._plan.workspace.name, kind)))
            if found is None:
                unknown |= ours
            else:
                surely |= ours & self._named(found)
            laid = {
                name: subject in on
                for name, (on, off) in self._laid.items()
                if (subject in on or subject in off) and self._of(name) == kind
            }
            surely = surely - laid.keys() | {name for name, on in laid.items() if on}
            unknown -= laid.keys()
        return Memberships(frozenset(surely), frozenset(unknown))

    def seats(self, check: Mapping[str, Any], app: App, sit: Sit) -> Seats:
        """Find in which of an app's windows a client sits, and which would seat it now."""
        on = self.memberships(check).surely
        seated, free = set(), set()
        for release in app.releases:
            if release.audience.window is None:
                continue
            name = window_name(app.id, release.id)
            subject = self._subject(check, by_user=release.audience.by_user)
            if list_name(name) in self._lists:
                if list_name(name) in on:
                    seated.add((app.id, release.id))
            elif subject is not None:
                if sit(release.id, subject, False):
                    seated.add((app.id, release.id))
                elif sit(release.id, subject, True):
                    free.add((app.id, release.id))
        return Seats(frozenset(seated), frozenset(free))

    def _subject(self, check: Mapping[str, Any], *, by_user: bool) -> int | None:
        workspace = self._plan.workspace
        for kind in (USER,) if by_user else ("device", USER):
            subject = real_id(workspace, check, kind)
            if subject is not None:
                return id_hash(subject, id_seed(workspace.name, kind))
        return None

    def _of(self, name: str) -> str | None:
        return self._lists[name]["of"] if name in self._lists else None

    def _named(self, mask: int) -> set[str]:
        return {name for at, name in enumerate(self._names) if mask >> at & 1}

    def wanted(self, check: Mapping[str, Any]) -> set[bytes]:
        """Name the buckets that `memberships` of this check asks for, to fetch many at once."""
        found = set()
        for kind in ("user", "device"):
            subject = real_id(self._plan.workspace, check, kind)
            if subject is not None and self._table is not None:
                hashed = id_hash(subject, id_seed(self._plan.workspace.name, kind))
                if self._table.may_hold(hashed):
                    found.add(self._table.bucket_of(hashed))
        return found - {layout.EMPTY_BUCKET}

    def _exact(self, hashed: int) -> int | None:
        if self._table is None or not self._table.may_hold(hashed):
            return 0
        digest = self._table.bucket_of(hashed)
        if digest == layout.EMPTY_BUCKET:
            return 0
        bucket = self._bucket(digest)
        return None if bucket is None else self._table.lists_of(hashed, bucket)
