"""A release storm: many phones wake at once, and come again. Pure arithmetic.

A phone's `check_after` is spread by its subject, and stays the same over its checks: phone f asks
again every f * check_after seconds, with f even over 0.8 to 1.2. So the phones that woke together
come in the k-th round evenly over [0.8 k, 1.2 k] check_after, rounds overlap from the third on,
and the rate settles at N ln(1.2 / 0.8) / 0.4 / check_after, 1.4 % above N / check_after.
"""

import math
from dataclasses import dataclass

SPREAD = 0.2
"""As gateway/snapshot.py spreads check_after, to both sides."""

FIRST_BACK_OFF = 30.0
"""What a client waits after a 503, doubled each time; see design.md, "what a client does"."""


@dataclass(frozen=True, slots=True)
class Storm:
    """Phones that wake within `seconds`, each to ask once; then they follow `check_after`.

    Of them the share `offered` downloads, `patched` of these a patch; sizes in bytes.
    """

    phones: float
    seconds: float
    check_after: float
    offered: float
    patched: float
    package_bytes: float
    patch_bytes: float

    @property
    def rate(self) -> float:
        """Checks a second while they wake."""
        return self.phones / self.seconds

    @property
    def full_bytes(self) -> float:
        """What the CDN sends when all download the package."""
        return self.phones * self.offered * self.package_bytes

    @property
    def patched_bytes(self) -> float:
        """What the CDN sends when the share `patched` downloads a patch."""
        mean = self.patched * self.patch_bytes + (1 - self.patched) * self.package_bytes
        return self.phones * self.offered * mean


def drained_after(storm: Storm, capacity: float) -> float:
    """Give the seconds until all are answered by gateways of so many checks a second.

    Who is refused comes again 30 s later, and so on: with a lower capacity than the rate this is
    what the work alone takes, and the last come up to a back-off later.
    """
    return max(storm.seconds, storm.phones / capacity)


def rate_at(storm: Storm, seconds: float) -> float:
    """Give the checks a second of the following rounds, so long after the wake's middle."""
    at = seconds / storm.check_after
    first = math.ceil(at / (1 + SPREAD) - 1e-9)
    last = math.floor(at / (1 - SPREAD) + 1e-9)
    densities = (1 / (2 * SPREAD * k) for k in range(max(first, 1), last + 1))
    return storm.phones / storm.check_after * sum(densities)


def settled_rate(storm: Storm) -> float:
    """Give the rate once all rounds overlap."""
    share = math.log((1 + SPREAD) / (1 - SPREAD)) / (2 * SPREAD)
    return storm.phones / storm.check_after * share


def next_peak(storm: Storm) -> float:
    """Give the highest rate of the next round: the wake itself is spread over 0.4 check_after."""
    width = max(2 * SPREAD * storm.check_after, storm.seconds)
    return storm.phones / width
