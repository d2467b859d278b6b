"""`percent` in an audience: one number, or a ramp that rises by itself, step by step."""

from dataclasses import dataclass
from itertools import pairwise

from compiler.language.faults import Faults
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Located, Many, Placed, Schema
from compiler.language.tree import Node, Sequence
from compiler.language.words import PERCENT, TIME
from compiler.plan import Step, percent_text

MOST_STEPS = 50

_EXAMPLE = "{at: 2026-11-23T09:00:00+08:00, percent: 1}"


def _step(fields: Fields, faults: Faults) -> Located[Step] | None:  # noqa: ARG001
    at, percent = fields.get("at"), fields.get("percent")
    return None if at is None or percent is None else Located(Step(at.value, percent), at.span)


_STEP = Record(
    "A step of a percentage",
    {
        "at": Key(
            Placed(TIME), "The first second of this percentage.", "at: 2026-11-23T09:00:00+08:00"
        ),
        "percent": Key(PERCENT, "0 to 100 in steps of 0.01.", "percent: 1"),
    },
    _step,
)
_STEPS = Many(_STEP, f"steps such as {_EXAMPLE}", least=1, most=MOST_STEPS)


@dataclass(frozen=True, slots=True)
class PercentShape:
    """A percentage in basis points, or the steps of a ramp."""

    def read(self, node: Node, faults: Faults) -> int | tuple[Step, ...] | None:
        """Read a list as a ramp, whose times must rise, and all else as a number."""
        if not isinstance(node, Sequence):
            return PERCENT.read(node, faults)
        steps = _STEPS.read(node, faults)
        for before, after in pairwise(steps or ()):
            if after.value.at <= before.value.at:
                faults.error(
                    after.span, "This step is not after the one before it. Write a later time."
                )
            elif after.value.basis_points < before.value.basis_points:
                faults.warning(
                    after.span,
                    f"This step lowers the percentage to {percent_text(after.value.basis_points)}: "
                    "some subjects are no longer reached. Write steps that rise.",
                )
        return tuple(step.value for step in steps) if steps else None

    def schema(self) -> Schema:
        """Describe a number or a list of steps."""
        return {"anyOf": [PERCENT.schema(), _STEPS.schema()]}
