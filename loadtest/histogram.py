"""A histogram of times whose buckets grow by 2 %: small, and sums of many are exact.

Percentiles are a bucket's upper end: never too low, and at most 2 % too high.
"""

import math
from collections import Counter
from collections.abc import Mapping

GROWTH = 1.02
LEAST_MS = 0.05
_LOG_GROWTH = math.log(GROWTH)

Histogram = Counter[int]
"""How many times fell into each bucket."""


def bucket_of(milliseconds: float) -> int:
    """Tell in which bucket a time is counted."""
    if milliseconds <= LEAST_MS:
        return 0
    return math.ceil(math.log(milliseconds / LEAST_MS) / _LOG_GROWTH)


def upper_end(bucket: int) -> float:
    """Give the longest time, in milliseconds, that a bucket counts."""
    return float(LEAST_MS * GROWTH**bucket)


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """Give the time in milliseconds that `share` (0 to 1) of all do not exceed; None of none."""
    total = sum(histogram.values())
    if not total:
        return None
    wanted = max(1, math.ceil(total * share))
    for bucket in sorted(histogram):
        wanted -= histogram[bucket]
        if wanted <= 0:
            return upper_end(bucket)
    raise AssertionError("a share is at most 1")
