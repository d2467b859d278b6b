"""Reading: a written plan reads back as itself, whatever the order of its rows."""

from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plans
from compiler.language.reading import read_files
from compiler.plan import App, Plan


def _sorted(plan: Plan) -> tuple[Any, ...]:
    """Put a plan's rows in one order, as their order means nothing."""
    return (plan.workspace, [_sorted_app(app) for app in plan.apps], plan.lists)


def _sorted_app(app: App) -> tuple[Any, ...]:
    return (
        app.id,
        sorted(app.packages, key=lambda package: package.key),
        sorted(app.releases, key=lambda release: release.id),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=plans.plans(), seed=st.integers(0, 2**32))
def test_a_written_plan_reads_back_as_itself(drawn: Any, seed: int) -> None:
    """Every value of every feature comes back with its type, its order and its exact decimals."""
    written, _ = drawn
    reading = read_files(plans.to_files(written, Random(seed)), now=plans.NOW)
    assert reading.plan is not None, reading.diagnostics
    assert _sorted(reading.plan) == _sorted(written)
