"""The order of versions, as a gateway has it: `1.0` equals `1.0.0.0`, `1.2-rc.1` is below `1.2`."""

import re

VERSION_CHARS = 256
"""A longer text is no version."""

_PARTS = 8
_VERSION = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{1,18}){0,7})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


def same_version(one: str, other: str) -> bool:
    """Tell whether two texts are one version; texts that are no versions only equal themselves."""
    key = _key(one)
    return one == other if key is None else key == _key(other)


def is_lower(one: str, other: str) -> bool:
    """Tell whether a version is below another; what is none is below all that are one."""
    key, above = _key(one), _key(other)
    return above is not None and (key is None or key < above)


def _key(text: str) -> tuple[object, ...] | None:
    """Give what orders a version: its numbers, then 1, or 0 and its prerelease; None for none."""
    found = _VERSION.match(text) if len(text) <= VERSION_CHARS else None
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    numbers += [0] * (_PARTS - len(numbers))
    if found[2] is None:
        return (*numbers, 1)
    # Semantic Versioning 11.4: numbers as numbers, and before words.
    words = found[2].split(".")
    return (*numbers, 0, *((0, int(w), "") if w.isdigit() else (1, 0, w) for w in words))
