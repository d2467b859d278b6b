"""Switches to tables: all their targeting rows, one after another, are the ranks of one program.

So one pass of ANDs decides every switch, and named rules, lists and percentages are lowered as
those of releases are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from compiler.diagnostic import PlanError, error
from compiler.lowering import lower_tables
from compiler.plan import App, Audience, JsonValue, Plan, Release, Switch, Targeting
from compiler.splits import places
from gateway import layout
from gateway.hashing import percent_key

Overrides = Mapping[str, Mapping[str, Any]]
"""What is laid over switches, by key: {"variant": name}, {"enabled": truth}, or both."""


def lower_switches(plan: Plan, overrides: Overrides | None = None) -> layout.Switches | None:
    """Compile all switches of a checked plan; None when it has none.

    Overrides of switches that the plan does not have are passed over. Raises PlanError when one
    names a variant that its switch does not have.
    """
    if not plan.switches:
        return None
    laid = sorted(
        (overridden(switch, (overrides or {}).get(switch.key, {})) for switch in plan.switches),
        key=lambda switch: switch.key,
    )
    apps = {app.id: app for app in plan.apps}
    pairs = [(switch, row) for switch in laid for row in rows_of(switch)]
    everyone = layout.encode_bits(layout.all_bits(len(pairs)))
    audiences = [audience_of(row, apps) for _, row in pairs]
    return {
        **lower_tables(
            [
                Release("", "", audience, row.conditions)
                for (_, row), audience in zip(pairs, audiences, strict=True)
            ],
            {"any": everyone, "platforms": {}},
            [draw_of(switch, row) for switch, row in pairs],
        ),
        "switches": [_switch(switch, apps) for switch in laid],
    }


def overridden(switch: Switch, override: Mapping[str, Any]) -> Switch:
    """Lay an override over a switch: a variant is for everybody, whether it was enabled or not.

    Raises PlanError when the switch has no such variant.
    """
    if "variant" in override:
        name = override["variant"]
        if name not in switch.variants:
            message = (
                f'The switch "{switch.key}" is set to the variant "{name}", which it does not '
                f"have. Add the variant, or run: tidegate switch set {switch.key} {switch.default}"
            )
            raise PlanError([error(switch.span, message)])
        switch = replace(switch, default=name, targeting=(), enabled=True)
    return replace(switch, enabled=override.get("enabled", switch.enabled))


def rows_of(switch: Switch) -> tuple[Targeting, ...]:
    """Give the rows that can decide."""
    return switch.targeting if switch.enabled else ()


def audience_of(row: Targeting, apps: Mapping[str, App]) -> Audience:
    """Give whom a row is for: its own audience, or that of the release it names."""
    if row.same_as is None:
        return row.audience
    releases = apps[row.same_as.app].releases
    return next(each.audience for each in releases if each.id == row.same_as.release)


def draw_of(switch: Switch, row: Targeting) -> tuple[str, str]:
    """Tell whose order of the percent buckets a row's percentage goes by, as percent_key takes it.

    Rows have no name: those of one switch that give one variant share their order, so that a
    percentage reaches the same subjects wherever its row stands.
    """
    if row.same_as is not None:
        return row.same_as.app, row.same_as.release
    return f"switch:{switch.key}", row.variant or ""


def split_draw(switch: Switch) -> tuple[str, str]:
    """Tell whose order a switch's splits go by: not a percentage's, which narrows them."""
    return f"split:{switch.key}", ""


def values_of(switch: Switch) -> Iterator[tuple[str, JsonValue]]:
    """Give the variants by name; of numbers all are fractions if one is, so that types agree."""
    numbers = [type(value) is float for value in switch.variants.values()]
    for name, value in sorted(switch.variants.items()):
        yield name, float(value) if any(numbers) and isinstance(value, int) else value


def _switch(switch: Switch, apps: Mapping[str, App]) -> layout.SwitchEntry:
    names = sorted(switch.variants)
    return {
        "key": switch.key,
        "variants": [
            {"name": name, "value": orjson.dumps(value)} for name, value in values_of(switch)
        ],
        "default": names.index(switch.default),
        "enabled": switch.enabled,
        "targeting": [
            {
                "variant": None if row.variant is None else names.index(row.variant),
                "split": _split(switch, row.split, names) if row.split else None,
                "by_user": audience_of(row, apps).by_user,
            }
            for row in rows_of(switch)
        ],
    }


def _split(
    switch: Switch, weights: Sequence[tuple[str, int]], names: Sequence[str]
) -> layout.Split:
    runs = places([weight for _, weight in weights])
    return {
        "key": percent_key(*split_draw(switch)),
        "bounds": [end for end, _ in runs],
        "variants": [names.index(weights[at][0]) for _, at in runs],
    }
