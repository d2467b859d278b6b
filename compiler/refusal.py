"""The one way in which a command that was understood says no."""

from gateway.errors import TidegateError


class Refused(TidegateError):  # noqa: N818 - a refusal is an outcome of a command
    """The command is refused and nothing was published; the sentence says why and what to do."""
