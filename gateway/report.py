"""Bytes of `POST /v1/report` to what is counted of it. Pure.

A phone once shipped stays shipped: unknown members are ignored, and a report that is wrong, or
names what the served epoch does not have, is passed over by itself. Only these break the whole
(RequestError): a body over BODY_BYTES, no JSON, no object, no `reports` array, over MAX_REPORTS of
them, an id over MAX_ID_BYTES.

Of a report counts the triple of app, release and event. `version`, `from` and `reason` are for
people who read requests, and are not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway import layout
from gateway.apps import Apps
from gateway.errors import RequestError
from gateway.hashing import id_hash, id_seed
from gateway.request import kind, read_id, read_object

MAX_REPORTS = 100
EVENTS = ("downloaded", "installed", "failed", "rolled_back")


class Place(NamedTuple):
    """What is counted: something happened with what a release of an app offered."""

    app: str
    release: str
    event: str


@dataclass(frozen=True, slots=True)
class Reports:
    """One request: whose, what happened, and how many reports were sent, sound ones or not."""

    ids: Mapping[str, str | None]
    dry_run: bool
    sound: tuple[Place, ...]
    sent: int


def read_reports(body: bytes, *, packed: bool) -> Reports:
    """Read a body: MessagePack if `packed`, else JSON. Raises RequestError."""
    sent = read_object(body, packed)
    if "reports" not in sent:
        raise RequestError(400, "The body has no member `reports`: an array of what happened.")
    reports = sent["reports"]
    if type(reports) is not list:
        raise RequestError(
            400, f"`reports` must be an array of what happened, not {kind(reports)}."
        )
    if len(reports) > MAX_REPORTS:
        raise RequestError(
            400, f"`reports` has {len(reports):,} members; at most {MAX_REPORTS} are read."
        )
    return Reports(
        ids={name: read_id(sent, name) for name in ("device", "user")},
        dry_run=sent.get("dry_run") is True,
        sound=tuple(place for each in reports if (place := _place(each)) is not None),
        sent=len(reports),
    )


def known(reports: Reports, apps: Apps) -> list[Place]:
    """Give what is about releases that the plan has; an app that it lacks costs one look-up.

    A release counts also when it is paused or ended, or its package withdrawn: what goes wrong with
    it is told after that, too.
    """
    found = []
    for place in reports.sound:
        entry = apps[place.app]
        if entry is not None and place.release in entry.program.known_releases:
            found.append(place)
    return found


def subject(reports: Reports, settings: layout.Settings) -> int | None:
    """Hash the device's id, else the user's; None without one that is no placeholder."""
    for name, text in reports.ids.items():
        if text is not None and text.casefold() not in settings["placeholders"]:
            return id_hash(text, id_seed(settings["workspace"], name))
    return None


def _place(report: Any) -> Place | None:
    if type(report) is not dict:
        return None
    app, release, event = report.get("app"), report.get("release"), report.get("event")
    if type(app) is not str or type(release) is not str or event not in EVENTS:
        return None
    return Place(app, release, event)
