"""Switches to tables: all their targeting rows, one after another, are the ranks of one program.

So one pass of ANDs decides every switch, and named rules, lists and percentages are lowered as
those of releases are.
"""

from collections.abc import Iterator, Mapping, Sequence

import orjson

from compiler.lowering import lower_tables, ramp_rows
from compiler.plan import App, Audience, JsonValue, Plan, Release, Switch, Targeting
from compiler.splits import places
from gateway import layout
from gateway.hashing import percent_key


def switch_apps(plan: Plan) -> list[str]:
    """Name the apps without whose releases the switches cannot be compiled."""
    rows = (row for switch in plan.switches for row in switch.targeting)
    return sorted({row.same_as.app for row in rows if row.same_as is not None})


def lower_switches(plan: Plan) -> layout.Switches | None:
    """Compile all switches of a checked plan; None when it has none."""
    if not plan.switches:
        return None
    laid = sorted(plan.switches, key=lambda switch: switch.key)
    apps = {app.id: app for app in plan.apps}
    ranks = [
        (draw_of(switch, row), rank)
        for switch in laid
        for row in rows_of(switch)
        for rank in _ranks(row, apps)
    ]
    everyone = layout.encode_bits(layout.all_bits(len(ranks)))
    return {
        **lower_tables(
            [rank for _, rank in ranks],
            {"any": everyone, "platforms": {}},
            [draw for draw, _ in ranks],
        ),
        "switches": [_switch(switch, apps) for switch in laid],
    }


def rows_of(switch: Switch) -> tuple[Targeting, ...]:
    """Give the rows that can decide."""
    return switch.targeting if switch.enabled else ()


def _ranks(row: Targeting, apps: Mapping[str, App]) -> Sequence[Release]:
    """Give a row as releases, as the tables know them: one, or one for each step of a ramp."""
    return tuple(ramp_rows(Release("", "", audience_of(row, apps), row.conditions)))


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
            for _ in _ranks(row, apps)
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
