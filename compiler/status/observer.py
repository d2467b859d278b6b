"""Looking at a workspace, once or again and again: writes nothing, reads again what may change."""

import json
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from heapq import nlargest

from compiler.carried_plan import plan_digests
from compiler.explanation import plan_of
from compiler.patching.census import counted_by_gateways, last_days
from compiler.plan import Plan
from compiler.publication.epoch import Publication
from compiler.publication.gateways import running_gateways
from compiler.publication.live import peek_live
from compiler.publication.mirror import Mirror
from compiler.publication.seat_records import SeatRecords
from compiler.refusal import Refused
from compiler.status.last_change import LastChanges, last_changes
from compiler.status.situation import Alarm, Counts, Heard, Situation, app_status
from compiler.storage.store import Store
from compiler.windows import split_name
from gateway import layout

DETAILED = 20
"""Apps that are shown one by one; of more, the SHOWN most active ones stand for all."""

SHOWN = 10
CENSUS_SECONDS = 10.0
"""How often gateways add to the census."""

READINGS = 7
"""Readings of the census kept while watching: what was counted since the oldest is lately."""

_Census = dict[str, dict[str, int]]


class Observer:
    """Looks at one workspace; keeps what an epoch fixes until the next one is live."""

    def __init__(self, store: Store, mirror: Mirror, workspace: str) -> None:
        self._store = store
        self._mirror = mirror
        self._workspace = workspace
        self._live: Publication | None = None
        self._known: tuple[list[str], Plan, LastChanges] | None = None
        self._asked: tuple[list[str] | None, list[str]] | None = None
        self._readings: deque[tuple[float, _Census]] = deque(maxlen=READINGS)

    def live(self) -> Publication:
        """Read the live epoch. Raises Refused when there is none, StoreError, FormatError."""
        if self._live is None or self._mirror.pointer() != self._live.pointer:
            self._live, self._known = peek_live(self._store, self._mirror, self._workspace), None
        if self._live is None:
            raise Refused(
                f"Nothing was published in the workspace {self._workspace} yet. Run: tidegate push"
            )
        return self._live

    def look(self, chosen: Collection[str] | None, now: float, days: int = 1) -> Situation:
        """Look at these apps (ids), or at all, at a moment in Unix seconds.

        The census is of so many days. Raises as `live`.
        """
        live = self.live()
        known = live.tree["apps"]
        summed = chosen is None and len(known) > DETAILED
        every = sorted(known) if chosen is None else list(chosen)
        census = self._checks(None if summed else every, now, days)
        checks = {app: sum(numbers.values()) for app, numbers in census.items() if app in known}
        ids = every
        if summed:
            ids = nlargest(SHOWN, every, key=lambda app: checks.get(app, 0))
        plan, changes = self._read(live, ids)
        earlier = self._readings[0][1] if len(self._readings) > 1 else None
        counts = _counts(self._mirror, plan, live.tree["windows"], census, earlier)
        overrides = live.tree["overrides"]
        sorts: dict[str, int] = {}
        for each in overrides:
            sort = each["value"] if each["what"] == "state" else each["what"]
            sorts[sort] = sorts.get(sort, 0) + 1
        apps = {
            app.id: app_status(
                app,
                [each for each in overrides if each["app"] == app.id],
                counts,
                changes,
                int(now),
            )
            for app in plan.apps
        }
        return Situation(
            workspace=self._workspace,
            epoch=live.number,
            time=live.epoch["time"],
            author=live.epoch["author"],
            note=live.epoch["note"],
            gateways=tuple(running_gateways(self._mirror, now)),
            all_apps=len(known),
            all_lists=len(live.tree["lists"]),
            all_checks=sum(checks.values()),
            overrides=sorts,
            apps=tuple(apps[app] for app in ids if app in apps),
            before=changes.before,
            summed=summed,
            alarms=tuple(_alarms(self._mirror)),
            unwatched=_has_guardrail(plan) and not self._mirror.is_controlled(),
        )

    def _read(self, live: Publication, ids: list[str]) -> tuple[Plan, LastChanges]:
        """Read what the epoch says of some apps, and when that changed."""
        if self._known is None or self._known[0] != ids:
            blobs = dict(self._store.get_blobs(sorted(plan_digests(live.tree, ids))))
            plan = plan_of(live, blobs.__getitem__, ids)
            self._known = ids, plan, last_changes(self._store, live, plan)
        return self._known[1], self._known[2]

    def _checks(self, apps: list[str] | None, now: float, days: int) -> _Census:
        readings = self._readings
        asked = apps, last_days(now, days)
        if self._asked != asked:  # also at midnight, when other days' sums begin
            readings.clear()
        if not readings or now - readings[-1][0] >= CENSUS_SECONDS:
            self._asked = asked
            readings.append((now, counted_by_gateways(self._mirror, asked[1], apps)))
        return readings[-1][1]


def _has_guardrail(plan: Plan) -> bool:
    return any(release.halt is not None for app in plan.apps for release in app.releases)


def _alarms(mirror: Mirror) -> Iterator[Alarm]:
    """Read what the controller is alarmed about."""
    for name, text in sorted(mirror.alarms().items()):
        app, _, release = name.partition("/")
        try:
            said = json.loads(text)
            yield Alarm(app, release, str(said["why"]), int(said["since"]))
        except (ValueError, KeyError, TypeError):  # some other version's
            yield Alarm(app, release, text, 0)


def window_fills(
    mirror: Mirror, windows: Mapping[str, layout.Window], apps: Collection[str]
) -> dict[tuple[str, str], str]:
    """Say how full each window of some apps is, by app and release.

    Of an open one its record tells; a frozen one is in the epoch, whatever Redis has lost.
    """
    found = {split_name(name): each for name, each in windows.items()}
    shown = {place: each for place, each in found.items() if place[0] in apps}
    fills = {
        place: f"{each['count']:,} of {each['first']:,}, frozen"
        for place, each in shown.items()
        if each["seats"]
    }
    records = SeatRecords(mirror).read_many(place for place in shown if place not in fills)
    for place, record in records.items():
        there = record is not None and record.has_sets
        fills[place] = f"{record.seated:,} of {record.first:,}" if record and there else "lost"
    return fills


def _counts(
    mirror: Mirror,
    plan: Plan,
    windows: Mapping[str, layout.Window],
    census: _Census,
    earlier: _Census | None,
) -> Counts:
    """Read what Redis has counted of some apps."""
    keys = mirror.keys
    releases = [(app.id, release.id) for app in plan.apps for release in app.releases]
    reach = {keys.reach_of(*place): place for place in releases}
    reports = {keys.reports_of(app.id): app.id for app in plan.apps}
    times = {
        (reports[key], release, event): count
        for key, numbers in mirror.numbers(reports)
        for name, count in numbers.items()
        for release, _, event in (name.partition(":"),)
    }
    subjects = {keys.subjects_of(*place): place for place in times}
    return Counts(
        reach={reach[key]: count for key, count in mirror.distinct(reach)},
        heard={
            subjects[key]: Heard(times[subjects[key]], devices)
            for key, devices in mirror.distinct(subjects)
        },
        windows=window_fills(mirror, windows, {app.id for app in plan.apps}),
        census=census,
        earlier=earlier,
    )
