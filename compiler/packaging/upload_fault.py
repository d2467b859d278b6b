"""Why an upload cannot be: the input is wrong, or the version has its bytes already."""

from gateway.errors import TidegateError


class UploadError(TidegateError):
    """A package, app or version that cannot be uploaded; the sentence says why."""


class UploadRefusedError(UploadError):
    """Other bytes, or another spelling, of a version that has its record already."""
