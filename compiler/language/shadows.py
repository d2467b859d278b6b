"""Doubts about which release wins: releases that never can, and hosts that are left without one.

Both are proved, not guessed: a release is reported only if a single other one holds whenever it
holds and comes first, a host-app range only if no live release's package serves part of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compiler.language.conditions import folded
from compiler.language.draft import (
    AppDraft,
    AudienceDraft,
    Clients,
    PackageDraft,
    ReleaseDraft,
    RuleDraft,
    TargetingDraft,
)
from compiler.language.faults import Faults, quote
from compiler.language.ranges import Interval, interval, unserved
from compiler.plan import Condition, State

_EVERYBODY = 10_000  # basis points

Rules = Mapping[str, RuleDraft]


def flattened(release: ReleaseDraft | TargetingDraft, rules: Rules) -> tuple[Condition, ...]:
    """Give the conditions, with the names of rules replaced by what they stand for."""
    found: list[Condition] = []
    for item in release.when:
        if isinstance(item, Condition):
            found.append(item)
        elif item.value in rules:
            found.extend(rules[item.value].conditions)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A live release of a package that is not withdrawn, as precedence sees it."""

    release: ReleaseDraft
    package: PackageDraft
    conditions: frozenset[object]

    @property
    def id(self) -> str:
        return self.release.id.value if self.release.id else ""


def doubt_precedence(app: AppDraft, rules: Rules, faults: Faults, now: int) -> None:
    """Doubt releases that never win, and withdrawals that strand hosts."""
    candidates = list(_candidates(app, rules, now))
    # The highest version first, then the strongest upgrade, then the smallest id.
    candidates.sort(key=lambda one: one.id)
    candidates.sort(key=lambda one: (one.package.key, one.release.upgrade), reverse=True)
    broad: list[_Candidate] = []
    for candidate in candidates:
        winner = next((one for one in broad if _covers(one, candidate, now)), None)
        if winner is not None:
            assert candidate.release.id is not None
            faults.warning(
                candidate.release.id.span,
                f"Release {quote(candidate.id)} is never offered: wherever it holds, "
                f"{quote(winner.id)} ({winner.package.version.value}) holds too and wins. Set "
                f"state: ended here, or narrow {quote(winner.id)}.",
            )
        if _reaches_all(candidate.release.audience):
            broad.append(candidate)
    for package in app.packages:
        if package.withdrawn:
            _doubt_withdrawal(package, [one.package for one in candidates], faults)


def _candidates(app: AppDraft, rules: Rules, now: int) -> Iterator[_Candidate]:
    for release in app.releases:
        package = app.offered(release)
        over = release.ends is not None and release.ends.value <= now
        if release.state is not State.LIVE or over or package is None or package.withdrawn:
            continue
        conditions = frozenset(
            (one.attribute, one.operator, frozenset(folded(one)))
            for one in flattened(release, rules)
        )
        yield _Candidate(release, package, conditions)


def _reaches_all(audience: AudienceDraft) -> bool:
    """Tell whether neither percentage nor window narrows it; those of two are independent."""
    if audience.first is not None:
        return False
    return audience.percent is None or audience.percent.value == _EVERYBODY


def _covers(wide: _Candidate, narrow: _Candidate, now: int) -> bool:
    """Tell whether `wide`, which is before `narrow`, holds whenever `narrow` does."""
    return (
        wide.conditions <= narrow.conditions
        and _audience_covers(wide.release.audience, narrow.release.audience)
        and _time_covers(wide.release, narrow.release, now)
        and _hosts_cover(wide.package, narrow.package)
    )


def _audience_covers(wide: AudienceDraft, narrow: AudienceDraft) -> bool:
    wide_lists, narrow_lists = ({name.value for name in one.lists} for one in (wide, narrow))
    wide_not, narrow_not = ({name.value for name in one.not_lists} for one in (wide, narrow))
    in_lists = not wide_lists or (bool(narrow_lists) and narrow_lists <= wide_lists)
    return _reaches_all(wide) and in_lists and wide_not <= narrow_not


def _time_covers(wide: ReleaseDraft, narrow: ReleaseDraft, now: int) -> bool:
    begins = max(now, narrow.starts.value if narrow.starts else now)
    if wide.starts is not None and wide.starts.value > begins:
        return False
    return wide.ends is None or (narrow.ends is not None and narrow.ends.value <= wide.ends.value)


def _hosts(package: PackageDraft) -> Clients | None:
    return package.clients.value if package.clients else None


def _hosts_cover(wide: PackageDraft, narrow: PackageDraft) -> bool:
    wide_hosts, narrow_hosts = _hosts(wide), _hosts(narrow)
    if wide_hosts is None:
        return True
    if narrow_hosts is None:
        return False
    return all(
        platform in wide_hosts and interval(one).lies_in(interval(wide_hosts[platform]))
        for platform, one in narrow_hosts.items()
    )


def _doubt_withdrawal(withdrawn: PackageDraft, others: list[PackageDraft], faults: Faults) -> None:
    """Doubt a withdrawal after which some host that ran the package is offered nothing."""
    stranded = _stranded(withdrawn, others)
    if stranded:
        faults.warning(
            withdrawn.version.span,
            f"{withdrawn.version.value} is withdrawn, and {stranded} then has no package at all: "
            "such a client must stop opening the app. Keep a live release of a package that "
            "serves it.",
        )


def _stranded(withdrawn: PackageDraft, others: list[PackageDraft]) -> str:
    """Name the first hosts that no other package serves; empty when all are served."""
    served = [_hosts(other) for other in others]
    if None in served:
        return ""
    hosts = _hosts(withdrawn)
    if hosts is None:
        return "a host app" if not served else "a host app that no other package names"
    for platform, gap in unserved(hosts, served):
        return f"{platform} {gap}" if gap != Interval() else platform
    return ""
