"""When two texts are the same version: `1.0` and `1.0.0.0`, `1.02` and `1.2+b7` are."""

import re

_CHARS = 256
_VERSION = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{1,18}){0,7})(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?\Z"
)


def same_version(one: str, other: str) -> bool:
    """Tell whether two texts are one version; texts that are no versions only equal themselves."""
    return _meaning(one) == _meaning(other)


def _meaning(text: str) -> tuple[object, ...]:
    found = _VERSION.match(text) if len(text) <= _CHARS else None
    if found is None:
        return (text,)
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return (*numbers, found[2])
