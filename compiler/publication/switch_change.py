"""What differs between the switches of two plans: a line a switch, as people read it."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from compiler.plan import Switch
from compiler.publication.change import Change, Kind, differing
from compiler.switch_data import as_data

_SHOWN_CHARS = 60


def changed_switches(old: Iterable[Switch], new: Iterable[Switch]) -> Iterator[Change]:
    """Give a change for every switch that is added, removed, or no longer the same."""
    sides = [{each["key"]: each for each in as_data(side)["switches"]} for side in (old, new)]
    for key in sorted({*sides[0], *sides[1]}):
        before, after = (side.get(key) for side in sides)
        if before is None:
            yield Change(Kind.ADDED, "switch", key)
        elif after is None:
            yield Change(Kind.REMOVED, "switch", key)
        elif json.dumps(before) != json.dumps(after):  # 1 and 1.0 are two values
            yield Change(Kind.CHANGED, "switch", key, differing(_phrases(before), _phrases(after)))


def _phrases(switch: dict[str, Any]) -> dict[str, str]:
    return {
        "enabled": "no" if "enabled" in switch else "yes",
        "variants": _short(switch["variants"]),
        "default": switch["default"],
        "targeting": _short(switch.get("targeting", [])),
    }


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
