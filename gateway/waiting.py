"""How many checks wait for Redis, on the quick and the ordinary path together, and how many may."""


class Waiting:
    """One count for both paths: with one each, twice as many as allowed would wait."""

    __slots__ = ("limit", "now")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0

    def is_full(self) -> bool:
        """Tell whether one more must be refused."""
        return self.now >= self.limit
