"""The time windows of a plan, as its tree names them, and the lists that frozen ones become. Pure.

A window belongs to (app, release id) and is called `<app>/<release>`. Frozen, its seats are the
ids of a list of that name behind `window:`, which no list of a plan can have.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler.plan import App, Release
from gateway import layout

if TYPE_CHECKING:  # imported where it is used: who changes one value at once needs no numpy
    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]

SUBJECT, USER = "subject", "user"
"""Whose hashes the seats are: the device id's or else the user id's; or the user id's alone."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """The seats of a window that seats nobody else: sorted big-endian 64-bit hashes."""

    seats: bytes

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.seats) // 8

    @property
    def hashes(self) -> "Hashes":
        """The seats as numbers."""
        import numpy as np  # noqa: PLC0415

        return np.frombuffer(self.seats, ">u8").astype(np.uint64)


def freeze(hashes: "Hashes") -> Frozen:
    """Make the frozen form of seats in any order; `hashes` are sorted in place."""
    import numpy as np  # noqa: PLC0415

    # np.unique does the same, but no other thread runs meanwhile: of ten million seats 5 s.
    hashes.sort()
    once = np.ones(len(hashes), np.bool_)
    once[1:] = hashes[1:] != hashes[:-1]
    return Frozen(hashes[once].astype(">u8").tobytes())


def window_name(app: str, release: str) -> str:
    """Name a window."""
    return f"{app}/{release}"


def split_name(window: str) -> tuple[str, str]:
    """Give the app and the release that a window's name names."""
    app, _, release = window.partition("/")
    return app, release


def list_name(window: str) -> str:
    """Name the list that a frozen window is."""
    return f"window:{window}"


def kind_of(window: layout.Window) -> str:
    """Say whose hashes its seats are."""
    return USER if window["by_user"] else SUBJECT


def windows_of(apps: Iterable[App]) -> dict[str, layout.Window]:
    """Give every window of these apps, all of them open."""
    return {
        window_name(app.id, release.id): _window(release)
        for app in apps
        for release in app.releases
        if release.audience.window is not None
    }


def _window(release: Release) -> layout.Window:
    window = release.audience.window
    assert window is not None
    return {
        "first": window.first,
        "until": window.until,
        "starts": release.starts if window.linear else None,
        "by_user": release.audience.by_user,
        "state": release.state.value,
        "seats": b"",
        "count": 0,
    }


def frozen_of(windows: Mapping[str, layout.Window]) -> dict[str, layout.Window]:
    """Give those that are frozen."""
    return {name: each for name, each in windows.items() if each["seats"]}


def frozen_releases(windows: Mapping[str, layout.Window], app: str) -> frozenset[str]:
    """Name the releases of an app whose windows are frozen."""
    names = map(split_name, frozen_of(windows))
    return frozenset(release for its, release in names if its == app)
