"""Known answers of the keyed hash: a change of any of them moves every rollout there is."""

from gateway.bucket_layout import filter_pattern
from gateway.hashing import id_hash, id_seed, percent_bucket, percent_key, percent_place


def test_seeds_are_pinned() -> None:
    """A seed depends on workspace and kind alone."""
    assert id_seed("demo", "user") == 6592900360878368901
    assert id_seed("demo", "device") == 373743304864414803


def test_hashes_are_pinned() -> None:
    """XXH3 of the UTF-8 bytes under the seed; the bucket is its top part."""
    user = id_hash("u-8841", id_seed("demo", "user"))
    device = id_hash("d-5f0c", id_seed("demo", "device"))
    assert (user, percent_bucket(user)) == (10765745015004044866, 5836)
    assert (device, percent_bucket(device)) == (16393628197859243388, 8887)


def test_orders_are_pinned() -> None:
    """A release's own order of the buckets depends on app and release id alone."""
    key = percent_key("2021000000000001", "ramp")
    assert key == 4160725844717718068
    places = [percent_place(bucket, key) for bucket in (0, 1, 2, 5_000, 9_999)]
    assert places == [3060, 8099, 9717, 6806, 5103]


def test_the_edges_of_the_buckets() -> None:
    """The smallest and the largest hash fall into the first and the last bucket."""
    assert percent_bucket(0) == 0
    assert percent_bucket(2**64 - 1) == 9_999


def test_filter_patterns_are_pinned() -> None:
    """Four six-bit numbers of the hash, from its low end, name the bits."""
    assert filter_pattern(0) == 1
    assert filter_pattern(1 | 2 << 6 | 3 << 12 | 4 << 18) == 0b11110
    assert filter_pattern(2**64 - 1) == 1 << 63
