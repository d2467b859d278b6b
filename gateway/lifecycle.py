"""What the gateway serves, as a table of (state, event) to state; other pairs are a bug."""

from enum import StrEnum


class State(StrEnum):
    """What is served now."""

    EMPTY = "empty"  # nothing: checks get 503
    LIVE = "live"  # the epoch that Redis names
    KEPT = "kept"  # the last good epoch, while Redis is away or names none that may be served


class Event(StrEnum):
    """What happened."""

    FOLLOWED = "followed"  # the epoch that Redis names was taken, or is the one served
    RESTORED = "restored"  # an epoch was taken from the disk or the store
    LOST = "lost"  # Redis is away, names no epoch, or names one that must not be served


TABLE = {
    (State.EMPTY, Event.FOLLOWED): State.LIVE,
    (State.EMPTY, Event.RESTORED): State.KEPT,
    (State.EMPTY, Event.LOST): State.EMPTY,
    (State.LIVE, Event.FOLLOWED): State.LIVE,
    (State.LIVE, Event.LOST): State.KEPT,
    (State.KEPT, Event.FOLLOWED): State.LIVE,
    (State.KEPT, Event.LOST): State.KEPT,
}
