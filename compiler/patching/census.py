"""The census: how many phones have which version of an app.

    {"2021000000000001": {"1.0.0.1": 81233, "1.0.0.2": 977}}

It comes from a file; what the gateways counted themselves will come through `read_census` too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.errors import TidegateError
from gateway.version import VersionKey, parse_version

Census = Mapping[str, Mapping[VersionKey, int]]
"""App to version to number of phones; equal spellings of a version are counted together."""


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


def _versions(file: Path, app: str, counts: Any, shape: str) -> dict[VersionKey, int]:
    if not isinstance(counts, dict):
        raise CensusError(f"{file} holds no versions of {app!r:.80}. {shape}")
    found: dict[VersionKey, int] = {}
    for version, phones in counts.items():
        if type(phones) is not int or phones < 0:
            raise CensusError(
                f"{file}: {phones!r:.80} is no number of phones, at {app!r:.80} {version!r:.80}. "
                f"{shape}"
            )
        key = parse_version(version)
        if key is not None:
            found[key] = found.get(key, 0) + phones
    return found
