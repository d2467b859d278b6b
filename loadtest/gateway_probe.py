"""Which epoch a gateway serves: asked before a run, and again and again during it."""

import json
import urllib.error
import urllib.request

_QUESTION = b'{"apps":{},"dry_run":true}'
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks as Locust does: past the proxy of the environment."""


class AwayError(Exception):
    """No gateway answers, or it serves nothing yet; the message says which."""


def served_epoch(url: str, timeout_seconds: float = 5.0) -> int:
    """Ask a gateway which epoch it serves, leaving no trace. Raises AwayError."""
    request = urllib.request.Request(f"{url.rstrip('/')}/v1/check", _QUESTION)
    request.add_header("Content-Type", "application/json")
    try:
        with _DIRECT.open(request, timeout=timeout_seconds) as response:
            return int(json.loads(response.read())["epoch"])
    except urllib.error.HTTPError as fault:
        fault.close()
        what = "it serves no epoch, or is overloaded" if fault.code == 503 else "no gateway of ours"
        raise AwayError(f"{url} answers with status {fault.code}: {what}.") from None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise AwayError(f"No gateway answers at {url} ({fault}).") from None
