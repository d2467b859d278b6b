"""Gateways announce themselves in Redis; who pushes reads that, and waits for them.

The sorted set tg:W:gateways says when each was last heard, tg:W:gateway:<name>, which expires
after 5 s, what it says:

    {"name": "gw-1", "version": "0.1.0", "formats": [1], "epoch": 42, "digest": "…", "since": 1.5,
     "why": ""}
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from compiler.language.faults import listed
from compiler.publication.mirror import Mirror
from compiler.refusal import Refused
from gateway import layout

NAMES_SECONDS = 86_400.0
"""Names heard longer ago are left aside. What tells who runs is the expiring key alone: the times
are of the gateways' own clocks, and a clock that is wrong must not hide a gateway."""

_POLL_SECONDS = 0.05
_SHOWN = 5
_WHY_CHARS = 500


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a running gateway says of itself; `epoch` is 0 and `digest` empty before the first.

    `since` is when it began to serve that epoch, in Unix seconds by its own clock; `why` says in a
    line why it does not serve the live epoch, if it says so at all.
    """

    name: str
    version: str
    formats: tuple[int, ...]
    epoch: int
    digest: bytes
    since: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """How far an epoch has come: gateways that serve it, of how many, after how many seconds.

    `reasons` has for each of the `laggards` what it says itself, or "".
    """

    serving: int
    total: int
    seconds: float
    laggards: tuple[str, ...]
    reasons: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """Say it in a line, as `12 of 12 in 0.4 s`."""
        if not self.total:
            return "No gateway is running: the epoch is served as soon as one starts."
        text = f"{self.serving} of {self.total} in {self.seconds:.1f} s"
        if not self.laggards:
            return text
        return f"{text}; not yet: {_names(self.laggards)}"


def running_gateways(mirror: Mirror, now: float) -> list[Gateway]:
    """Read who is running at `now` (Unix seconds). Raises StoreError."""
    return [_read(name, text) for name, text in mirror.announced(now - NAMES_SECONDS)]


def check_formats(gateways: list[Gateway]) -> None:
    """Raise Refused, naming them, if there are gateways that cannot read this data format."""
    behind = [
        f"{each.name} (version {each.version or 'unknown'})"
        for each in gateways
        if layout.FORMAT not in each.formats
    ]
    if behind:
        raise Refused(
            f"Data format {layout.FORMAT} cannot be read by {_names(behind)}. "
            "Upgrade the gateways first, then push again."
        )


def wait_for_gateways(
    mirror: Mirror,
    number: int,
    *,
    timeout_seconds: float,
    on_change: Callable[[Served], None] | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Served:
    """Wait until every running gateway serves this epoch or a later one, or the time is over.

    `on_change` hears of each change. `clock` gives Unix seconds. Raises StoreError.
    """
    start = clock()
    last: tuple[int, int, tuple[str, ...]] | None = None
    while True:
        now = clock()
        gateways = running_gateways(mirror, now)
        behind = [each for each in gateways if each.epoch < number]
        laggards = tuple(each.name for each in behind)
        state = (len(gateways) - len(laggards), len(gateways), laggards)
        reasons = tuple(each.why for each in behind)
        served = Served(state[0], state[1], now - start, laggards, reasons)
        if state != last and on_change is not None:
            on_change(served)
        last = state
        if not laggards or now - start >= timeout_seconds:
            return served
        sleep(_POLL_SECONDS)


def _names(names: list[str] | tuple[str, ...]) -> str:
    if len(names) <= _SHOWN:
        return listed(names, "and")
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"


def _read(name: str, text: bytes) -> Gateway:
    """Read an announcement; what is unreadable counts as a gateway that reads no format."""
    try:
        said = json.loads(text)
        return Gateway(
            name,
            str(said["version"]),
            tuple(int(each) for each in said["formats"]),
            int(said["epoch"] or 0),
            bytes.fromhex(said["digest"] or ""),
            float(said.get("since") or 0),
            _line(str(said.get("why", ""))),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Gateway(name, "", (), 0, b"")


def _line(text: str) -> str:
    """Hold what a gateway says to one line that any terminal can show."""
    line = " ".join(text[:_WHY_CHARS].split())
    return "".join(char if char.isprintable() else "?" for char in line)
