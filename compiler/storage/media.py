"""What a bucket, and the CDN before it, tells clients of an object: its type, and for how long.

Never a Content-Encoding: a compressed form is what the client asked for and checks the SHA-256
of, and something on the way that unpacked it would break that.
"""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore import Attributes

MINIAPP = "application/miniapp-pkg+zip"
"""The media type of W3C MiniApp Packaging; a path's suffix cannot tell it from another ZIP."""

IMMUTABLE = "public, max-age=31536000, immutable"
"""What is named by its own SHA-256 never changes; a year is the longest that caches honour."""

_TYPES = {".zip": "application/zip", ".gz": "application/gzip", ".zst": "application/zstd"}
_ANY = "application/octet-stream"
_FILES = "files/"


def attributes_of(path: str, media_type: str | None = None) -> "Attributes":
    """Give an object's headers, from its path and a media type that is known better."""
    said: Attributes = {"Content-Type": media_type or _TYPES.get(PurePosixPath(path).suffix, _ANY)}
    if path.startswith(_FILES):
        said["Cache-Control"] = IMMUTABLE
    return said
