"""Doubts: what is legal in a plan, but surely not meant. Each is a warning with a mend.

A doubt must never cry wolf: one that other faults could have caused (a list that only a broken
release would use) is held back until they are mended.
"""

from collections.abc import Iterable, Mapping, Sequence

from compiler.language.conditions import folded
from compiler.language.draft import (
    AppDraft,
    AudienceDraft,
    Draft,
    Name,
    RecordDraft,
    ReleaseDraft,
    TargetingDraft,
    WorkspaceDraft,
    file_span,
)
from compiler.language.faults import Faults, quote
from compiler.language.ranges import Bound, Interval
from compiler.language.shadows import Rules, flattened
from compiler.language.shapes import Located
from compiler.plan import Condition, Operator, State
from gateway.version import VersionKey

_ALTERNATIVES = (Operator.IN, Operator.NOT_IN, Operator.MATCHES)


def doubt_plan(
    draft: Draft, records: Mapping[tuple[str, VersionKey], RecordDraft], faults: Faults, now: int
) -> None:
    """Report every doubt but those about precedence; `now` is in Unix seconds."""
    rules = {rule.name.value: rule for rule in draft.rules}
    if draft.workspace is not None:
        _doubt_cdn(draft.workspace, faults)
        if not draft.apps and not draft.switches and not draft.flawed:
            faults.warning(
                file_span("workspace.yaml"),
                "This plan has no app. Add a file such as apps/coffee.yaml.",
            )
    for rule in draft.rules:
        doubt_repetitions(rule.conditions, faults)
    for app in draft.apps:
        for release in app.releases:
            _doubt_release(release, rules, faults, now)
        if app.file not in draft.flawed:
            _doubt_offers(app, faults)
            if not any(file.startswith("packages/") for file in draft.flawed):
                _doubt_records(app, records, faults)
    if not draft.flawed:
        _doubt_unused(draft, faults)


def _doubt_cdn(workspace: WorkspaceDraft, faults: Faults) -> None:
    if workspace.cdn is None or not workspace.cdn.value:
        return
    last = None
    for rule in workspace.cdn.value:
        if last is not None:
            faults.warning(
                rule.span,
                f'The entry on line {last} with "*" fits first, so this one is never used. Move '
                "it above that one.",
            )
        elif "*" in rule.value.regions:
            last = rule.span.line
    if last is None:
        faults.warning(
            workspace.cdn.span,
            "Clients of other regions, or without one, get no URL. Add a last entry: "
            '{regions: ["*"], bases: [...]}.',
        )


def _doubt_release(release: ReleaseDraft, rules: Rules, faults: Faults, now: int) -> None:
    doubt_repetitions([one for one in release.when if isinstance(one, Condition)], faults)
    doubt_audience(release.audience, faults)
    if release.id is None or release.state is not State.LIVE:
        return
    if release.ends is not None and release.ends.value <= now:
        faults.warning(
            release.ends.span,
            f"Release {quote(release.id.value)} is over already. Write a later time, or set "
            "state: ended.",
        )
    until = release.audience.until
    if until is not None and until.value <= now:
        faults.warning(
            until.span,
            f"The window of {quote(release.id.value)} is over: nobody else gets a seat, and who "
            "has one keeps it. Write a later time, or set state: ended.",
        )
    if release.audience.percent is not None and release.audience.percent.value == 0:
        faults.warning(
            release.audience.percent.span,
            "0 percent reaches nobody. Write a larger number, or set state: paused.",
        )
    attribute = contradiction(flattened(release, rules))
    if attribute is not None:
        faults.warning(
            release.id.span,
            f"Release {quote(release.id.value)} can never hold: no {attribute} meets all of its "
            "conditions. Correct one of them; alternatives go into one list.",
        )


def doubt_audience(audience: AudienceDraft, faults: Faults) -> None:
    """Doubt lists that an audience names to no effect."""
    excluded = {name.value for name in audience.not_lists}
    useless = [name for name in audience.lists if name.value in excluded]
    for name in useless:
        if len(useless) == len(audience.lists):
            says = "so this audience can never hold"
        else:
            says = "so naming it in lists has no effect"
        faults.warning(
            name.span,
            f"{quote(name.value)} is in not_lists too, {says}. Delete it from one of the two.",
        )
    for names in (audience.lists, audience.not_lists):
        for name in _repeated(names):
            faults.warning(name.span, f"{quote(name.value)} stands here twice. Delete one.")


def _repeated(names: Iterable[Name]) -> list[Name]:
    seen: set[str] = set()
    return [name for name in names if name.value in seen or seen.add(name.value)]  # type: ignore[func-returns-value]


def doubt_repetitions(conditions: Iterable[Condition], faults: Faults) -> None:
    """Doubt alternatives that are equal as they compare: `WIFI` and `wifi`, `1.0` and `1.0.0`."""
    for condition in conditions:
        if condition.operator not in _ALTERNATIVES:
            continue
        seen: dict[tuple[str, object], object] = {}
        for value, operand in zip(folded(condition), condition.operands, strict=True):
            if value in seen:
                faults.warning(
                    condition.span,
                    f"{quote(str(operand))} equals {quote(str(seen[value]))}, which is in this "
                    "condition already. Delete one.",
                )
            seen[value] = operand


def contradiction(conditions: Sequence[Condition]) -> str | None:
    """Name an attribute of which no value can meet all conditions; None if none is provable."""
    by_attribute: dict[str, list[Condition]] = {}
    for condition in conditions:
        by_attribute.setdefault(condition.attribute, []).append(condition)
    for attribute, those in by_attribute.items():
        if len(those) == 1:
            continue  # reading.py has refused what one condition alone cannot meet
        within = Interval()
        accepted: set[tuple[str, object]] | None = None
        for condition in those:
            values = folded(condition)
            within = within.meet(_interval(condition))
            if condition.operator is Operator.IN:
                accepted = set(values) if accepted is None else accepted & set(values)
        for condition in those:
            if condition.operator is Operator.NOT_IN and accepted is not None:
                accepted -= set(folded(condition))
        if within.is_empty or (accepted is not None and not accepted):
            return attribute
        if accepted is not None and within != Interval() and not _any_within(accepted, within):
            return attribute
    return None


def _interval(condition: Condition) -> Interval:
    """Give the values that a range condition accepts; all for the other operators."""
    bounds = [
        Bound(value, str(operand), included=condition.operator is not Operator.BELOW)
        for (_, value), operand in zip(folded(condition), condition.operands, strict=True)
    ]
    if condition.operator is Operator.BETWEEN:
        return Interval(*bounds)
    if condition.operator is Operator.AT_LEAST:
        return Interval(low=bounds[0])
    if condition.operator is Operator.BELOW:
        return Interval(high=bounds[0])
    return Interval()


def _any_within(accepted: Iterable[tuple[str, object]], within: Interval) -> bool:
    for kind, value in accepted:
        point = Bound(value, "", included=True)
        if kind in {"version", "number"} and not within.meet(Interval(point, point)).is_empty:
            return True
    return False


def _doubt_offers(app: AppDraft, faults: Faults) -> None:
    """Doubt packages that no release names, unless a release names one that is not known."""
    offered = [app.offered(release) for release in app.releases]
    if None in offered:
        return
    named = {package.key for package in offered if package}
    for package in app.packages:
        if package.key not in named and not package.withdrawn:
            faults.warning(
                package.version.span,
                f"No release offers {package.version.value}. Add a release, or delete the "
                "package if nobody has it installed.",
            )


def _doubt_records(
    app: AppDraft, records: Mapping[tuple[str, VersionKey], RecordDraft], faults: Faults
) -> None:
    """Doubt packages that are released, but were not uploaded."""
    live = {
        package.key
        for release in app.releases
        if release.state is State.LIVE and (package := app.offered(release))
    }
    for package in app.packages:
        has_record = app.id is None or (app.id.value, package.key) in records
        if package.key in live and not package.withdrawn and not has_record:
            faults.warning(
                package.version.span,
                f"{package.version.value} is released but has no record, and a push needs it. "
                "Run `tidegate upload`, and commit what it writes.",
            )


def _doubt_unused(draft: Draft, faults: Faults) -> None:
    users: list[ReleaseDraft | TargetingDraft] = [
        *(release for app in draft.apps for release in app.releases),
        *(row for switch in draft.switches for row in switch.targeting),
    ]
    lists = {
        name.value for each in users for name in (*each.audience.lists, *each.audience.not_lists)
    }
    rules = {item.value for each in users for item in each.when if isinstance(item, Located)}
    for one in draft.lists:
        if one.name.value not in lists:
            faults.warning(
                one.name.span,
                f"Nothing uses the list {quote(one.name.value)}. Use it in an audience, or "
                "delete it.",
            )
    for rule in draft.rules:
        if rule.name.value not in rules:
            faults.warning(
                rule.name.span,
                f'Nothing uses the rule {quote(rule.name.value)}. Name it in a "when", or delete '
                "it.",
            )
