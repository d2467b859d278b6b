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
from urllib.parse import urljoin, urlsplit

import urllib3

from loadtest.client.answer import Download
from loadtest.client.durable import private
from loadtest.client.fault import UnusableError
from loadtest.client.limits import Limits
from loadtest.client.line import LateError, asked
from loadtest.client.shelf import is_whole

_CHUNK = 1 << 16
_MOST_REDIRECTS = 3
_MOST_HOST = 80  # characters of it that are said
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
    most = limits.request_seconds + download.size / limits.slowest_bytes_a_second
    deadline = time.monotonic() + most
    for _ in range(limits.tries):
        have = _size(partial)
        alone = alone or have == 0
        if have < download.size or not have:
            try:
                alone = _take(pool, url, download, partial, have, limits, deadline) == 0 or alone
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
    deadline: float,
) -> int:
    """Take what one request brings, and say from which byte on it did.

    Where it leads on to another URL, that one is asked: three times, and no further.
    Raises _CutError when it ended early, UnusableError when this URL is of no use.
    """
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    silence = limits.silence_seconds
    for _ in range(1 + _MOST_REDIRECTS):
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise _CutError("it was too slow")
        try:
            with asked(pool, "GET", url, headers, silence=silence, seconds=seconds) as response:
                if onward := response.get_redirect_location():
                    url = _onward(url, onward)
                    continue
                start = _start(response, have)
                if start is None:
                    partial.unlink(missing_ok=True)  # the next try asks for all of it
                    raise _CutError("it does not give the rest of what it began")
                _write(response, download, partial, start)
        except LateError as error:
            raise _CutError("it was too slow") from error
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise _CutError(_network(error)) from error
        return start
    raise UnusableError("it leads on again and again")


def _onward(url: str, location: str) -> str:
    """Give the URL that a redirect leads to. Raises UnusableError, ValueError."""
    found = urljoin(url, location)
    if not found.lower().startswith(("http://", "https://")):
        raise UnusableError("it leads on to what is no http or https URL")
    return found


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
) -> None:
    # Unbuffered: whatever came is there after a kill.
    with FileIO(partial, "r+b" if start else "wb", opener=private) as file:
        file.seek(start)
        file.truncate()
        while chunk := response.read1(_CHUNK):
            if start + len(chunk) > download.size:
                file.truncate(0)
                raise UnusableError("it sent more bytes than the gateway announced")
            start += _write_all(file, chunk)


def _write_all(file: FileIO, chunk: bytes) -> int:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
    return len(chunk)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2][:_MOST_HOST] or "a URL"
    except ValueError:
        return "a URL"


def _network(error: Exception) -> str:
    """Say what the network did, in few words."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "it cannot be reached"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it was silent for too long"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "it cut the connection"
    return "it cannot be asked"
