"""The scalars of a plan: names, versions, percentages, times, ranges, URLs, expressions.

Each is a source text to which the schema gives its type: `1.10` is a version here and a number
nowhere. A word's JSON Schema is wider than its parser where editors read YAML's own types.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import re2

from compiler.language.faults import listed, nearest, quote
from compiler.language.shapes import RefusalError, Schema, Word
from compiler.plan import Comparison
from compiler.version_range import parse_range, plan_version
from gateway.attribute import VALUE_CHARS
from gateway.version import PLAN_PARTS, VersionKey

ANY_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_name(text: str) -> bool:
    """Tell whether this may be an id or name: 1 to 64 of [A-Za-z0-9._-], not dots alone."""
    return _NAME.match(text) is not None and text.strip(".") != ""


def _name(text: str) -> str:
    if not is_name(text):
        raise RefusalError(
            f"{quote(text)} is no name here. Write 1 to 64 letters, digits, dots, underscores or "
            "hyphens (A-Z a-z 0-9 . _ -), not dots alone."
        )
    return text


def name_word(what: str) -> Word[str]:
    """Make the word for a name or id: 1 to 64 of [A-Za-z0-9._-], not dots alone."""
    return Word(what, _name, {"type": ["string", "integer"], "pattern": "^[A-Za-z0-9._-]{1,64}$"})


def _text(text: str) -> str:
    if not text:
        raise RefusalError("An empty text says nothing here. Write a value, or delete it.")
    if _CONTROL.search(text):
        raise RefusalError(f"{quote(text)} has control characters. Delete them.")
    return text


TEXT = Word("a text", _text, ANY_SCALAR)


def _operand(text: str) -> str:
    if not text:
        raise RefusalError("An empty value counts as not sent, so nothing equals it. Delete it.")
    if len(text) > VALUE_CHARS:
        raise RefusalError(
            f"This value has {len(text)} characters; what a client sends beyond {VALUE_CHARS} "
            "counts as not sent. Shorten it."
        )
    return _text(text)


OPERAND = Word("a value", _operand, ANY_SCALAR)
PATTERN = Word("a pattern with * and ?", _operand, ANY_SCALAR)


def _platform(text: str) -> str:
    return _operand(text).casefold()


PLATFORM = Word("a platform such as android", _platform, ANY_SCALAR)


@lru_cache(maxsize=65_536)
def version_key(text: str) -> VersionKey | None:
    """Give a plan's version as its key, or None when the text is no version of a plan."""
    return plan_version(text)


def _version(text: str) -> str:
    if version_key(text) is None:
        raise RefusalError(
            f"{quote(text)} is no version. Write 1 to {PLAN_PARTS} dotted numbers, such as 1.0.0.2 "
            "or 2.1.0-beta.1."
        )
    return text


VERSION = Word("a version such as 1.0.0.2", _version, {"type": ["string", "number"]})


def _range(text: str) -> tuple[Comparison, ...]:
    found = parse_range(text)
    if found is None:
        raise RefusalError(
            f"{quote(text.rstrip())} is no range of versions. Write comparisons with >=, >, <, <= "
            'or = that must all hold, such as ">=10.2.0 <11".'
        )
    if not found:
        raise RefusalError('This range is empty. Write ">=0" for every version.')
    return found


RANGE = Word('a range such as ">=10.2.0 <11"', _range, {"type": "string"})

_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?\Z")


def _percent(text: str) -> int:
    if not _PERCENT.match(text) or Decimal(text) > 100:
        shorter = text.removesuffix("%").strip()
        mend = "Write a number from 0 to 100 with at most two decimals, such as 12.5."
        if shorter != text and _PERCENT.match(shorter):
            mend = f"Write {shorter} without the percent sign."
        raise RefusalError(f"{quote(text)} is no percentage. {mend}")
    return int(Decimal(text) * 100)


PERCENT = Word(
    "a number from 0 to 100",
    _percent,
    {"type": ["number", "string"], "minimum": 0, "maximum": 100},
    other_shape="Write a number from 0 to 100, or a list of steps such as "
    "[{at: 2026-11-23T09:00:00+08:00, percent: 1}].",
)


def integer_word(low: int, high: int, what: str) -> Word[int]:
    """Make the word for a whole number within the limits, both included."""

    def parse(text: str) -> int:
        digits = re.fullmatch(r"0*([0-9]{1,18})", text, re.ASCII)
        if digits is None or not low <= int(digits[1]) <= high:
            raise RefusalError(f"{quote(text)} is not {what}. Write one in digits alone.")
        return int(digits[1])

    return Word(what, parse, {"type": ["integer", "string"], "minimum": low, "maximum": high})


_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?)?(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-5][0-9])?\Z"
)
_TIME_EXAMPLE = "Write a time such as 2026-11-29T00:00:00+08:00."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _time(text: str) -> int:
    found = _TIME.match(text)
    if found is None:
        raise RefusalError(f"{quote(text)} is no time. {_TIME_EXAMPLE}")
    day, minutes, seconds, fraction, offset = found.groups()
    clock = f"{day}T{minutes or '00:00'}{seconds or ':00'}"
    if offset is None:
        raise RefusalError(
            f"{quote(text)} does not say in which time zone. Write the offset: {clock}+08:00 "
            f"for China, or {clock}Z for UTC."
        )
    if fraction or not minutes or not seconds:
        raise RefusalError(f"{quote(text)} is not a whole second. Write {clock}{offset}.")
    try:
        moment = datetime.fromisoformat(clock + offset.upper())
    except ValueError:
        raise RefusalError(f"{quote(text)} is no time that exists. {_TIME_EXAMPLE}") from None
    return (moment - _EPOCH) // timedelta(seconds=1)


TIME = Word("a time such as 2026-11-29T00:00:00+08:00", _time, {"type": "string"})


def choice(*names: str) -> Word[str]:
    """Make the word for one of a few names."""

    def parse(text: str) -> str:
        if text in names:
            return text
        mend = nearest(text, names)
        wish = f"Write {mend}." if mend else f"Write {listed(names)}."
        raise RefusalError(f"{quote(text)} is not known here. {wish}")

    return Word(listed(names), parse, {"enum": list(names)})


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise RefusalError(f"{quote(text)} is neither true nor false. Write true or false.")
    return text == "true"


TRUTH = Word("true or false", _truth, {"enum": [True, False, "true", "false"]})

_URL_CHARS = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+\Z")


def _base(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise RefusalError(f"{quote(text)} is no URL. Write one such as https://cdn.example.com.")
    if not _URL_CHARS.match(text):
        raise RefusalError(f"{quote(text)} has characters that no URL has. Percent-encode them.")
    if "?" in text or "#" in text or "@" in parts.netloc:
        raise RefusalError(
            f"{quote(text)} has a query, a fragment or a user name; a package's path is added at "
            "the end. Write scheme, host and path only."
        )
    base = text.rstrip("/")
    if {"", ".", ".."} & set(unquote(urlsplit(base).path).split("/")[1:]):
        raise RefusalError(
            f"{quote(text)} has an empty part, . or .. in its path, which a CDN reads as another "
            "path. Write it without."
        )
    return base


BASE = Word("a URL such as https://cdn.example.com", _base, {"type": "string", "format": "uri"})


def _origin(text: str) -> str:
    if text == "*":
        return text
    base = _base(text)
    if urlsplit(base).path or text != base:
        raise RefusalError(f"{quote(text)} is no origin. Write scheme and host only, or *.")
    return text


ORIGIN = Word("an origin such as https://example.com", _origin, {"type": "string"})


def _expression(text: str) -> str:
    if not text:
        raise RefusalError("An empty expression is found in every id. Write what ids must hold.")
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as fault:
        said = fault.args[0]
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        if re.search(r"\\[1-9]|\(\?(?:=|!|<=|<!|>|P=)", text):
            raise RefusalError(
                f"{quote(text)} needs more than linear time ({reason}). Write it without "
                "look-ahead, look-behind, back-references and atomic groups."
            ) from None
        raise RefusalError(
            f"{quote(text)} is no regular expression of RE2 ({reason}). Correct it; RE2's syntax "
            "holds."
        ) from None
    return text


EXPRESSION = Word("a regular expression in single quotes", _expression, {"type": "string"})


def _list_path(text: str) -> str:
    _text(text)
    parts = text.split("/")
    if "\\" in text or ":" in parts[0] or not all(parts) or {".", ".."} & set(parts):
        raise RefusalError(
            f"{quote(text)} is no path inside the plan's folder. Write one such as "
            "lists/staff.csv, with / and without a leading one."
        )
    return text


LIST_PATH = Word("a path such as lists/staff.csv", _list_path, {"type": "string"})

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def _sha256(text: str) -> str:
    if not _SHA256.match(text):
        raise RefusalError(
            f"{quote(text)} is no SHA-256 (64 of 0-9 a-f). Run `tidegate upload` again."
        )
    return text


SHA256 = Word("a SHA-256 in hexadecimal", _sha256, {"type": "string"})
