"""Law 3: rollouts only grow, reach what they say, and overlap as independent draws do."""

import os
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import plans
import snapshots
from compiler.plan import App, Audience, Package, Plan, Release, Step, Workspace
from gateway.hashing import (
    PERCENT_BUCKETS,
    id_hash,
    id_seed,
    percent_bucket,
    percent_key,
    percent_place,
)
from gateway.version import parse_version

RELEASES = 400 if "TIDEGATE_SOAK" in os.environ else 60
SUBJECTS = 2_000_000 if "TIDEGATE_SOAK" in os.environ else 100_000
SIGMAS = 5
SOME = tuple(f"s-{number}" for number in range(1_000))

# Row r holds the place of every bucket under release r; made once, as it takes seconds.
PLACES = np.array(
    [
        [percent_place(bucket, percent_key("app", f"r{r}")) for bucket in range(PERCENT_BUCKETS)]
        for r in range(RELEASES)
    ]
)


@given(st.integers(0, 2**64 - 1))
def test_places_are_a_permutation(key: int) -> None:
    """Any key orders all buckets, so that b basis points reach exactly b of them."""
    places = {percent_place(bucket, key) for bucket in range(PERCENT_BUCKETS)}
    assert places == set(range(PERCENT_BUCKETS))


def test_overlaps_are_those_of_independent_draws() -> None:
    """Any two releases share as many buckets as two independent random choices would."""
    for points in (100, 1_000, 2_500, 5_000):
        reached = (points > PLACES).astype(np.int64)
        shared = (reached @ reached.T)[np.triu_indices(RELEASES, 1)]
        total = PERCENT_BUCKETS
        mean = points * points / total
        # The hypergeometric law: two choices of `points` out of `total`.
        sigma = sqrt(mean * (total - points) / total * (total - points) / (total - 1))
        deviation = (shared - mean) / sigma
        # At 1 % a count of 1 ± 1 is skewed: the tail of 5 sigma is the Poisson one, near 8.
        assert np.abs(deviation).max() < (SIGMAS if points > 100 else 8), points
        assert abs(deviation.mean()) * sqrt(len(shared)) < SIGMAS, points
        assert 0.9 < deviation.std() < 1.1, points


def test_nobody_is_always_first() -> None:
    """Over many releases a bucket's mean place is that of a fair draw."""
    sigma = PERCENT_BUCKETS / sqrt(12) / sqrt(RELEASES)
    deviation = (PLACES.mean(axis=0) - (PERCENT_BUCKETS - 1) / 2) / sigma
    assert np.abs(deviation).max() < SIGMAS
    assert 0.95 < deviation.std() < 1.05


def test_subjects_fill_the_buckets_evenly() -> None:
    """A percentage reaches its share of real-looking ids, whatever their kind or workspace."""
    for workspace, kind, form in (
        ("demo", "user", "u-{}"),
        ("demo", "device", "{:016x}"),
        ("w", "user", "{:010d}"),
    ):
        seed = id_seed(workspace, kind)
        buckets = np.array([percent_bucket(id_hash(form.format(n), seed)) for n in range(SUBJECTS)])
        for release, points in ((0, 100), (1, 1_250), (2, 5_000)):
            share = points / PERCENT_BUCKETS
            reached = int((PLACES[release][buckets] < points).sum())
            sigma = sqrt(SUBJECTS * share * (1 - share))
            assert abs(reached - SUBJECTS * share) < SIGMAS * sigma


def _reached(points: int, release: str, version: str, by_user: bool) -> set[str]:
    """Compile a plan with one percentage, and tell which of 1,000 subjects it reaches."""
    return _reached_at([0], Audience(basis_points=points, by_user=by_user), release, version)[0]


def _reached_at(
    seconds: Sequence[int], audience: Audience, release: str = "r", version: str = "1.0"
) -> list[set[str]]:
    """Compile a plan with this audience, and tell whom of 1,000 subjects it reaches when."""
    key = parse_version(version)
    assert key is not None
    app = App(
        "a1",
        "",
        "apps/a1.yaml",
        (Package(version, key, record=plans.record("a1", version)),),
        (Release(release, version, audience),),
    )
    opened = snapshots.open_plan(Plan(Workspace("demo"), (app,)), {}, Random(0))
    kind = "user" if audience.by_user else "device"
    return [
        {
            subject
            for subject in SOME
            if b'"update"' in opened.ask({kind: subject, "apps": {"a1": None}}, second)
        }
        for second in seconds
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, PERCENT_BUCKETS),
    st.integers(0, PERCENT_BUCKETS),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    st.booleans(),
)
def test_raising_a_percentage_removes_nobody(
    one: int, other: int, release: str, by_user: bool
) -> None:
    """In the compiled plan: more basis points reach a superset, and another package the same."""
    low, high = sorted((one, other))
    fewer = _reached(low, release, "1.0", by_user)
    assert fewer <= _reached(high, release, "1.0", by_user)
    assert fewer == _reached(low, release, "1.0.0.1", by_user)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, PERCENT_BUCKETS), min_size=1, max_size=4).map(sorted),
    st.booleans(),
)
def test_a_ramp_removes_nobody(points: list[int], by_user: bool) -> None:
    """Each step, at its second, reaches whom its number alone would, and so everybody before."""
    ramp = tuple(Step(100 * at, each) for at, each in enumerate(points, 1))
    seconds = [bound for step in ramp for bound in (step.at - 1, step.at)]
    found = _reached_at(seconds, Audience(by_user=by_user, ramp=ramp))
    assert found[0] == set()
    assert found[1::2] == [_reached(each, "r", "1.0", by_user) for each in points]
    assert all(early <= late for early, late in pairwise(found))


def test_the_edge_of_a_percentage() -> None:
    """A subject at place p is reached by p + 1 basis points and not by p: exactly p are."""
    seed = id_seed("demo", "device")
    for number in range(40):
        subject = f"s-{number}"
        place = percent_place(percent_bucket(id_hash(subject, seed)), percent_key("a1", "r"))
        assert subject not in _reached(place, "r", "1.0", False)
        assert subject in _reached(place + 1, "r", "1.0", False)


def test_none_and_all() -> None:
    """0 % reaches nobody and 100 % everybody; 100 % needs no subject, less does."""
    assert _reached(0, "r", "1.0", False) == set()
    assert len(_reached(PERCENT_BUCKETS, "r", "1.0", False)) == 1_000
    assert 0 < len(_reached(9_900, "r", "1.0", False)) < 1_000
