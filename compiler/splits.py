"""Weighted variants to places: who of the 10,000 places in a split's order gets which variant.

Shares are exact to half a step of 0.01 % for each variant: places are given out as seats are by
Webster's method. The variants enter in the order of the file, and each takes its places from those
before it: from every one as many as its share shrinks by, and always its last ones. So raising the
weight of the last variant, or adding one behind it, moves nobody but those who now get that one.
"""

from collections.abc import Sequence
from fractions import Fraction

from gateway.hashing import PERCENT_BUCKETS

_Run = tuple[int, int]  # whose, and how many places


def places(weights: Sequence[int]) -> list[tuple[int, int]]:
    """Give runs of places as (end, variant), in order; a weight above 0 must be there.

    Each run begins where the one before it ends, and the last ends with 10,000.
    """
    entering = [at for at, weight in enumerate(weights) if weight]
    runs: list[_Run] = [(entering[0], PERCENT_BUCKETS)]
    held = {entering[0]: PERCENT_BUCKETS}
    for count, newcomer in enumerate(entering[1:], 2):
        shares = _shares([weights[at] for at in entering[:count]])
        now = dict(zip(entering, shares, strict=False))
        runs = _take({at: held[at] - now[at] for at in held}, newcomer, runs)
        held = now
    found: list[tuple[int, int]] = []
    end = 0
    for owner, size in runs:
        end += size
        if found and found[-1][1] == owner:
            found.pop()
        found.append((end, owner))
    return found


def _take(owed: dict[int, int], newcomer: int, runs: list[_Run]) -> list[_Run]:
    """Give to the newcomer what each owner owes, from the end of what it has."""
    found: list[_Run] = []
    for owner, size in reversed(runs):
        taken = min(size, owed[owner])
        owed[owner] -= taken
        found += [
            (whose, part) for whose, part in ((newcomer, taken), (owner, size - taken)) if part
        ]
    return found[::-1]


def _shares(weights: Sequence[int]) -> list[int]:
    """Share the places out by Webster's method; of equals the first comes first.

    A divisor method, so that nobody's share grows when another's weight does.
    """
    total = sum(weights)
    shares = [(2 * PERCENT_BUCKETS * weight + total) // (2 * total) for weight in weights]
    order = range(len(weights))
    while sum(shares) < PERCENT_BUCKETS:
        shares[max(order, key=lambda at: (Fraction(weights[at], 2 * shares[at] + 1), -at))] += 1
    while sum(shares) > PERCENT_BUCKETS:
        some = [at for at in order if shares[at]]
        shares[min(some, key=lambda at: (Fraction(weights[at], 2 * shares[at] - 1), -at))] -= 1
    return shares
