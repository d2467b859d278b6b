"""Whom each release was offered to, as far as this process knows, on its way to Redis. Pure.

A sketch stays here after Redis has it, as phones ask again and again: what it knows already need
not be sent once more. It is let go when it is old, so that what Redis may have lost comes back, and
at once, when many releases are offered.
"""

from gateway.sketch import Sketch

LIMIT = 1_000
"""Releases held at once, of 16 KB each: more find no room until Redis has these."""

OLD_TURNS = 360
"""Turns after which a sketch is let go: an hour, as there is one in ten seconds."""


class Reach:
    """The sketches by app and release."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._turn = 0
        self._held: dict[tuple[str, str], tuple[int, Sketch]] = {}

    def of(self, app: str, release: str) -> Sketch | None:
        """Give the sketch of a release, to add to until the next turn; None: there is no room."""
        held = self._held.get((app, release))
        if held is not None:
            return held[1]
        if len(self._held) >= self._limit:
            return None
        sketch = Sketch()
        self._held[app, release] = self._turn, sketch
        return sketch

    def take(self) -> list[tuple[str, str, Sketch]]:
        """Give what changed, with app and release, and begin the next turn.

        Nobody may go on adding to what `of` gave before. Who fails to send one marks it as changed.
        """
        self._turn += 1
        crowded = len(self._held) > self._limit // 2
        for place, (since, sketch) in list(self._held.items()):
            if not sketch.changed and (crowded or self._turn - since > OLD_TURNS):
                del self._held[place]
        return [(*place, sketch) for place, (_, sketch) in self._held.items() if sketch.changed]
