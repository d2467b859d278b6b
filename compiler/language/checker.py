"""Cross-checks of a plan that has been read: names that must resolve, things that must be unique.

Errors are here; what is legal but surely not meant is in doubts.py and shadows.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

from compiler.language.doubts import doubt_plan
from compiler.language.draft import (
    AppDraft,
    Draft,
    Name,
    PackageDraft,
    RecordDraft,
    ReleaseDraft,
    TargetingDraft,
    file_span,
)
from compiler.language.faults import Faults, nearest, quote
from compiler.language.ranges import interval
from compiler.language.shadows import doubt_precedence
from compiler.language.shapes import Located
from compiler.language.switch_doubts import doubt_switches
from compiler.language.switch_names import check_switch
from gateway.version import VersionKey

LISTS_FILE = "lists.yaml"
RULES_FILE = "rules.yaml"

Records = dict[tuple[str, VersionKey], RecordDraft]


@dataclass(frozen=True, slots=True)
class _Known:
    """What names may refer to; None when the file that holds them could not be read."""

    lists: frozenset[str] | None
    rules: frozenset[str] | None


def check(draft: Draft, faults: Faults, *, now: int) -> Records:
    """Report every fault and doubt between the parts of a plan; `now` is in Unix seconds.

    Returns the records of packages by app and version, for the plan that is made of the draft.
    """
    _unique(
        (app.id for app in draft.apps if app.id), "app", "Give one of the files another id", faults
    )
    _unique((one.name for one in draft.lists), "list", "Give one of them another name", faults)
    known = _Known(
        None if LISTS_FILE in draft.unread else frozenset(one.name.value for one in draft.lists),
        None if RULES_FILE in draft.unread else frozenset(rule.name.value for rule in draft.rules),
    )
    records = _records(draft, faults)
    rules = {rule.name.value: rule for rule in draft.rules}
    for app in draft.apps:
        before = faults.errors
        _check_app(app, known, faults)
        for package in app.packages:
            record = records.get((app.id.value, package.key)) if app.id else None
            if record is not None:
                _refuse_widening(package, record, faults)
        if faults.errors == before and not draft.flawed & {app.file, RULES_FILE}:
            doubt_precedence(app, rules, faults, now)
    _unique(
        (one.key for one in draft.switches if one.key),
        "switch",
        "Give one of them another key",
        faults,
    )
    for switch in draft.switches:
        check_switch(switch, draft, faults)
        for row in switch.targeting:
            _check_names(row, known, faults)
    doubt_plan(draft, records, faults, now)
    doubt_switches(draft, faults)
    return records


def _unique(names: Iterable[Name], what: str, mend: str, faults: Faults) -> None:
    """Report every name that stands a second time."""
    first: dict[str, Name] = {}
    for name in names:
        if name.value in first:
            span = first[name.value].span
            faults.error(
                name.span,
                f"The {what} {quote(name.value)} was already given at {span.file}:{span.line}. "
                f"{mend}.",
            )
        else:
            first[name.value] = name


def _check_app(app: AppDraft, known: _Known, faults: Faults) -> None:
    _unique(
        (release.id for release in app.releases if release.id),
        "release",
        "Give one of them another id",
        faults,
    )
    packages: dict[VersionKey, PackageDraft] = {}
    for package in app.packages:
        other = packages.setdefault(package.key, package)
        if other is not package:
            faults.error(
                package.version.span,
                f"The version {quote(package.version.value)} equals "
                f"{quote(other.version.value)} on line {other.version.span.line}. Delete one of "
                "the two packages.",
            )
    versions = [package.version.value for package in app.packages]
    for release in app.releases:
        if release.package and not app.offered(release):
            _unknown(release.package, "package", versions, "packages of this file", faults)
        _check_names(release, known, faults)


def _check_names(row: ReleaseDraft | TargetingDraft, known: _Known, faults: Faults) -> None:
    for name in (*row.audience.lists, *row.audience.not_lists):
        if known.lists is not None and name.value not in known.lists:
            _unknown(name, "list", known.lists, LISTS_FILE, faults)
    for item in row.when:
        if isinstance(item, Located) and known.rules is not None and item.value not in known.rules:
            _unknown(item, "rule", known.rules, RULES_FILE, faults)


def _unknown(name: Name, what: str, known: Iterable[str], where: str, faults: Faults) -> None:
    near = nearest(name.value, known)
    mend = f"Write {quote(near)}, or add it" if near else "Add it"
    faults.error(name.span, f"There is no {what} {quote(name.value)}. {mend} to {where}.")


def _records(draft: Draft, faults: Faults) -> Records:
    """Index the records, and report two of one version and those that nothing names."""
    found: Records = {}
    for record in draft.records:
        assert record.key is not None
        place = (record.app, record.key)
        other = found.setdefault(place, record)
        if other is not record:
            faults.error(
                file_span(record.file),
                f"This records the same version as {other.file}. Delete the one that does not "
                "belong to the package's file.",
            )
    _refuse_falling_codes(found, faults)
    if not draft.flawed:
        named = {
            (app.id.value, package.key) for app in draft.apps if app.id for package in app.packages
        }
        for place, record in found.items():
            if place not in named:
                faults.warning(
                    file_span(record.file),
                    f"No app file names version {record.version} of app {quote(record.app)}. Add "
                    f"it to the app's packages, or delete this record.",
                )
    return found


def _refuse_falling_codes(records: Records, faults: Faults) -> None:
    """Report a MiniApp's version whose version.code is not over that of the version below."""
    coded = sorted(
        (each for each in records.items() if each[1].code is not None), key=itemgetter(0)
    )
    for ((app, _), below), ((other_app, _), record) in pairwise(coded):
        assert below.code is not None
        assert record.code is not None
        if app == other_app and record.code <= below.code:
            faults.error(
                file_span(record.file),
                f"version.code of {record.version} is {record.code}, and the version below, "
                f"{below.version}, has {below.code}: it must rise with the version. Pack a new "
                "version with a higher version.code, and delete this record.",
            )


def _refuse_widening(package: PackageDraft, record: RecordDraft, faults: Faults) -> None:
    """Report a host-app range that reaches beyond the one that was signed."""
    if record.clients is None or package.clients is None:
        return
    for platform, comparisons in package.clients.value.items():
        signed = record.clients.get(platform)
        if signed is None:
            faults.error(
                package.clients.span,
                f"{quote(platform)} is not among the platforms that were signed "
                f"({record.file}). Delete it, or sign and upload a new version.",
            )
        elif not interval(comparisons).lies_in(interval(signed)):
            faults.error(
                package.clients.span,
                f"The range for {platform} is wider than the one that was signed "
                f"({interval(signed)}, {record.file}). Narrow it, or sign and upload a new "
                "version.",
            )
