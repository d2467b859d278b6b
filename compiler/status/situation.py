"""The situation of a workspace as data: gateways, live epoch, apps, releases, versions. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from compiler.overrides import What, place_of
from compiler.plan import App, Package, Release, State
from compiler.publication.change import audience_words
from compiler.publication.gateways import Gateway
from compiler.status.last_change import Changed, LastChanges
from gateway.layout import Override
from gateway.version import parse_version

EVENTS = ("downloaded", "installed", "failed", "rolled_back")
"""What clients report of a release (gateway/report.py)."""


class Standing(StrEnum):
    """What becomes of a release at a moment; only a live one is offered."""

    LIVE = "live"
    PAUSED = "paused"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"
    SCHEDULED = "scheduled"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Heard:
    """Reports of one event, as they came, and from how many distinct devices or users."""

    reports: int = 0
    devices: int = 0


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """One release; `by` tells whether plan or override says so, `window` how full its window is.

    `reach` counts the distinct subjects whom it was offered to; `changed` is None where the history
    was not followed that far.
    """

    id: str
    package: str
    standing: Standing
    by: str
    audience: str
    window: str | None
    reach: int
    heard: dict[str, Heard]
    changed: Changed | None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """An installed version as the census names it, `none` and `other` too.

    `lately` are the checks of the last minute, while that is watched.
    """

    version: str
    checks: int
    share: float
    withdrawn: bool
    lately: int | None


@dataclass(frozen=True, slots=True)
class AppStatus:
    """One app; `checks` are those that asked about it in the days of the census."""

    id: str
    name: str
    checks: int
    releases: tuple[ReleaseStatus, ...]
    versions: tuple[VersionStatus, ...]
    changed: Changed | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A release to everyone that breaks its guardrail, and since when (Unix seconds; 0: unsaid)."""

    app: str
    release: str
    why: str
    since: int


@dataclass(frozen=True, slots=True)
class Situation:
    """The whole: `apps` are those that were asked for, or the most active of `all_apps`.

    What has no `changed` changed before the epoch `before`; `overrides` are counted by sort.
    `unwatched` tells that one of these apps has a guardrail, and no controller is active.
    """

    workspace: str
    epoch: int
    time: int
    author: str
    note: str
    gateways: tuple[Gateway, ...]
    all_apps: int
    all_lists: int
    all_checks: int
    overrides: dict[str, int]
    apps: tuple[AppStatus, ...]
    before: int
    summed: bool
    alarms: tuple[Alarm, ...] = ()
    unwatched: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What Redis has counted, by app and release (and event), and by app and version.

    `earlier` is the census of some time ago, None where none was read.
    """

    reach: dict[tuple[str, str], int]
    heard: dict[tuple[str, str, str], Heard]
    windows: dict[tuple[str, str], str]
    census: dict[str, dict[str, int]]
    earlier: dict[str, dict[str, int]] | None = None


def standing(release: Release, package: Package, second: int) -> Standing:
    """Tell what becomes of a release, overrides laid over it, at a moment in Unix seconds."""
    if release.state is not State.LIVE:
        return Standing(release.state.value)
    if release.ends is not None and second >= release.ends:
        return Standing.OVER
    if package.withdrawn:
        return Standing.WITHDRAWN
    if release.starts is not None and second < release.starts:
        return Standing.SCHEDULED
    return Standing.LIVE


def app_status(
    app: App, overrides: list[Override], counts: Counts, changes: LastChanges, second: int
) -> AppStatus:
    """Put together what is known of an app."""
    laid = {place_of(each) for each in overrides}
    packages = {package.version: package for package in app.packages}
    releases = []
    for release in app.releases:
        package = packages[release.package]
        now = standing(release, package, second)
        place = (
            (What.WITHDRAWN.value, app.id, package.key)
            if now is Standing.WITHDRAWN
            else (What.STATE.value, app.id, release.id)
        )
        releases.append(
            ReleaseStatus(
                id=release.id,
                package=release.package,
                standing=now,
                by="override" if place in laid else "plan",
                audience=audience_words(release.audience),
                window=counts.windows.get((app.id, release.id)),
                reach=counts.reach.get((app.id, release.id), 0),
                heard={
                    event: counts.heard.get((app.id, release.id, event), Heard())
                    for event in EVENTS
                },
                changed=changes.found.get((app.id, release.id)),
            )
        )
    numbers = counts.census.get(app.id, {})
    return AppStatus(
        id=app.id,
        name=app.name,
        checks=sum(numbers.values()),
        releases=tuple(releases),
        versions=_versions(app, numbers, counts.earlier),
        changed=changes.found.get((app.id, "")),
    )


def _versions(
    app: App, numbers: dict[str, int], earlier: dict[str, dict[str, int]] | None
) -> tuple[VersionStatus, ...]:
    """Give the versions seen, the most frequent first; a withdrawn one also if it was not seen."""
    withdrawn = {package.key for package in app.packages if package.withdrawn}
    seen = {package.version: 0 for package in app.packages if package.withdrawn} | numbers
    total = max(1, sum(numbers.values()))
    before = None if earlier is None else earlier.get(app.id, {})
    return tuple(
        VersionStatus(
            version,
            checks,
            checks / total,
            parse_version(version) in withdrawn,
            # Redis may have been emptied meanwhile.
            None if before is None else max(0, checks - before.get(version, 0)),
        )
        for version, checks in sorted(seen.items(), key=lambda each: (-each[1], each[0]))
    )
