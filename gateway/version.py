"""Version text to a key whose order is the versions' order.

A version is one to eight dotted numbers of up to 18 digits each, then perhaps `-prerelease` and
`+build` (Semantic Versioning 2.0.0, clauses 9 to 11, with more numbers). Leading zeros and the
build are ignored, absent numbers count as zero: `1.0` equals `1.0.0.0+b7`. A plan may write four.
"""

import re

VersionKey = tuple[object, ...]

CLIENT_PARTS = 8
VERSION_CHARS = 256
"""A longer text is no version; so the numbers of a prerelease stay small enough for int()."""

PLAN_PARTS = 4

# [0-9] and not \d: other scripts have digits too. \Z and not $: $ forgives a trailing newline.
_VERSION = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{1,18}){0,7})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


def parse_version(text: str, parts: int = CLIENT_PARTS) -> VersionKey | None:
    """Give the key of a version, or None when the text is none or has more than `parts` numbers.

    Keys of any two versions compare: eight integers, then 1 for a release, or 0 and the
    prerelease's identifiers, where numbers come before words (SemVer clause 11.4).
    """
    found = _VERSION.match(text) if len(text) <= VERSION_CHARS else None
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    if len(numbers) > parts:
        return None
    numbers += [0] * (CLIENT_PARTS - len(numbers))
    if found[2] is None:
        return (*numbers, 1)
    identifiers = [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in found[2].split(".")
    ]
    return (*numbers, 0, *identifiers)
