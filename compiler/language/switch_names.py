"""What switches refer to, resolved, and the switches that are made of their drafts.

Lists and rules are looked up by the checker, for releases and switches alike.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from compiler.language.draft import (
    AppDraft,
    AudienceDraft,
    Draft,
    RuleDraft,
    SameAsDraft,
    SwitchDraft,
    TargetingDraft,
)
from compiler.language.faults import Faults, nearest, quote
from compiler.language.shadows import flattened
from compiler.plan import Audience, Condition, ReleaseName, Switch, Targeting

_NO_APP = (
    "A switch belongs to no app, so nothing is installed where it is decided. Use client_version "
    "or an attribute of your own instead."
)


def check_switch(switch: SwitchDraft, draft: Draft, faults: Faults) -> None:
    """Report what a switch's rows name and the plan does not have."""
    rules = {rule.name.value: rule for rule in draft.rules}
    apps_read = not any(file.startswith("apps/") for file in draft.unread)
    for row in switch.targeting:
        for item in row.when:
            if isinstance(item, Condition):
                if item.attribute == "installed":
                    faults.error(item.span, _NO_APP)
            elif item.value in rules and any(
                each.attribute == "installed" for each in rules[item.value].conditions
            ):
                faults.error(item.span, f"The rule {quote(item.value)} tests installed. {_NO_APP}")
        if row.same_as is not None and apps_read:
            _check_same_as(row.same_as, draft, faults)


def _check_same_as(named: SameAsDraft, draft: Draft, faults: Faults) -> None:
    app = find_app(named.app.value, draft.apps)
    if app is None:
        known = [name for each in draft.apps for name in _names(each)]
        near = nearest(named.app.value, known)
        mend = f"Write {quote(near)}." if near else "Write an app's id, or its file's name."
        faults.error(named.app.span, f"There is no app {quote(named.app.value)}. {mend}")
        return
    if app.file in draft.flawed:
        return
    ids = [release.id.value for release in app.releases if release.id]
    if named.release.value not in ids:
        near = nearest(named.release.value, ids)
        mend = f"Write {quote(near)}, or add it" if near else "Add it"
        faults.error(
            named.release.span,
            f"There is no release {quote(named.release.value)}. {mend} to {app.file}.",
        )
        return
    release = next(
        each for each in app.releases if each.id and each.id.value == named.release.value
    )
    if release.audience.first is not None:
        faults.error(
            named.release.span,
            f"Release {quote(named.release.value)} has a time window, and a switch seats nobody. "
            "Name another release, or write percent or lists.",
        )


def find_app(name: str, apps: Sequence[AppDraft]) -> AppDraft | None:
    """Find an app by its id, else by its file's name."""
    by_id = next((app for app in apps if app.id and app.id.value == name), None)
    return by_id or next((app for app in apps if _stem(app) == name), None)


def _stem(app: AppDraft) -> str:
    return PurePosixPath(app.file).stem


def _names(app: AppDraft) -> list[str]:
    return [_stem(app), *([app.id.value] if app.id else [])]


def plan_audience(draft: AudienceDraft) -> Audience:
    """Make an audience of a draft in which nothing was refused."""
    percent = draft.percent.value if draft.percent else None
    return Audience(
        tuple(dict.fromkeys(name.value for name in draft.lists)),
        tuple(dict.fromkeys(name.value for name in draft.not_lists)),
        percent if isinstance(percent, int) else None,
        by_user=draft.by is not None and draft.by.value == "user",
        ramp=percent if isinstance(percent, tuple) else (),
    )


def plan_switch(
    draft: SwitchDraft, apps: Sequence[AppDraft], rules: Mapping[str, RuleDraft]
) -> Switch:
    """Make a switch of a draft in which nothing was refused."""
    assert draft.key is not None
    assert draft.default is not None
    return Switch(
        draft.key.value,
        draft.variants,
        draft.default.value,
        draft.enabled,
        tuple(_targeting(row, apps, rules) for row in draft.targeting),
        draft.key.span,
    )


def _targeting(
    row: TargetingDraft, apps: Sequence[AppDraft], rules: Mapping[str, RuleDraft]
) -> Targeting:
    same_as = None
    if row.same_as is not None:
        app = find_app(row.same_as.app.value, apps)
        assert app is not None
        assert app.id is not None
        same_as = ReleaseName(app.id.value, row.same_as.release.value)
    return Targeting(
        row.variant.value if row.variant else None,
        tuple((name.value, weight) for name, weight in row.split.value) if row.split else (),
        plan_audience(row.audience),
        same_as,
        flattened(row, rules),
        row.span,
    )
