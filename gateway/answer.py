"""Answers as ready-made bytes: what is said of one app, in JSON and in MessagePack.

An answer depends on the release that won, on how the installed version relates to it, on the CDN of
the client's region, and on what the client can open; it is rendered at its first use and kept.
"""

from enum import StrEnum
from typing import Any

import msgpack
import orjson

from gateway import layout
from gateway.version import VersionKey

Outcome = tuple[str, str, str]
"""What is counted of an answer: app, release id or "", status. A stranger's app is ""."""


IDENTITY = "identity"
"""The form of a package that is installed as it is downloaded; every package has it."""

_OPENED = {"gzip": 1, "zstd": 2}
"""The bits of what a client may name in `accept`; any client opens the identity form."""

UNSAID = _OPENED["gzip"]
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


class Answer:
    """One app's part of a response, in both notations, with what is counted of it."""

    __slots__ = ("json", "msgpack", "outcome")

    def __init__(self, content: dict[str, Any], outcome: Outcome) -> None:
        # A copy, as what orjson gives holds on to the 4 KiB that it was written in.
        self.json: bytes = memoryview(orjson.dumps(content)).tobytes()
        info = content.get("info")
        if isinstance(info, orjson.Fragment):
            content = content | {"info": orjson.loads(orjson.dumps(info))}
        self.msgpack: bytes = msgpack.packb(content)
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


def render(
    app: str,
    status: Status,
    forced: bool,
    release: layout.ReleaseEntry | None,
    package: layout.PackageEntry | None,
    bases: list[str],
    opened: int,
) -> Answer:
    """Render the answer for one app. A release and its package come together or not at all.

    Offered is the package's smallest form among those that the client opens, as `accepted` says.
    """
    if status not in (Status.UPDATE, Status.ROLLBACK):
        outcome = (app, release["id"] if release else "", status.value)
        return Answer({"app": app, "status": status.value}, outcome)
    assert release is not None
    assert package is not None
    content: dict[str, Any] = {
        "app": app,
        "status": status.value,
        "version": package["version"],
        "release": release["id"],
        "upgrade": "force" if forced else release["upgrade"],
        "download": package["download"],
        "install": package["install"],
    }
    if package["info"] is not None:
        content["info"] = orjson.Fragment(package["info"])
    form = min(
        (form for form in package["forms"] if _is_opened(form, opened)),
        key=lambda form: (form["size"], form["compression"]),
    )
    content["package"] = {
        "size": package["size"],
        "sha256": package["sha256"],
        "urls": [f"{base}/{form['path']}" for base in bases],
    }
    if form["compression"] != IDENTITY:
        content["package"] |= {
            "compression": form["compression"],
            "transfer_size": form["size"],
            "transfer_sha256": form["sha256"],
        }
    if package["signatures"]:
        content["signatures"] = package["signatures"]
    return Answer(content, (app, release["id"], status.value))


def _is_opened(form: layout.FormEntry, opened: int) -> bool:
    compression = form["compression"]
    return compression == IDENTITY or _OPENED.get(compression, 0) & opened != 0


UNKNOWN: Outcome = ("", "", Status.UNKNOWN.value)
INVALID: Outcome = ("", "", Status.INVALID.value)


def refusal(app: str, detail: str | None, *, packed: bool) -> bytes:
    """Answer for an app that is unknown (no detail) or whose part of the request is wrong.

    The text of `app` is the client's: it is echoed, but neither counted nor kept.
    """
    if detail is None:
        content = {"app": app, "status": Status.UNKNOWN.value}
    else:
        content = {"app": app, "status": Status.INVALID.value, "detail": detail}
    return msgpack.packb(content) if packed else orjson.dumps(content)
