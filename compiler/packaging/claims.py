"""What a signature says of a package, and whether that fits the package. No I/O, no keys.

    {"app": "2021000000000001", "version": "1.0.0.2",
     "size": 1048576, "sha256": "<64 hex digits>",      of the file as it is installed
     "created": 1790000000,                             Unix seconds
     "clients": {"android": ">=10.2.0"}}                the host apps that can run it; absent: all

Reading is strict: these members and no others, each once and of its type. What is signed shall
have one meaning, here and on every phone.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.packaging.miniapp import is_app_id
from compiler.packaging.strict_json import RepeatedMemberError, single_members
from compiler.plan import Comparison
from compiler.version_range import parse_range, plan_version
from gateway.errors import TidegateError

MOST_PLATFORMS = 64
MOST_INTEGER = 2**53
"""What JSON numbers hold exactly everywhere."""

Ranges = dict[str, tuple[Comparison, ...]]

_REQUIRED = ("app", "version", "size", "sha256", "created")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PLATFORM = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}\Z")
_SHOWN_CHARS = 60


class SignatureError(TidegateError):
    """A signature, or what it says, that cannot be used; the sentence says why."""


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What is known of a package itself: `size` in bytes, `sha256` in hex."""

    app: str
    version: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What was signed: a package's facts, when it was `created` (Unix seconds), and its range."""

    app: str
    version: str
    size: int
    sha256: str
    created: int
    clients: Mapping[str, str] | None = None

    @property
    def ranges(self) -> Ranges | None:
        """The host-app range by platform, case folded; None: every host app."""
        return None if self.clients is None else _ranges(self.clients)

    def to_json(self) -> bytes:
        """Write the claims; the same claims give the same bytes."""
        value: dict[str, Any] = {name: getattr(self, name) for name in _REQUIRED}
        if self.clients is not None:
            value["clients"] = dict(self.clients)
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def read_claims(payload: bytes) -> Claims:
    """Read what was signed. Raises SignatureError with a sentence for whatever is not as above."""
    value = strict_object(payload, "its payload")
    for name in _REQUIRED:
        if name not in value:
            raise SignatureError(f"its payload lacks {name}")
    unknown = sorted(set(value) - {*_REQUIRED, "clients"})
    if unknown:
        raise SignatureError(
            f"its payload has the member {shown(unknown[0])}, which this Tidegate does not know"
        )
    if "clients" in value and not isinstance(value["clients"], dict):
        raise SignatureError("its clients are no ranges by platform")
    claims = Claims(**value)
    check_claims(claims)
    return claims


def check_claims(claims: Claims) -> None:
    """Hold claims to their types and limits. Raises SignatureError."""
    if not isinstance(claims.app, str) or not is_app_id(claims.app):
        raise SignatureError(f"its app, {shown(claims.app)}, is no app id")
    if not isinstance(claims.version, str) or plan_version(claims.version) is None:
        raise SignatureError(f"its version, {shown(claims.version)}, is no version")
    if not isinstance(claims.sha256, str) or not _SHA256.match(claims.sha256):
        raise SignatureError(f"its sha256, {shown(claims.sha256)}, is not 64 of 0-9 a-f")
    for name, number in (("size", claims.size), ("created", claims.created)):
        if type(number) is not int or not 0 <= number <= MOST_INTEGER:
            raise SignatureError(f"its {name}, {shown(number)}, is no whole number from 0 to 2^53")
    if claims.clients is not None:
        _ranges(claims.clients)


def _ranges(clients: Mapping[str, Any]) -> Ranges:
    """Read the host-app range. Raises SignatureError when it has no meaning in a plan."""
    if not 0 < len(clients) <= MOST_PLATFORMS:
        raise SignatureError(f"its clients name {len(clients)} platforms, not 1 to 64")
    found: Ranges = {}
    for platform, text in clients.items():
        comparisons = parse_range(text) if isinstance(text, str) else None
        if not _PLATFORM.match(platform) or platform.casefold() in found:
            raise SignatureError(f"its clients name the platform {shown(platform)} wrongly")
        if not comparisons:
            raise SignatureError(
                f"its clients give {shown(platform)} the range {shown(text)}, which is none; a "
                'range is such as ">=10.2.0 <11"'
            )
        found[platform.casefold()] = comparisons
    return found


def difference(claims: Claims, package: PackageFacts) -> str | None:
    """Say in what the claims are not about this package; None when they are.

    Versions are compared as versions, `1.0` equals `1.0.0.0`; `clients` is not looked at.
    """
    if claims.app != package.app:
        return f"it is for app {claims.app}, not {package.app}"
    if plan_version(claims.version) != plan_version(package.version):
        return f"it is for version {claims.version}, not {package.version}"
    if claims.size != package.size:
        return f"it is for a file of {claims.size:,} bytes, and this one has {package.size:,}"
    if claims.sha256 != package.sha256:
        return f"it is for other bytes (SHA-256 {claims.sha256[:8]}…, not {package.sha256[:8]}…)"
    return None


def strict_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object: UTF-8, no member twice, no fractions, no NaN. Raises SignatureError."""
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=single_members,
            parse_constant=_refuse_number,
            parse_float=_refuse_number,
        )
    except (ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, _NumberError | RepeatedMemberError) else ""
        raise SignatureError(f"{what} is no JSON that can be read strictly{why}") from error
    if not isinstance(value, dict):
        raise SignatureError(f"{what} is no JSON object")
    return value


class _NumberError(ValueError):
    """A number that JSON's grammar allows, and no claim has."""


def _refuse_number(text: str) -> None:
    raise _NumberError(f"{text:.20} is no whole number")


def shown(value: object) -> str:
    """Show a value of a token in a sentence: short, and without control characters."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
