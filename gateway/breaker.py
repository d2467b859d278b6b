"""When to leave Redis alone: after repeated failures, for a while, then one try. Pure."""

THRESHOLD = 3
REST_SECONDS = 1.0


class Breaker:
    """Counts failures in a row; times are any monotonic seconds.

    Closed, it lets everything through. After THRESHOLD failures in a row it is open for
    REST_SECONDS, then lets one try through: its success closes it, its failure opens it again.
    """

    __slots__ = ("_failures", "_until")

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Tell whether to try now; while open, the first to ask after the rest is the try."""
        if self._failures < THRESHOLD:
            return True
        if now < self._until:
            return False
        self._until = now + REST_SECONDS
        return True

    def failed(self, now: float) -> None:
        """Take note of a failure."""
        self._failures += 1
        if self._failures >= THRESHOLD:
            self._until = now + REST_SECONDS

    def succeeded(self) -> None:
        """Take note of an answer."""
        self._failures = 0
