"""What is asked of a gateway and told to it: POST /v1/check and POST /v1/report."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3

from loadtest.client.answer import Answer, read_answer
from loadtest.client.fault import UnusableError
from loadtest.client.limits import Limits
from loadtest.client.line import LateError, asked

_CHUNK = 1 << 16
_TOKEN = re.compile(r"[\w.-]+", re.ASCII)


class Gateway:
    """A gateway by its base URL."""

    def __init__(
        self, url: str, pool: urllib3.PoolManager, limits: Limits, token: Path | None = None
    ) -> None:
        """`token` is a file that is read each time: who holds it is the phone's user."""
        self._token = token
        self._url = url.rstrip("/")
        self._pool = pool
        self._limits = limits

    def check(self, phone: Mapping[str, Any], apps: Mapping[str, str | None]) -> Answer:
        """Ask about apps, by the versions installed. Raises UnusableError for no good answer."""
        status, body = self._post("/v1/check", {**phone, "apps": dict(apps)})
        if status != 200:
            raise UnusableError(f"the gateway answered with status {status}")
        return read_answer(body)

    def report(self, phone: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> bool:
        """Tell what happened; say whether it is done with.

        False: to be told again later. What a gateway refuses for what it is (400, 413) is not.
        """
        who = {name: phone[name] for name in ("device", "user") if name in phone}
        try:
            status, _ = self._post("/v1/report", {**who, "reports": list(reports)})
        except UnusableError:
            return False
        return 200 <= status < 300 or status in (400, 413)

    def _post(self, path: str, value: Mapping[str, Any]) -> tuple[int, bytes]:
        """Give the status and the body that came. Raises UnusableError when none did."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        try:
            with asked(
                self._pool,
                "POST",
                self._url + path,
                headers | self._authorization(),
                body=json.dumps(value).encode(),
                silence=self._limits.silence_seconds,
                seconds=self._limits.request_seconds,
            ) as response:
                return response.status, self._body(response)
        except LateError as error:
            raise UnusableError("the gateway's answer is too slow") from error
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise UnusableError(f"the gateway gave no answer ({type(error).__name__})") from error

    def _authorization(self) -> dict[str, str]:
        """Read the token; without one that can be read the phone asks as nobody, as it must."""
        if self._token is None:
            return {}
        try:
            token = self._token.read_text("ascii").strip()
        except (OSError, ValueError):
            return {}
        return {"Authorization": f"Bearer {token}"} if _TOKEN.fullmatch(token) else {}

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Read a body. Raises UnusableError for one that is too long."""
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > self._limits.answer_bytes:
                raise UnusableError("the gateway's answer is too long")
        return bytes(body)
