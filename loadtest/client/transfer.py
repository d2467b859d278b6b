"""Downloads: from URLs in their order, with resume, never more than was announced.

The bytes are kept under their SHA-256 until they are whole, over restarts too. What is there is
taken up with a Range; no ETag is needed, because the digest of the whole decides. When that is
wrong and not all bytes came from one URL, the one at hand is asked once more for all of them:
who sent the wrong ones is not known.
"""

import re
import time
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from loadtest.client.answer import Download
from loadtest.client.fault import UnusableError
from loadtest.client.limits import Limits
from loadtest.client.shelf import is_whole

_CHUNK = 1 << 16
_FIRST_MINUTE = 60.0
_REDIRECTS = urllib3.Retry(total=3, connect=0, read=0, status=0, other=0)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/")


class _CutError(Exception):
    """A try that ended before its time; what it brought stays."""


def fetch(pool: urllib3.PoolManager, download: Download, partial: Path, limits: Limits) -> None:
    """Bring a download into the file `partial`, whole and with the right digest.

    Raises UnusableError when no URL gives it, OSError for what the disk does.
    """
    if is_whole(partial, download.size, download.sha256):
        return
    reasons = []
    for url in download.urls:
        reason = _fetch_from(pool, url, download, partial, limits)
        if reason is None:
            return
        reasons.append(f"{_host(url)}: {reason}")
    raise UnusableError("; ".join(reasons))


def _fetch_from(
    pool: urllib3.PoolManager, url: str, download: Download, partial: Path, limits: Limits
) -> str | None:
    """Ask one URL until all is there: give None, or why it does not come."""
    alone = False  # whether every byte in `partial` came from this URL
    idle, reason = 0, ""
    for _ in range(limits.tries):
        have = _size(partial)
        alone = alone or have == 0
        if have < download.size or not have:
            try:
                alone = _take(pool, url, download, partial, have, limits) == 0 or alone
            except _CutError as error:
                reason = str(error)
            except UnusableError as error:
                return str(error)
        got = _size(partial)
        if got >= download.size:
            if is_whole(partial, download.size, download.sha256):
                return None
            partial.unlink(missing_ok=True)
            reason = "it gave other bytes than the gateway announced"
            if alone:
                return reason
        elif got <= have:
            idle += 1
            if idle >= limits.idle_tries:
                break
            time.sleep(limits.pause_seconds)
    return reason or "it ended too early each time"


def _take(
    pool: urllib3.PoolManager,
    url: str,
    download: Download,
    partial: Path,
    have: int,
    limits: Limits,
) -> int:
    """Take what one request brings, and say from which byte on it did.

    Raises _CutError when it ended early, UnusableError when this URL is of no use.
    """
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    deadline = time.monotonic() + _FIRST_MINUTE + download.size / limits.slowest_bytes_a_second
    try:
        response = pool.request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            decode_content=False,
            timeout=limits.silence_seconds,
            retries=_REDIRECTS,
        )
        try:
            start = _start(response, have)
            if start is None:
                partial.unlink(missing_ok=True)  # the next try asks for all of it
                raise _CutError("it does not give the rest of what it began")
            _write(response, download, partial, start, deadline)
        finally:
            response.close()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise _CutError(_network(error)) from error
    return start


def _start(response: urllib3.BaseHTTPResponse, have: int) -> int | None:
    """Say at which byte an answer begins; None: not where it was asked to begin.

    Raises _CutError for a status that may pass, UnusableError for any other.
    """
    if response.status == 200:
        return 0
    if response.status in (206, 416) and have:
        found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        return have if response.status == 206 and found and int(found[1]) == have else None
    if response.status in (408, 429) or response.status >= 500:
        raise _CutError(f"it answered with status {response.status}")
    raise UnusableError(f"it answered with status {response.status}")


def _write(
    response: urllib3.BaseHTTPResponse,
    download: Download,
    partial: Path,
    start: int,
    deadline: float,
) -> None:
    # Unbuffered: whatever came is there after a kill.
    with partial.open("r+b" if start else "wb", buffering=0) as file:
        file.seek(start)
        file.truncate()
        while chunk := response.read1(_CHUNK):
            if start + len(chunk) > download.size:
                file.truncate(0)
                raise UnusableError("it sent more bytes than the gateway announced")
            start += _write_all(file, chunk)
            if time.monotonic() > deadline:
                raise _CutError("it was too slow")


def _write_all(file: FileIO, chunk: bytes) -> int:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
    return len(chunk)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "a URL"
    except ValueError:
        return "a URL"


def _network(error: Exception) -> str:
    """Say what the network did, in few words."""
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it was silent for too long"
    if isinstance(error, urllib3.exceptions.MaxRetryError):
        return "it cannot be reached"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "it cut the connection"
    return "it cannot be asked"
