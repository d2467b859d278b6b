"""What one epoch says, for the referee: plan, ids on lists, seats, patches. Pure.

Ids and seats stay the sorted bytes that they are in the store, and are searched there: ten million
ids cost no more than their text, and a fault in the gateways' tables of lists cannot hide here. Of
those only the filter is used, to tell for whom a gateway had to ask Redis at all.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import re2

from compiler.plan import App, ListSource, Plan, Release
from compiler.reference import Memberships, real_id
from gateway.hashing import id_hash, id_seed
from gateway.layout import PatchEntry
from gateway.membership import MembershipTable

Window = tuple[str, str]
"""A time window: its app and its release."""

NOBODY: frozenset[str] = frozenset()


class Ids:
    """The ids of a list, as the store has them: sorted by their bytes, each with a newline."""

    __slots__ = ("__weakref__", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text

    def sample(self, most: int) -> list[str]:
        """Give some ids, spread over the list: its first, and so on."""
        places = range(0, len(self._text), len(self._text) // most + 1)
        starts = {self._text.rfind(b"\n", 0, place) + 1: None for place in places}
        return [self._text[at : self._text.index(b"\n", at)].decode() for at in starts]

    def __contains__(self, wanted: str) -> bool:
        text, key = self._text, wanted.encode() + b"\n"
        low, high = 0, len(text)
        while low < high:  # both are where a line begins
            middle = text.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = text.index(b"\n", middle) + 1
            line = text[middle:end]
            if line == key:
                return True
            if line[:-1] < key[:-1]:
                low = end
            else:
                high = middle
        return False


class SeatHashes:
    """The seats of a frozen window, as the store has them: sorted big-endian 64-bit hashes."""

    __slots__ = ("_seats",)

    def __init__(self, seats: bytes) -> None:
        self._seats = seats

    def __contains__(self, hashed: int) -> bool:
        places, key = range(0, len(self._seats), 8), hashed.to_bytes(8, "big")
        at = 8 * bisect_left(places, key, key=lambda at: self._seats[at : at + 8])
        return self._seats[at : at + 8] == key


@dataclass(frozen=True, slots=True)
class Rules:
    """One epoch: `plan` has its overrides laid over it.

    `lists` has every list of ids, `frozen` the windows that are frozen; `patches` those of each app
    by the version that they lead to. With `url_secret` signed URLs are checked, too. Without the
    `table` of all lists anybody may be one for whom Redis had to be asked.
    """

    number: int
    plan: Plan
    lists: Mapping[str, Ids] = field(default_factory=dict)
    frozen: Mapping[Window, SeatHashes] = field(default_factory=dict)
    patches: Mapping[str, Mapping[str, Sequence[PatchEntry]]] = field(default_factory=dict)
    url_secret: str | None = None
    table: MembershipTable | None = field(default=None, repr=False)
    apps: Mapping[str, App] = field(init=False, repr=False)
    _alone: dict[str, Plan] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Index the apps: a plan may have ten thousand."""
        object.__setattr__(self, "apps", {app.id: app for app in self.plan.apps})

    def plan_of(self, app_id: str) -> Plan:
        """Give the plan with this app alone, which the reference evaluator finds at once."""
        if app_id not in self._alone and app_id in self.apps:
            self._alone[app_id] = replace(self.plan, apps=(self.apps[app_id],))
        return self._alone.get(app_id, self.plan)

    def members(self, most: int = 1_000) -> dict[str, list[str]]:
        """Give so many ids at most of each list of ids, for a population to draw from."""
        return {name: ids.sample(most) for name, ids in sorted(self.lists.items())}

    def memberships(self, phone: Mapping[str, Any], away: frozenset[str] = NOBODY) -> Memberships:
        """Find the lists of a phone; those of exact ids of the kinds in `away` are unknown."""
        surely, unknown = set(), set()
        ids = {kind: real_id(self.plan.workspace, phone, kind) for kind in ("user", "device")}
        for source in self.plan.lists:
            subject = ids[source.of]
            if subject is None:
                continue
            if source.regex:
                if _is_found(source, subject):
                    surely.add(source.name)
            elif source.of in away:
                unknown.add(source.name)
            elif subject in self.lists[source.name]:
                surely.add(source.name)
        return Memberships(frozenset(surely), frozenset(unknown))

    def looked_up(self, phone: Mapping[str, Any]) -> list[str]:
        """Name the kinds of ids of a phone for which a gateway asks Redis, and may get no answer.

        Whom the filter takes for a stranger to all lists, it answers by itself.
        """
        found = []
        for kind in ("user", "device"):
            subject = real_id(self.plan.workspace, phone, kind)
            if subject is not None and (
                self.table is None or self.table.may_hold(self._hash(kind, subject))
            ):
                found.append(kind)
        return found

    def windows(
        self, phone: Mapping[str, Any], app: App, away: frozenset[str] = NOBODY
    ) -> tuple[set[Window], set[Window]]:
        """Find an app's frozen windows in which a phone sits, and its open ones, where it may.

        Who could not be looked up, as their kind of id is `away`, sits in no frozen one.
        """
        seated, maybe = set(), set()
        for release in app.releases:
            subject = self._subject(phone, release)
            if release.audience.window is None or subject is None:
                continue
            kind, text = subject
            window = (app.id, release.id)
            if window not in self.frozen:
                maybe.add(window)
            elif kind not in away and self._hash(kind, text) in self.frozen[window]:
                seated.add(window)
        return seated, maybe

    def _hash(self, kind: str, text: str) -> int:
        return id_hash(text, id_seed(self.plan.workspace.name, kind))

    def _subject(self, phone: Mapping[str, Any], release: Release) -> tuple[str, str] | None:
        """Say whom a window counts: the device, else the user; `by: user` the user only."""
        for kind in ("user",) if release.audience.by_user else ("device", "user"):
            text = real_id(self.plan.workspace, phone, kind)
            if text is not None:
                return kind, text
        return None


def _is_found(source: ListSource, subject: str) -> bool:
    return any(_compiled(expression).search(subject) for expression in source.regex)


@lru_cache(256)
def _compiled(expression: str) -> Any:
    return re2.compile(expression)
