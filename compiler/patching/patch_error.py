"""The one way in which a patch is refused."""

from gateway.errors import TidegateError


class PatchError(TidegateError):
    """A patch that cannot be made or applied; the sentence says why."""
