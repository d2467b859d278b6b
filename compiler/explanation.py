"""Explain: what one client is told, and why, from an epoch's own plan and buckets.

The reference evaluator gives the reasons; memberships come from the same buckets that gateways
read, so no plan file and no list file is needed.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from compiler.carried_plan import read_plan
from compiler.overrides import lay_over
from compiler.plan import Plan
from compiler.publication.epoch import Publication, Reader
from compiler.reference import Memberships, real_id
from gateway import layout
from gateway.hashing import id_hash, id_seed
from gateway.membership import ExpressionLists, MembershipTable

Bucket = Callable[[bytes], bytes | None]
"""Gives a bucket by its short digest, None when it is not there."""


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
        self._names = sorted(source.name for source in plan.lists)
        bits = {name: at for at, name in enumerate(self._names)}
        settings: layout.Settings = layout.decode(
            layout.Settings, blob(publication.contents["settings"])
        )
        self._expressions = ExpressionLists(settings["lists"], bits)
        self._table: MembershipTable | None = None
        membership = publication.contents["membership"]
        if membership is not None:
            sets: layout.Sets = layout.decode(layout.Sets, blob(membership["sets"]))
            shards = [blob(digest) for digest in membership["shards"]]
            self._table = MembershipTable(membership, sets, shards, bits)

    def memberships(self, check: Mapping[str, Any]) -> Memberships:
        """Find the lists of a client. A bucket that is missing leaves its lists unknown."""
        mask, unknown = 0, set()
        for kind in ("user", "device"):
            subject = real_id(self._plan.workspace, check, kind)
            if subject is None:
                continue
            mask |= self._expressions.mask(kind, subject)
            found = self._exact(id_hash(subject, id_seed(self._plan.workspace.name, kind)))
            if found is None:
                unknown |= {
                    source.name
                    for source in self._plan.lists
                    if source.of == kind and not source.regex
                }
            else:
                mask |= found
        names = frozenset(name for at, name in enumerate(self._names) if mask >> at & 1)
        return Memberships(names, frozenset(unknown))

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
