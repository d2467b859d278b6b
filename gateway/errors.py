"""Errors by fault: the caller's, the store's, the stored bytes'. Nothing else is raised on purpose.

    TidegateError
    ├── RequestError   the client's request cannot be read; carries an HTTP status
    ├── StoreError     Redis or the store did not answer, or not in time
    └── FormatError    stored bytes are not what they claim to be: cut, corrupt or foreign
        └── OtherFormatError   they are of another version of the data format

"No update" is an answer, never an exception. Anything else that is raised is a bug.
"""


class TidegateError(Exception):
    """The root of everything that is raised on purpose."""


class RequestError(TidegateError):
    """A request that breaks as a whole; `status` is the HTTP status, `str()` the sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class StoreError(TidegateError):
    """Redis or the store is away, too slow, or lacks something that it must have."""


class FormatError(TidegateError):
    """Stored bytes that must not be served: damaged, foreign, or of an unknown format."""


class OtherFormatError(FormatError):
    """Stored bytes of a version of the data format that this code does not read."""
