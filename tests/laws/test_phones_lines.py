"""Law 10 over a line that is cut, and before a CDN that sends what it should not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdn
from phone_shop import BOTH, HASTY, NEAR, NEW, Shop
from phone_ways import FEW, SOAK, WAYS, downloads, length, phone
from processes import wait_until

FLIPS = settings(max_examples=3_000 if SOAK else 60, deadline=None, derandomize=not SOAK)
TENTHS: dict[str, Callable[[int, int], cdn.Fault]] = {
    "always, at this byte": lambda tenth, size: cdn.cut_at(size * tenth // 10),
    "once": lambda tenth, size: cdn.first(cdn.cut_after(size * tenth // 10)),
    "after so many bytes": lambda tenth, size: cdn.cut_after(size * tenth // 10),
}


@pytest.mark.parametrize("kind", TENTHS)
@pytest.mark.parametrize("way", WAYS if SOAK else FEW)
def test_a_connection_that_is_cut(world: Shop, way: str, kind: str) -> None:
    """At every tenth of the download; what came is kept, and the rest alone asked for next."""
    size = length(world, way)
    for tenth in range(10):
        found = phone(world, way)
        world.proxy.fault = TENTHS[kind](tenth, size)
        result = found.round()
        if kind == "once" or (kind != "always, at this byte" and tenth):
            assert result.version == found.target, (tenth, result)
        if kind == "once" and tenth:
            first, second = downloads(world)
            assert second.path == first.path
            assert second.headers["Range"] == f"bytes={size * tenth // 10}-"
        if kind == "always, at this byte" and found.fresh:
            assert (result.outcome, result.version) == ("failed", None), (tenth, result)
        world.proxy.requests.clear()
        found.heal()
        if kind == "always, at this byte" and tenth and found.fresh:
            assert downloads(world)[0].headers["Range"] == f"bytes={size * tenth // 10}-"


@pytest.mark.parametrize("way", FEW)
def test_the_second_base_goes_on_where_the_first_ended(world: Shop, way: str) -> None:
    """In the same round, also when what the first base sent before it was cut is damaged."""
    size = length(world, way)
    for tenth in (1, 5, 9):
        cut = size * tenth // 10

        def spoilt(request: cdn.Request, cut: int = cut) -> cdn.Reply:
            return replace(cdn.flipped(cut // 2)(request), sent=cut)

        for fault in (cdn.cut_at(cut), spoilt):
            found = phone(world, way, region=BOTH)
            world.proxy.fault = cdn.first(fault, then=cdn.answered(404))
            assert found.round().version == found.target
            found.heal()


FAULTS: dict[str, cdn.Fault] = {
    "500": cdn.answered(500),
    "503": cdn.answered(503, **{"Retry-After": "1"}),
    "404": cdn.answered(404, b"<html>no such file</html>"),
    "403": cdn.answered(403),
    "204": cdn.answered(204),
    "an HTML page": cdn.answered(200, b"<html>log in to this network</html>" * 40),
    "nothing": cdn.answered(200),
    "nobody": cdn.cut_at(0),
    "an encoding of its own": cdn.encoded,
    "a redirect to itself": cdn.answered(302, Location="/again"),
    "more announced": cdn.announced(1000),
    "less announced": cdn.announced(-10),
    "more sent": cdn.grown(1000),
    "another file": cdn.another_file("/none"),
    "a range of nothing": cdn.answered(206, b"x" * 99, **{"Content-Range": "bytes 7-105/106"}),
    "416": cdn.answered(416),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cdn_that_misbehaves(world: Shop, fault: str) -> None:
    """On no way does anything that a CDN sends leave the phone with other than old or target.

    With nginx as the second base each of these ends on the target in the same round.
    """
    for way in WAYS if SOAK else ("full, gzip", "bsdiff4", "encrypted, zstd-patch"):
        found = phone(world, way)
        world.proxy.fault = FAULTS[fault]
        found.round()
        found.heal()
        found = phone(world, way, region=BOTH)
        world.proxy.fault = FAULTS[fault]
        assert found.round().version == found.target
    assert downloads(world)


def test_silence_is_not_waited_out(world: Shop) -> None:
    """A base that says nothing is given up for the next one, or until the next round."""
    for region, after in ((NEAR, None), (BOTH, NEW)):
        found = phone(world, "full, gzip", region=region)
        found.limits = HASTY
        world.proxy.fault = cdn.stalled(0, 2.0)
        # To one in such a haste a busy machine may seem silent, too.
        wait_until(lambda at=found, end=after: at.round().version == end, "another is asked")
        found.heal()


def test_a_line_that_falls_silent(world: Shop) -> None:
    """In the middle of a download: the rest is fetched on another line."""
    for way in ("full, gzip", "encrypted, bsdiff4"):
        found = phone(world, way)
        found.limits = HASTY
        world.proxy.fault = cdn.first(cdn.stalled(100, 2.0))
        wait_until(lambda at=found: at.round().version == at.target, "the rest is fetched")
        assert downloads(world)[1].headers["Range"] == "bytes=100-"


def test_a_cdn_that_ignores_ranges(world: Shop) -> None:
    """A download that is taken up and comes whole again is taken from its first byte."""
    for way in FEW:
        size = length(world, way)
        found = phone(world, way)
        world.proxy.fault = cdn.first(cdn.cut_after(size // 2), then=cdn.without_range)
        assert found.round().version == found.target
        assert [("Range" in each.headers) for each in downloads(world)] == [False, True]


def test_another_packages_bytes_are_refused(world: Shop) -> None:
    """A CDN that serves a sound package of another version or app under the name asked for."""
    length(world, "rollback")
    other = downloads(world)[0].path
    for way in FEW:
        found = phone(world, way)
        world.proxy.fault = cdn.another_file(other)
        assert found.round().outcome == "failed"
        found.heal()


@FLIPS
@given(
    way=st.sampled_from(FEW),
    place=st.floats(0, 1, exclude_max=True),
    mask=st.integers(1, 255),
    often=st.booleans(),
)
def test_a_flipped_byte_anywhere(
    world: Shop, way: str, place: float, mask: int, often: bool
) -> None:
    """In any download: it is not taken, and another is; always flipped, the old package stays."""
    size = length(world, way)
    found = phone(world, way)
    fault = cdn.flipped(int(place * size), mask)
    world.proxy.fault = fault if often else cdn.first(fault)
    result = found.round()
    if found.fresh:
        assert result.version is None or not often, result
    else:
        assert result.version is not None
    found.heal()
