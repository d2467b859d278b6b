"""Progress: what long work tells of itself to whoever shows it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and how much there is (0: nobody knows)."""


def quiet(what: str, done: int, total: int) -> None:
    """Tell nobody of progress."""
