"""bsdiff4 patches without short matches far away: smaller, and a patch for every reader still."""

import random

import bsdiff4
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.patching import bsdiff

WORDS = [bytes(random.Random(seed).choices(b"abcdefgh(){}", k=12)) for seed in range(60)]


def text(order: random.Random, words: int) -> bytes:
    """Write so many words in an order of their own."""
    return b" ".join(order.choice(WORDS) for _ in range(words))


def test_new_text_of_old_words_has_smaller_patches() -> None:
    """Names that old text has, each at a place of its own, are text, not a jump for each."""
    order = random.Random(1)
    syllables = [b"set", b"get", b"Value", b"Index", b"Show", b"Data", b"Line", b"Page"]
    names = [b"".join(order.choices(syllables, k=5)) + b";" for _ in range(3000)]
    old = b"".join(name + order.randbytes(20) for name in names)
    new = old[:9000] + b"".join(order.choices(names, k=400)) + old[9000:]
    ours, usual = bsdiff.make(old, new), bsdiff4.diff(old, new)
    assert len(ours) < 0.8 * len(usual)
    assert bsdiff.apply(old, ours, len(new)) == bsdiff4.patch(old, ours) == new


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40)), max_size=8),
    st.integers(0, 99),
    st.integers(0, 400),
)
def test_no_patch_is_larger_than_the_usual_one(
    edits: list[tuple[int, int]], seed: int, words: int
) -> None:
    """Whatever was edited, the patch gives the new file, and bsdiff's own is never smaller."""
    order = random.Random(seed)
    old = text(order, words)
    new = old
    for at, size in edits:
        new = new[:at] + text(order, size) + new[at + order.randrange(40) :]
    ours = bsdiff.make(old, new)
    assert bsdiff.apply(old, ours, len(new)) == bsdiff4.patch(old, ours) == new
    assert len(ours) <= len(bsdiff4.diff(old, new))


def test_random_bytes_are_left_as_bsdiff_has_them() -> None:
    """Short matches in what bzip2 cannot pack are worth their triples: the usual patch is taken."""
    order = random.Random(2)
    pieces = [order.randbytes(28) for _ in range(900)]
    old = b"".join(pieces)
    new = b"".join(order.sample(pieces, 900))
    assert bsdiff.make(old, new) == bsdiff4.diff(old, new)
