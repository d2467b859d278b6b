"""An update check as the client sent it: read, but not yet judged."""

from typing import Any


class Check:
    """One request. What the values mean is the tables' matter: an odd value is no error here.

    `sent` is the whole object, so that an attribute costs one look-up; `custom` its member of
    that name, or empty; `apps` maps app ids to the installed version as sent. An id that was not
    sent, is empty, or is no text, is None.
    """

    __slots__ = (
        "apps",
        "custom",
        "device",
        "device_hash",
        "dry_run",
        "fingerprint",
        "sent",
        "switches",
        "user",
        "user_hash",
    )

    sent: dict[str, Any]
    custom: dict[str, Any]
    user: str | None
    device: str | None
    apps: dict[str, Any]
    dry_run: bool
    switches: bool  # whether their values are asked for
    fingerprint: str  # of the bytes that asked for switches alone (ofrep.py), else empty
    # The keyed hashes of the ids, None for no id; the snapshot's probes() sets them, as its
    # answer() needs them again.
    user_hash: int | None
    device_hash: int | None
