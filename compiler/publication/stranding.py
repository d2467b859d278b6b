"""Which host apps a withdrawal leaves without a target, and how: named before it is done.

Whoever has a withdrawn version and gets no other must stop opening the app. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compiler.language.ranges import Interval, gaps, unserved
from compiler.overrides import find_package
from compiler.plan import App, Audience, Plan, Release, State


@dataclass(frozen=True, slots=True)
class Stranding:
    """Host apps that ran a withdrawn version: a platform, and its versions.

    Without a platform it is those that no package names. `releases` serve them still, but reach
    only some clients; with none of them, everybody there is left without a target.
    """

    platform: str
    versions: Interval
    releases: tuple[str, ...]

    def __str__(self) -> str:
        hosts = self.platform or "any host app not named here"
        if self.platform and self.versions != Interval():
            hosts += f" {self.versions}"
        if self.releases:
            return (
                f"{hosts}: only those whom {', '.join(self.releases)} reaches get another version"
            )
        return f"{hosts}: no release is left, so clients must stop opening the app"


def strandings(plan: Plan, app: str, key: object, now: int) -> list[Stranding]:
    """Name the hosts that a version leaves without a target; the plan withdraws it already.

    `now` is in Unix seconds.
    """
    package = find_package(plan, app, key)
    found = next((each for each in plan.apps if each.id == app), None)
    return [] if package is None or found is None else list(_strandings(found, key, now))


def _strandings(app: App, key: object, now: int) -> Iterator[Stranding]:
    packages = {package.version: package for package in app.packages}
    gone = next(package for package in app.packages if package.key == key)
    left = [
        release
        for release in app.releases
        if release.state is State.LIVE
        and not packages[release.package].withdrawn
        and (release.ends is None or release.ends > now)
    ]
    some = [packages[release.package].clients for release in left]
    sure = [
        packages[release.package].clients for release in left if _reaches_everybody(release, now)
    ]
    bare = list(unserved(gone.clients, some))
    yield from (Stranding(platform, versions, ()) for platform, versions in bare)
    for platform, versions in unserved(gone.clients, sure):
        said = [other for name, other in bare if name == platform]
        for gap in gaps(versions, said):
            serving = [
                release.id
                for release, clients in zip(left, some, strict=True)
                if clients is None or platform in clients
            ]
            yield Stranding(platform, gap, tuple(serving))


def _reaches_everybody(release: Release, now: int) -> bool:
    """Tell whether nothing but the host app keeps a client from a release."""
    everyone = Audience()
    audience = release.audience
    if audience.basis_points == 10_000:
        audience = replace(audience, basis_points=None, by_user=False)
    begun = release.starts is None or release.starts <= now
    return begun and not release.conditions and audience == everyone
