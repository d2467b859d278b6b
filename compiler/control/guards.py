"""The guardrails of the live epoch: which releases have one, and since when reports count."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from compiler.carried_plan import plan_digests, read_plan
from compiler.control.guardrail import MINUTE, Guard, counted_from
from compiler.overrides import find_release, lay_over
from compiler.plan import Plan
from compiler.publication.epoch import Publication
from compiler.publication.history import End, walk
from compiler.storage.store import Store
from gateway import layout

MOST_EPOCHS = 100
"""How many epochs are looked back through; of a release that has not changed in them, reports count
since the oldest."""


class GuardReader:
    """Reads guardrails, and remembers which programs have some: of most nothing else is read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._halts: dict[bytes, frozenset[str]] = {}

    def read(self, live: Publication, now: float) -> list[Guard]:
        """Give the guardrails of the live releases. Raises StoreError, FormatError, PlanError."""
        programs = live.contents["programs"]
        lacking = set(programs.values()) - self._halts.keys()
        known = {each: self._halts[each] for each in programs.values() if each in self._halts}
        for digest, blob in self._store.get_blobs(lacking):
            known[digest] = frozenset(layout.decode(layout.Program, blob)["halts"])
        self._halts = known
        guarded = {app: known[digest] for app, digest in programs.items() if known[digest]}
        if not guarded:
            return []
        plan = lay_over(self.plan_of(live, sorted(guarded)), live.tree["overrides"])
        guards = [
            Guard(app, release, found.halt, found.audience)
            for app, releases in sorted(guarded.items())
            for release in sorted(releases)
            if (found := find_release(plan, app, release)) is not None and found.halt is not None
        ]
        return list(self._dated(live, guards, now))

    def plan_of(self, live: Publication, apps: list[str]) -> Plan:
        """Read the plan of these apps, as it is written. Raises as `read`."""
        blobs = dict(self._store.get_blobs(plan_digests(live.tree, apps)))
        return read_plan(live.tree, blobs.__getitem__, apps)

    def _dated(self, live: Publication, guards: list[Guard], now: float) -> Iterator[Guard]:
        longest = max((guard.halt.minutes for guard in guards), default=0)
        past = list(islice(self._epochs(live.digest, now - longest * MINUTE), MOST_EPOCHS))
        offers: dict[bytes, dict[str, str]] = {}
        for guard in guards:
            runs = []
            for published, programs in past:
                digest = programs.get(guard.app)
                if digest is not None and digest not in offers:
                    offers[digest] = self._offers(digest)
                version = offers[digest].get(guard.release) if digest is not None else None
                runs.append((published, version))
            yield replace(guard, since=counted_from(runs))

    def _epochs(self, digest: bytes, horizon: float) -> Iterator[tuple[int, dict[str, bytes]]]:
        """Give time and programs of the epochs that were live since, the newest first."""
        for found in walk(self._store, digest):
            if isinstance(found, End):
                return
            blob = self._store.get_blob(found.epoch["contents"])
            contents: layout.Contents = layout.decode(layout.Contents, blob)
            yield found.epoch["time"], contents["programs"]
            if found.epoch["time"] < horizon:
                return

    def _offers(self, digest: bytes) -> dict[str, str]:
        """Read which version each release of a program offers."""
        program: layout.Program = layout.decode(layout.Program, self._store.get_blob(digest))
        versions = [package["version"] for package in program["packages"]]
        return {each["id"]: versions[each["package"]] for each in program["releases"]}
