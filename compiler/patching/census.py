"""The census: how many phones have which version of an app.

    {"2021000000000001": {"1.0.0.1": 81233, "1.0.0.2": 977}}

It comes from a file, or from what the gateways counted in checks (gateway/sums.py): then the
numbers are checks, which stand for phones, as all ask equally often.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from compiler.publication.mirror import Mirror
from gateway.errors import TidegateError
from gateway.version import VersionKey, parse_version

Census = Mapping[str, Mapping[VersionKey, int]]
"""App to version to number of phones; equal spellings of a version are counted together."""


Counts = Mapping[str, Mapping[str, int]]
"""App to version as the gateways name it, `none` and `other` too, to number of checks."""


class CensusError(TidegateError):
    """A census that cannot be read; the sentence names the file and says why."""


def read_census(file: Path) -> Census:
    """Read a census. What is no version (a phone without the app) is passed over.

    Raises CensusError.
    """
    try:
        value = json.loads(file.read_bytes())
    except OSError as fault:
        raise CensusError(
            f"{file} cannot be read: {fault.strerror or fault}. Check --census."
        ) from fault
    except (ValueError, RecursionError) as fault:
        raise CensusError(f"{file} is no JSON: {fault}. Write it again.") from fault
    shape = f'Write {{"app": {{"version": phones}}}} into {file}.'
    if not isinstance(value, dict):
        raise CensusError(f"{file} holds no apps. {shape}")
    return {app: _versions(file, app, counts, shape) for app, counts in value.items()}


def last_days(now: float, count: int) -> list[str]:
    """Name so many days, the last of which has the Unix time `now` in it, as keys.py does."""
    today = datetime.fromtimestamp(now, UTC)
    return [f"{today - timedelta(days=back):%Y%m%d}" for back in range(count)]


def counted_by_gateways(
    mirror: Mirror, days: Sequence[str], apps: Iterable[str] | None = None
) -> dict[str, dict[str, int]]:
    """Sum what all gateways counted on some days, of some apps or of all. Raises StoreError."""
    found: dict[str, dict[str, int]] = {}
    chosen = None if apps is None else set(apps)
    keys = {
        mirror.keys.census_of(day, app): app
        for day in days
        for app in sorted(mirror.names(mirror.keys.census(day)))
        if chosen is None or app in chosen
    }
    for key, numbers in mirror.numbers(keys):
        sums = found.setdefault(keys[key], {})
        for version, checks in numbers.items():
            sums[version] = sums.get(version, 0) + checks
    return found


def as_census(counts: Counts) -> Census:
    """Key what the gateways counted by version; an app none of whose versions was seen is left out.

    Of such an app nothing is known, while one without phones would get no patches.
    """
    found = {app: _by_key(numbers) for app, numbers in counts.items()}
    return {app: numbers for app, numbers in found.items() if numbers}


def _by_key(numbers: Mapping[str, int]) -> dict[VersionKey, int]:
    found: dict[VersionKey, int] = {}
    for version, count in numbers.items():
        key = parse_version(version)
        if key is not None:
            found[key] = found.get(key, 0) + count
    return found


def _versions(file: Path, app: str, counts: Any, shape: str) -> dict[VersionKey, int]:
    if not isinstance(counts, dict):
        raise CensusError(f"{file} holds no versions of {app!r:.80}. {shape}")
    for version, phones in counts.items():
        if type(phones) is not int or phones < 0:
            raise CensusError(
                f"{file}: {phones!r:.80} is no number of phones, at {app!r:.80} {version!r:.80}. "
                f"{shape}"
            )
    return _by_key(counts)
