"""Answers as ready-made bytes: what is said of one app, in JSON and in MessagePack.

An answer depends on the release that won, on how the installed version relates to it, on the CDN
of the client's region, and on what the client can open; it is rendered at its first use and kept.
Where the CDN wants signed URLs, it is rendered anew for each of their periods.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgpack
import orjson

from gateway import layout
from gateway.version import VersionKey, parse_version

Outcome = tuple[str, str, str, str]
"""What is counted of an answer: app, release id or "", status, installed version.

A stranger's app is "". The version is as the plan writes it, "" for none, OTHER for a stranger's.
"""

OTHER = "other"

IDENTITY = "identity"
"""The form of a package that is installed as it is downloaded; every package has it."""

_OPENED = {"gzip": 1, "zstd": 2, "bsdiff4": 4, "zstd-patch": 8}
"""The bits of what a client may name in `accept`; any client opens the identity form."""

UNSAID = _OPENED["gzip"] | _OPENED["bsdiff4"]
"""What a client opens that does not say."""


def accepted(names: Any) -> int:
    """Read `accept` to bits. Unknown names are ignored; what is no list counts as not sent."""
    if type(names) is not list:
        return UNSAID
    bits = 0
    for name in names:
        if type(name) is str:
            bits |= _OPENED.get(name, 0)
    return bits


class Status(StrEnum):
    """What the client is told of one app."""

    UPDATE = "update"
    LATEST = "latest"
    ROLLBACK = "rollback"
    WITHDRAWN = "withdrawn"
    NONE = "none"
    UNKNOWN = "unknown"
    INVALID = "invalid"


OFFERS = frozenset((Status.UPDATE.value, Status.ROLLBACK.value))
"""The statuses that offer a release."""


class Answer:
    """One app's part of a response, in both notations, with what is counted of it."""

    __slots__ = ("json", "msgpack", "outcome")

    def __init__(self, json: bytes, msgpack: bytes, outcome: Outcome) -> None:
        self.json = json
        self.msgpack = msgpack
        self.outcome = outcome


def status_of(
    installed: VersionKey | None, target: VersionKey | None, withdrawn: frozenset[VersionKey]
) -> tuple[Status, bool]:
    """Choose the status, and whether the upgrade is forced by a withdrawal.

    The first row that fits, from the top ("Which answer"): so nobody is downgraded unless
    what they have was withdrawn.
    """
    if installed is not None and installed in withdrawn:
        if target is None:
            return Status.WITHDRAWN, True
        return (Status.UPDATE if target > installed else Status.ROLLBACK), True
    if target is None:
        return Status.NONE, False
    if installed is None or installed < target:
        return Status.UPDATE, False
    return Status.LATEST, False


Choice = tuple[int, int | None]
"""Which form of a package an answer names, and which of its patches, if any: by their places."""


def choose(package: layout.PackageEntry, installed: VersionKey | None, opened: int) -> Choice:
    """Choose the smallest form that a client opens, and the smallest patch, if that is smaller.

    `opened` is as `accepted` gives it; a patch is one from what the client has `installed`.
    """
    forms, patches = package["forms"], package["patches"]
    form = min(
        (at for at, each in enumerate(forms) if _is_opened(each, opened)),
        key=lambda at: (forms[at]["size"], forms[at]["compression"]),
    )
    patch = min(
        (
            at
            for at, each in enumerate(patches)
            if _OPENED.get(each["format"], 0) & opened
            and parse_version(each["installed"]) == installed
        ),
        key=lambda at: (patches[at]["size"], patches[at]["format"]),
        default=None,
    )
    if patch is not None and patches[patch]["size"] >= forms[form]["size"]:
        patch = None
    return form, patch


def offer(
    release: layout.ReleaseEntry,
    package: layout.PackageEntry,
    urls: Callable[[str], list[str]],
    chosen: Choice,
    *,
    forced: bool,
) -> dict[str, Any]:
    """Give the members of an answer that offers a release: of an update or a rollback.

    `urls` gives the ordered URLs of a path; `chosen` is what `choose` gave for this package.
    """
    content: dict[str, Any] = {
        "version": package["version"],
        "release": release["id"],
        "upgrade": "force" if forced else release["upgrade"],
        "download": package["download"],
        "install": package["install"],
    }
    if package["info"] is not None:
        content["info"] = orjson.Fragment(package["info"])
    form = package["forms"][chosen[0]]
    content["package"] = {
        "size": package["size"],
        "sha256": package["sha256"],
        "urls": urls(form["path"]),
    }
    if form["compression"] != IDENTITY:
        content["package"]["compression"] = form["compression"]
    if form["compression"] != IDENTITY or package["encryption"] is not None:
        content["package"] |= _transfer(form)
    if chosen[1] is not None:
        patch = package["patches"][chosen[1]]
        content["patch"] = {
            "from": patch["installed"],
            "format": patch["format"],
            "urls": urls(patch["path"]),
            **_transfer(patch),
        }
    if package["encryption"] is not None:
        content["encryption"] = package["encryption"]
    if package["signatures"]:
        content["signatures"] = package["signatures"]
    return content


def render(app: str, status: Status, offered: dict[str, Any]) -> tuple[bytes, bytes]:
    """Write the answer for one app in JSON and in MessagePack; `offered` as `offer` gives it."""
    content = {"app": app, "status": status.value, **offered}
    # A copy, as what orjson gives holds on to the 4 KiB that it was written in.
    json = memoryview(orjson.dumps(content)).tobytes()
    info = content.get("info")
    if isinstance(info, orjson.Fragment):
        content["info"] = orjson.loads(orjson.dumps(info))
    return json, msgpack.packb(content)


def _transfer(form: layout.FormEntry | layout.PatchEntry) -> dict[str, Any]:
    return {"transfer_size": form["size"], "transfer_sha256": form["sha256"]}


def _is_opened(form: layout.FormEntry, opened: int) -> bool:
    compression = form["compression"]
    return compression == IDENTITY or _OPENED.get(compression, 0) & opened != 0


UNKNOWN: Outcome = ("", "", Status.UNKNOWN.value, "")
INVALID: Outcome = ("", "", Status.INVALID.value, "")


def refusal(app: str, detail: str | None, *, packed: bool) -> bytes:
    """Answer for an app that is unknown (no detail) or whose part of the request is wrong.

    The text of `app` is the client's: it is echoed, but neither counted nor kept.
    """
    if detail is None:
        content = {"app": app, "status": Status.UNKNOWN.value}
    else:
        content = {"app": app, "status": Status.INVALID.value, "detail": detail}
    return msgpack.packb(content) if packed else orjson.dumps(content)
