"""The answer to a check, read: what a gateway says of each app. No I/O.

Members and statuses that are not known are passed over, and what is wrong in one app is wrong
for that app alone: the phone in somebody's pocket meets gateways that are years younger.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.client.fault import UnusableError
from loadtest.client.version import VERSION_CHARS

IDENTITY, GZIP, ZSTD = "identity", "gzip", "zstd"
BSDIFF4, ZSTD_PATCH = "bsdiff4", "zstd-patch"
AGE = "age"
OFFERS = ("update", "rollback")
"""The statuses that bring a package."""

_MOST_CHECK_AFTER = 2 * 86_400
_MOST_URLS = 16
_MOST_LEVELS = 64
_MOST_CHARS = 8192
_MOST_DETAIL = 200  # characters of a text that is for people
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes that lead to a package: `size` and `sha256` are those of the bytes at the `urls`.

    `form` says what is done with them: identity (they are the file), gzip, zstd, or the patch
    bsdiff4, zstd-patch to the version `base`. `encrypted`: they are an age file around that.
    """

    urls: tuple[str, ...]
    size: int
    sha256: str
    form: str
    encrypted: bool = False
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A package that a client shall have: `size` and `sha256` are of the installed file.

    `downloads` in the order to try them: the patch, if there is one, then the full package.
    """

    version: str
    release: str
    size: int
    sha256: str
    downloads: tuple[Download, ...]
    signatures: tuple[str, ...] = ()
    wifi_only: bool = False
    info: Any = None


@dataclass(frozen=True, slots=True)
class AppAnswer:
    """What the gateway says of one app; `detail` says what is wrong where something is.

    An update or rollback without an `offer` is one that could not be read. `forced`: what is
    installed is not to be used any more.
    """

    status: str
    offer: Offer | None = None
    detail: str = ""
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer: seconds until the next check, and what is said of each app."""

    check_after: int
    apps: Mapping[str, AppAnswer] = field(default_factory=dict)


def read_answer(body: bytes) -> Answer:
    """Read an answer. Raises UnusableError for what is not a gateway's JSON."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnusableError("what came is no JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("apps"), list):
        raise UnusableError("the JSON that came is no gateway's answer: it has no apps")
    check_after = _count(value, "check_after")
    apps: dict[str, AppAnswer] = {}
    for entry in value["apps"]:
        if isinstance(entry, dict) and isinstance(entry.get("app"), str):
            apps.setdefault(entry["app"], _read_app(entry))
    return Answer(min(check_after, _MOST_CHECK_AFTER), apps)


def _read_app(entry: dict[str, Any]) -> AppAnswer:
    status = entry.get("status")
    if not isinstance(status, str):
        return AppAnswer("", detail="the answer has no status")
    if status not in OFFERS:
        detail = entry.get("detail")
        return AppAnswer(status, detail=shown(detail) if isinstance(detail, str) else "")
    forced = entry.get("upgrade") == "force"
    try:
        return AppAnswer(status, _read_offer(entry), forced=forced)
    except UnusableError as error:
        return AppAnswer(status, detail=str(error), forced=forced)


def shown(text: str, most: int = _MOST_DETAIL) -> str:
    """Give a text as it may reach a terminal: cut, and nothing in it but what can be printed."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(char if char.isprintable() else "?" for char in cut)


def _read_offer(entry: dict[str, Any]) -> Offer:
    package, version = entry.get("package"), _text(entry, "version")
    if len(version) > VERSION_CHARS:
        raise UnusableError("its version is too long")
    if not isinstance(package, dict):
        raise UnusableError("the answer has no package")
    size, sha256 = _digest(package, "size", "sha256")
    encrypted = "encryption" in entry
    if encrypted and _member(entry["encryption"], "format") != AGE:
        raise UnusableError("it is encrypted in a way that this client does not know")
    full = _read_full(package, size, sha256, encrypted)
    patch = _read_patch(entry.get("patch"), encrypted)
    signatures = entry.get("signatures")
    return Offer(
        version=version,
        release=_text(entry, "release"),
        size=size,
        sha256=sha256,
        downloads=(full,) if patch is None else (patch, full),
        signatures=tuple(filter(_is_text, signatures)) if isinstance(signatures, list) else (),
        wifi_only=entry.get("download") == "wifi",
        info=_shallow(entry.get("info")),
    )


def _shallow(value: Any, levels: int = _MOST_LEVELS) -> Any:
    """Give a value that can be written as JSON again, from any depth of calls."""
    if not levels:
        raise UnusableError("its info is nested too deeply")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _shallow(inner, levels - 1)
    return value


def _read_full(package: dict[str, Any], size: int, sha256: str, encrypted: bool) -> Download:
    form = package.get("compression", IDENTITY)
    if not _is_text(form):
        raise UnusableError("the package's compression is no text")
    if "transfer_size" in package or encrypted or form != IDENTITY:
        size, sha256 = _digest(package, "transfer_size", "transfer_sha256")
    return Download(_urls(package), size, sha256, form, encrypted)


def _read_patch(patch: Any, encrypted: bool) -> Download | None:
    """Read a patch; one that is not as it should be is as good as none."""
    if not isinstance(patch, dict):
        return None
    try:
        size, sha256 = _digest(patch, "transfer_size", "transfer_sha256")
        base, form = _text(patch, "from"), _text(patch, "format")
        return Download(_urls(patch), size, sha256, form, encrypted, base)
    except UnusableError:
        return None


def _digest(value: dict[str, Any], size: str, sha256: str) -> tuple[int, str]:
    found, digest = _count(value, size), value.get(sha256)
    if not isinstance(digest, str) or not _SHA256.match(digest):
        raise UnusableError(f"its {sha256} is not 64 of 0-9 a-f")
    return found, digest


def _urls(value: dict[str, Any]) -> tuple[str, ...]:
    urls = value.get("urls")
    found = [
        url
        for url in (urls if isinstance(urls, list) else [])
        if _is_text(url) and url.lower().startswith(("http://", "https://"))
    ]
    if not found:
        raise UnusableError("it has no http or https URL")
    return tuple(found[:_MOST_URLS])


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if not _is_text(found):
        raise UnusableError(f"its {name} is no text")
    return str(found)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MOST_CHARS and value.isprintable()


def _count(value: dict[str, Any], name: str) -> int:
    found = value.get(name)
    if type(found) is not int or not 0 <= found < 1 << 53:
        raise UnusableError(f"its {name} is no whole number")
    return found
