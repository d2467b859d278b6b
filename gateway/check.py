"""An update check as the client sent it: read, but not yet judged."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One request. What the values mean is the tables' matter: an odd value is no error here.

    `sent` is the whole object, so that an attribute costs one look-up; `custom` its member of
    that name, or empty; `apps` maps app ids to the installed version as sent. An id that was not
    sent, is empty, or is no text, is None.
    """

    sent: dict[str, Any]
    custom: dict[str, Any]
    user: str | None
    device: str | None
    apps: dict[str, Any]
    dry_run: bool = False
