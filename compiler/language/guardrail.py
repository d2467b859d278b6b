"""`halt` in a release: when it is paused by itself, as `{failures: 2%, min_reports: 200, …}`."""

import re
from decimal import Decimal

from compiler.language.faults import Faults, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import RefusalError, Word
from compiler.language.words import integer_word
from compiler.plan import Halt

MOST_REPORTS = 1_000_000
"""Gateways know of 2 million subjects a day that a release was offered to them (guarding.py)."""

MOST_MINUTES = 1_440

_SHARE = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,2})?)( ?%)?\Z")
_PERIOD = re.compile(r"0*([0-9]{1,6}) ?([mh])\Z")


def _share(text: str) -> int:
    found = _SHARE.match(text)
    if found is None:
        raise RefusalError(
            f"{quote(text)} is no share of failures. Write a percentage below 100 with at most two "
            "decimals, such as 2%."
        )
    if found[2] is None:
        raise RefusalError(f"{quote(text)} may be a share or a count. Write {found[1]}%.")
    return int(Decimal(found[1]) * 100)


def _period(text: str) -> int:
    found = _PERIOD.match(text)
    minutes = int(found[1]) * (60 if found[2] == "h" else 1) if found else 0
    if not 1 <= minutes <= MOST_MINUTES:
        raise RefusalError(
            f"{quote(text)} is no period from 1m to 24h. Write minutes or hours, such as 30m."
        )
    return minutes


def _halt(fields: Fields, faults: Faults) -> Halt | None:  # noqa: ARG001
    failures, reports = fields.get("failures"), fields.get("min_reports")
    within = fields.get("within")
    if failures is None or reports is None or within is None:
        return None
    return Halt(failures, reports, within)


HALT = Record(
    "A halt",
    {
        "failures": Key(
            Word("a share such as 2%", _share, {"type": "string"}),
            "More than this share of those that reported failed: the release is paused.",
            "failures: 2%",
        ),
        "min_reports": Key(
            integer_word(1, MOST_REPORTS, f"a whole number from 1 to {MOST_REPORTS}"),
            "Of fewer distinct subjects that reported, nothing is concluded.",
            "min_reports: 200",
        ),
        "within": Key(
            Word("a period such as 30m", _period, {"type": "string"}),
            "How far back reports count, in minutes or hours: 1m to 24h.",
            "within: 30m",
        ),
    },
    _halt,
)
