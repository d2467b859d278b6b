"""Ranges of versions as text: comparisons that must all hold, such as `>=10.2.0 <11`.

A plan, a record and a signature write host-app ranges in this one way.
"""

import re
from functools import lru_cache

from compiler.plan import Comparison
from gateway.version import PLAN_PARTS, VersionKey, parse_version

MOST_VERSION_CHARS = 100

_COMPARISON = re.compile(r"\s*(>=|<=|>|<|=)\s*([^\s<>=,]+)(?=[\s<>=]|\Z)")


def plan_version(text: str) -> VersionKey | None:
    """Give a version as a plan may write it as its key; None when it is none."""
    return parse_version(text, PLAN_PARTS) if len(text) <= MOST_VERSION_CHARS else None


@lru_cache(maxsize=4096)
def parse_range(text: str) -> tuple[Comparison, ...] | None:
    """Read a range; () when nothing stands there, None when it is no range."""
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        part = _COMPARISON.match(text, at)
        if part is None or plan_version(part[2]) is None:
            return None
        found.append(Comparison(part[1], part[2]))
        at = part.end()
    return tuple(found)
