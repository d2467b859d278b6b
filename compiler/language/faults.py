"""The collector of diagnostics, and the wording that all of them share.

Reading goes on after a fault, so that one run shows every one of them; whoever finds a fault
tells the collector and carries on with what is left.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from compiler.diagnostic import Diagnostic, error, warning
from compiler.plan import Span

_SHOWN_CHARS = 60


class Faults:
    """What has been found so far; `errors` counts those that stop a push."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self.errors = 0

    def error(self, span: Span, message: str) -> None:
        """Note a fault that stops a push."""
        self.errors += 1
        self.found.append(error(span, message))

    def warning(self, span: Span, message: str) -> None:
        """Note what is legal, but surely not meant."""
        self.found.append(warning(span, message))


def quote(text: str) -> str:
    """Show a piece of the plan in a sentence: short, on one line, without control characters."""
    cut = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut
    )
    return f'"{shown}"'


def listed(names: Iterable[str], joint: str = "or") -> str:
    """Join names as a sentence does: `a, b or c`."""
    *most, last = names
    return f"{', '.join(most)} {joint} {last}" if most else last


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was probably meant, or None when none is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.66)
    return folded[close[0]] if close else None
