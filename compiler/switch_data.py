"""Switches as data: what `switch export` prints and `switch import` reads, and the plan's file.

The JSON has the keys and the meaning of switches.yaml; named rules are written out, and apps are
named by id. What is exported and imported again means the same.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from compiler.plan import Condition, Operator, Switch, Targeting

_ONE = (Operator.AT_LEAST, Operator.BELOW)


def as_data(switches: Iterable[Switch]) -> dict[str, Any]:
    """Give switches as JSON has them."""
    return {"switches": [_switch(switch) for switch in switches]}


def as_file(switches: Iterable[Switch]) -> str:
    """Write switches.yaml: a line for each key, and one for each row."""
    lines = ["switches:"]
    for switch in map(_switch, switches):
        rows = switch.pop("targeting", [])
        keys = [f"{name}: {_flow(value)}" for name, value in switch.items()]
        lines += [f"  {'-' if not at else ' '} {key}" for at, key in enumerate(keys)]
        if rows:
            lines.append("    targeting:")
            lines += [f"      - {_flow(row)}" for row in rows]
    if len(lines) == 1:
        return "switches: []\n"
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Write a value as JSON, which YAML reads as what it is: texts are quoted, the rest is not."""
    return json.dumps(value, ensure_ascii=False)


def _switch(switch: Switch) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": switch.key,
        "variants": switch.variants,
        "default": switch.default,
    }
    if not switch.enabled:
        found["enabled"] = False
    if switch.targeting:
        found["targeting"] = [_row(row) for row in switch.targeting]
    return found


def _row(row: Targeting) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if row.variant is not None:
        found["variant"] = row.variant
    else:
        found["split"] = {name: _decimal(weight) for name, weight in row.split}
    audience = _audience(row)
    if audience:
        found["audience"] = audience
    if row.conditions:
        found["when"] = [_condition(each) for each in row.conditions]
    return found


def _audience(row: Targeting) -> dict[str, Any]:
    if row.same_as is not None:
        return {"same_as": {"app": row.same_as.app, "release": row.same_as.release}}
    audience = row.audience
    found: dict[str, Any] = {}
    if audience.lists:
        found["lists"] = list(audience.lists)
    if audience.not_lists:
        found["not_lists"] = list(audience.not_lists)
    if audience.basis_points is not None:
        found["percent"] = _decimal(audience.basis_points)
    if audience.ramp:
        found["percent"] = [
            {"at": _time(step.at), "percent": _decimal(step.basis_points)} for step in audience.ramp
        ]
    if audience.by_user:
        found["by"] = "user"
    return found


def _condition(condition: Condition) -> dict[str, Any]:
    operands: Any = list(condition.operands)
    if condition.operator in _ONE:
        operands = operands[0]
    return {"attribute": condition.attribute, condition.operator.value: operands}


def _time(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _decimal(hundredths: int) -> int | float:
    """Give hundredths as a number: whole where it is whole."""
    whole, rest = divmod(hundredths, 100)
    return hundredths / 100 if rest else whole
