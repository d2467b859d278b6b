"""What capacity says: the same figures as text for people and as data for scripts."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.capacity import availability, day, storm
from loadtest.capacity.availability import Failure
from loadtest.capacity.day import Day, Need, Site
from loadtest.capacity.figures import Figures
from loadtest.capacity.storm import Storm

MOMENTS = tuple(round((1 - storm.SPREAD) * number + 0.01, 2) for number in range(1, 6))
"""Where a storm's next rounds are looked at: just after each begins, in check_afters."""

_REFUSED = f"who gets a 503 asks {storm.FIRST_BACK_OFF:.0f} s later"
_WIDTH = 34
_NAMES = {
    "visitors": "visitors",
    "checks": "checks a visitor",
    "peak": "peak",
    "apps": "apps a check",
    "variety": "variety of phones and releases",
    "members": "share of members",
    "remembered": "share remembered",
    "fresh": "share of new connections",
    "updates": "downloads a visitor",
    "package_bytes": "size of packages",
    "patch_bytes": "size of patches",
    "patched": "share of patches",
}
ASSUMPTIONS = (
    "Cores are like the one measured: one worker a core, that does nothing else.",
    "The bench counts user and system time of the worker. TLS and HTTP/2 are the edge's, apart.",
    "A check's cost is the sum of its parts. `python -m loadtest.capacity.check` tries that here.",
    "Rates are even within the busiest second. Network, load balancers and logs are not in it.",
    "Sizes of answers are those of the bench, where every app has an update: an upper bound.",
    "Reports, switches and time windows' seats are not in it; count a report as a check.",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was asked and found; prices are a core's hour and a GB, or None."""

    figures: Figures
    day: Day
    site: Site
    need: Need
    storm: Storm
    failures: list[Failure]
    core_hour: float | None
    gigabyte: float | None


def as_data(found: Findings) -> dict[str, Any]:
    """Give the findings for a script."""
    need, wave = found.need, found.storm
    capacity = need.cores * day.saturation(found.day, found.figures)
    reached = availability.availability(found.failures)
    return {
        "figures": found.figures.source,
        "day": asdict(found.day),
        "site": asdict(found.site),
        "mean_rate": found.day.mean_rate,
        "peak_rate": found.day.peak_rate,
        "saturation_a_core": day.saturation(found.day, found.figures),
        "need": asdict(need) | {"cpu_us": dict(need.cpu_us)},
        "drivers": day.drivers(found.day, found.site, found.figures),
        "storm": asdict(wave)
        | {
            "rate": wave.rate,
            "busy": wave.rate / capacity,
            "drained_after": storm.drained_after(wave, capacity),
            "full_bytes": wave.full_bytes,
            "patched_bytes": wave.patched_bytes,
            "rounds": [
                [at * wave.check_after, storm.rate_at(wave, at * wave.check_after)]
                for at in MOMENTS
            ],
            "settled_rate": storm.settled_rate(wave),
        },
        "failures": [asdict(each) | {"lost_seconds": each.lost_seconds} for each in found.failures],
        "availability": reached,
        "holds": reached >= availability.TARGET,
        "cost_a_day": _costs(found),
        "assumptions": list(ASSUMPTIONS),
    }


def as_text(found: Findings) -> str:
    """Write the findings."""
    parts = (_head(found), _need(found), _drivers(found), _storm(found), _failures(found))
    told = ("\n".join(part) for part in parts)
    assumed = "\n".join(["Assumed", *(f"  {line}" for line in ASSUMPTIONS)])
    return "\n\n".join((*told, assumed))


def _row(name: str, value: str, aside: str = "") -> str:
    return f"  {name:{_WIDTH}}{value:>16}  {aside}".rstrip()


def _head(found: Findings) -> Iterator[str]:
    asked = found.day
    yield f"Figures: {found.figures.source}."
    yield (
        f"A day: {asked.visitors:,.0f} visitors, {asked.checks:g} checks each of {asked.apps:g} "
        f"apps: {asked.mean_rate:,.0f} checks/s, and in the busiest second {asked.peak:g} times "
        f"that: {asked.peak_rate:,.0f}."
    )


def _need(found: Findings) -> Iterator[str]:
    need, site = found.need, found.site
    total = sum(need.cpu_us.values())
    yield "A check"
    yield _row(
        "CPU of a gateway", f"{total:.1f} µs", f"a core answers {1e6 / total:,.0f}/s at most"
    )
    for cause, cost in need.cpu_us.items():
        yield _row(f"  {cause}", f"{cost:.2f} µs", f"{cost / total:.0%}")
    yield ""
    yield "At the peak"
    spare = f", one of {site.zones} zones to spare" if site.zones > 1 else ""
    yield _row("cores, one worker each", f"{need.cores:,}", f"at most {site.busy:.0%} busy{spare}")
    each = need.machines // site.zones
    yield _row(
        f"machines of {site.cores_a_machine} cores", f"{need.machines:,}", f"{each:,} in each zone"
    )
    busy = f"{need.redis_busy:.1%} of its one core"
    yield _row("Redis: look-ups", f"{need.lookups:,.0f}/s", busy)
    yield _row("Redis: lists", _bytes(need.redis_bytes), "and as much again while one is replaced")
    yield _row("gateways: in", _bits(need.bits_in), "requests and heads, without TCP's and TLS's")
    yield _row("gateways: out", _bits(need.bits_out))
    yield _row("CDN: out", _bits(need.cdn_bits), f"{_bytes(need.cdn_bytes)} a day")
    for what, cost in _costs(found).items():
        yield _row(f"cost of {what}", f"{cost:,.2f}", "a day")


def _costs(found: Findings) -> dict[str, float]:
    """Give the cost of a day, of what has a price."""
    costs = {}
    if found.core_hour is not None:
        costs["cores"] = found.need.cores * 24 * found.core_hour
    if found.gigabyte is not None:
        costs["the CDN"] = found.need.cdn_bytes / 1e9 * found.gigabyte
    return costs


def _drivers(found: Findings) -> Iterator[str]:
    yield f"What drives it: a tenth more of{'cores':>{_WIDTH - 13}}{'CDN':>10}"
    for name, (cores, cdn) in day.drivers(found.day, found.site, found.figures).items():
        yield f"  {_NAMES[name]:{_WIDTH + 5}}{cores:>+13.1%}{cdn:>+10.1%}"


def _storm(found: Findings) -> Iterator[str]:
    wave, need = found.storm, found.need
    capacity = need.cores * day.saturation(found.day, found.figures)
    yield f"A storm: {wave.phones:,.0f} phones wake within {wave.seconds:g} s"
    yield _row(
        "checks while they wake",
        f"{wave.rate:,.0f}/s",
        f"{wave.rate / capacity:.0%} of these cores",
    )
    after = storm.drained_after(wave, capacity)
    late = "" if wave.rate <= capacity else f"at full speed; {_REFUSED}"
    yield _row("all are answered after", f"{after:,.1f} s", late)
    yield _row("CDN, packages alone", _bytes(wave.full_bytes), _pace(wave.full_bytes, wave))
    yield _row("CDN, with patches", _bytes(wave.patched_bytes), _pace(wave.patched_bytes, wave))
    yield _row("next round", f"{storm.next_peak(wave):,.0f}/s", _spread(wave))
    for at in MOMENTS:
        when = at * wave.check_after
        yield _row(f"  after {when:,.0f} s", f"{storm.rate_at(wave, when):,.0f}/s")
    settled = f"{storm.settled_rate(wave):,.0f}/s"
    yield _row("settles at", settled, "1.4 % above phones / check_after")


def _pace(sent: float, wave: Storm) -> str:
    waking, later = _bits(sent * 8 / wave.seconds), _bits(sent * 8 / wave.check_after)
    return f"{waking} while they wake; {later} over one check_after"


def _spread(wave: Storm) -> str:
    low, high = (wave.check_after * (1 + side * storm.SPREAD) for side in (-1, 1))
    return f"check_after spreads it over {low:,.0f} to {high:,.0f} s"


def _failures(found: Findings) -> Iterator[str]:
    reached = availability.availability(found.failures)
    allowed = availability.allowed_seconds()
    yield f"{availability.TARGET:.3%}: {allowed:.0f} s a year in which all checks would fail"
    yield f"  {'':{_WIDTH - 10}}{'a year':>8}{'s each':>8}{'of checks':>11}{'lost s':>9}"
    for each in found.failures:
        yield (
            f"  {each.what:{_WIDTH - 10}}{each.a_year:>8g}{each.seconds:>8g}{each.share:>11.2%}"
            f"{each.lost_seconds:>9.1f}  {each.why}"
        )
    lost = sum(each.lost_seconds for each in found.failures)
    said = "holds" if reached >= availability.TARGET else "does not hold"
    yield f"  {'together':{_WIDTH - 10}}{'':27}{lost:>9.1f}  {reached:.5%}: it {said}"
    yield "  A phone that gets no answer keeps what it has, and asks again 30 s later."


def _bytes(number: float) -> str:
    return _scaled(number, "B")


def _bits(number: float) -> str:
    return _scaled(number, "bit/s")


def _scaled(number: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:,.1f} {prefix}{unit}"
        number /= 1000
    return f"{number:,.1f} P{unit}"


assert set(_NAMES) == set(day.DRIVERS)
