"""How a round ended, for each app."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a round ended for an app."""

    INSTALLED = "installed"
    ROLLED_BACK = "rolled_back"
    LATEST = "latest"
    NONE = "none"
    """No release is for this phone: what is installed stays."""
    WITHDRAWN = "withdrawn"
    """What is installed must not be opened any more; it stays on the disk."""
    WAITING = "waiting"
    """There is an update, to be fetched over Wi-Fi only."""
    FAILED = "failed"
    """There is an update, and it could not be had; what is installed stays."""
    UNKNOWN = "unknown"
    INVALID = "invalid"
    IGNORED = "ignored"
    """A status that this client does not know."""
    UNANSWERED = "unanswered"
    """The gateway gave no good answer; the next check is put off."""
    BUSY = "busy"
    """Another client is at work in this folder; nothing was done."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a round did for an app: `version` is the one installed now, None for none.

    `detail` is a sentence's worth of why and how, without a full stop; it may be empty.
    """

    app: str
    outcome: Outcome
    version: str | None
    detail: str = ""
