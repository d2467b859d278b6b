"""Numbers as one types them: 200e6, 200M, 1.5MB, 2 %."""

import argparse
import math
import re

_NUMBER = re.compile(r"(\d+(?:\.\d*)?(?:e\d+)?)\s*([kKMG]?)(B?)", re.ASCII)
_TIMES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


def amount(text: str) -> float:
    """Read a number of 0 or more, with k, M, G or kB, MB, GB behind it if you like."""
    found = _NUMBER.fullmatch(text.replace(",", "").replace("_", "").strip())
    number = float(found[1]) * _TIMES[found[2]] if found else math.inf
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 200e6, 200M or 1.5MB")
    return number


def above_zero(text: str) -> float:
    """Read a number above 0."""
    number = amount(text)
    if not number:
        raise argparse.ArgumentTypeError("it must be above 0")
    return number


def count(text: str) -> int:
    """Read a whole number from 1 on."""
    number = amount(text)
    if number < 1 or number % 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(number)


def share(text: str) -> float:
    """Read a share: 2% or 0.02."""
    number = amount(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 2% or 0.02")
    return number


def share_above_zero(text: str) -> float:
    """Read a share above 0."""
    number = share(text)
    if not number:
        raise argparse.ArgumentTypeError("it must be above 0")
    return number
