"""A day's traffic: the cores, Redis and bandwidth that it takes at its peak. Pure arithmetic.

A check's CPU time is a sum: the check with its first app, each app more, and what lists, look-ups
and new connections add, each as the bench measured it apart. Cores are CPU seconds a second at the
peak, over how busy a core may be; one zone more than needed stands by, so that a zone may be lost
at the peak.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from loadtest.capacity.figures import Figures

DAY_SECONDS = 86_400.0
ID_BYTES = 10.5
"""What an id on a list takes in Redis: measured by loadtest/lists.py, see the README."""

VARIETY = 1.6
"""What a crowd of all kinds of phones on a plan with every kind of release was found to take by
loadtest/capacity/check.py."""

STEP = 1.1
"""By how much an input is changed to see what it drives."""


@dataclass(frozen=True, slots=True)
class Day:
    """What comes in a day. Shares are of 1; a visitor is a phone that opens the host app.

    `variety` is how many times the bench's check one of real phones takes: the bench's phones are
    alike, and so are its apps, so that few values and few answers are used. `peak` is the busiest
    second over the mean one. `members`: the share of checks by someone on a list; of these the
    gateway remembers the share `remembered`, and looks the others up in Redis. `fresh`: the share
    of checks that open a connection. `updates`: downloads a visitor and day, of which the share
    `patched` is a patch; sizes in bytes. `ids`: on all lists together.
    """

    visitors: float
    checks: float
    apps: float
    variety: float
    peak: float
    lists: bool
    members: float
    remembered: float
    fresh: float
    updates: float
    patched: float
    package_bytes: float
    patch_bytes: float
    ids: float

    @property
    def mean_rate(self) -> float:
        """Checks a second over the day."""
        return self.visitors * self.checks / DAY_SECONDS

    @property
    def peak_rate(self) -> float:
        """Checks in the busiest second."""
        return self.mean_rate * self.peak

    @property
    def download_bytes(self) -> float:
        """The mean size of a download."""
        return self.patched * self.patch_bytes + (1 - self.patched) * self.package_bytes


@dataclass(frozen=True, slots=True)
class Site:
    """Where it runs: how busy a core may be at the peak, cores a machine, and zones."""

    busy: float
    cores_a_machine: int
    zones: int

    @property
    def spare(self) -> float:
        """How many times the needed cores stand there, so that one zone may be lost."""
        return self.zones / (self.zones - 1) if self.zones > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Need:
    """What a day takes on a site.

    `cpu_us` is a check's, by cause. `cores` run one gateway worker each, on `machines`, spread
    evenly over the zones. Redis: look-ups a second, the share of its one core, and bytes of memory.
    Bits a second are at the peak; `cdn_bytes` is of the whole day.
    """

    cpu_us: Mapping[str, float]
    cores: int
    machines: int
    lookups: float
    redis_busy: float
    redis_bytes: float
    bits_in: float
    bits_out: float
    cdn_bytes: float
    cdn_bits: float


def cpu_us(day: Day, figures: Figures) -> dict[str, float]:
    """Give the CPU time of a mean check in µs, by cause."""
    strangers = 1 - day.members
    asked, known = day.members * (1 - day.remembered), day.members * day.remembered
    return {
        "a check of one app": day.variety * figures.first_app_us,
        "further apps": day.variety * max(0.0, day.apps - 1) * figures.further_app_us,
        "strangers to live lists": strangers * figures.stranger_us if day.lists else 0.0,
        "members, looked up in Redis": asked * figures.asked_us if day.lists else 0.0,
        "members, remembered": known * figures.remembered_us if day.lists else 0.0,
        "new connections": day.fresh * figures.connection_us,
    }


def saturation(day: Day, figures: Figures) -> float:
    """Predict the checks a second that one core answers when it does nothing else."""
    return 1e6 / sum(cpu_us(day, figures).values())


def need(day: Day, site: Site, figures: Figures) -> Need:
    """Work out what a day takes."""
    costs = cpu_us(day, figures)
    rate = day.peak_rate
    lookups = rate * day.members * (1 - day.remembered) if day.lists else 0.0
    cores = math.ceil(rate * sum(costs.values()) / 1e6 / site.busy * site.spare)
    machines = math.ceil(math.ceil(cores / site.cores_a_machine) / site.zones) * site.zones
    downloads = day.visitors * day.updates
    return Need(
        cpu_us=costs,
        cores=machines * site.cores_a_machine,
        machines=machines,
        lookups=lookups,
        redis_busy=lookups * figures.redis_us / 1e6,
        redis_bytes=day.ids * ID_BYTES,
        bits_in=rate * figures.request_bytes(day.apps) * 8,
        bits_out=rate * figures.answer_bytes(day.apps) * 8,
        cdn_bytes=downloads * day.download_bytes,
        cdn_bits=downloads * day.download_bytes / DAY_SECONDS * day.peak * 8,
    )


def exact_cores(day: Day, site: Site, figures: Figures) -> float:
    """Give the cores before they are rounded up to whole machines and zones."""
    return day.peak_rate / saturation(day, figures) / site.busy * site.spare


DRIVERS = (
    *("visitors", "checks", "peak", "apps", "variety", "members", "remembered", "fresh"),
    *("updates", "package_bytes", "patch_bytes", "patched"),
)


def drivers(day: Day, site: Site, figures: Figures) -> dict[str, tuple[float, float]]:
    """Tell by which share cores and the CDN's bytes grow when an input is a tenth larger."""
    cores, cdn = exact_cores(day, site, figures), day.visitors * day.updates * day.download_bytes
    found = {}
    for name in DRIVERS:
        value = getattr(day, name) * STEP
        if name in ("members", "remembered", "fresh", "patched"):
            value = min(value, 1.0)
        more = replace(day, **{name: value})
        bytes_more = more.visitors * more.updates * more.download_bytes
        found[name] = (
            exact_cores(more, site, figures) / cores - 1,
            bytes_more / cdn - 1 if cdn else 0.0,
        )
    return found


assert set(DRIVERS) <= {each.name for each in fields(Day)}
