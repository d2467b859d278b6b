"""Errors as RFC 9457 has them: `application/problem+json`, with a sentence that says what."""

from collections.abc import Collection
from http import HTTPStatus

import orjson

from gateway import headers

CONTENT_TYPE = "application/problem+json"

EMPTY = "This gateway has no epoch to serve yet."
EMPTY_RETRY_SECONDS = 5

OVERLOADED = "This gateway has more to do than it can."
RETRY_SECONDS = 1


def problem(status: int, detail: str) -> bytes:
    """Write the body of an error; `detail` is the sentence that a person reads."""
    return orjson.dumps(
        {
            "type": "about:blank",  # the RFC's way to say: no more than the status itself
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
        }
    )


def unavailable(
    sentence: str, retry_seconds: int, origin: str | None, allowed: Collection[str]
) -> tuple[int, dict[str, str], bytes]:
    """Make status, headers and body for who shall ask again later; `allowed` as in headers.py."""
    fields = headers.answer_headers(CONTENT_TYPE, origin, allowed)
    fields["Retry-After"] = str(retry_seconds)
    body = problem(503, f"{sentence} Ask again in {retry_seconds} s or later.")
    return 503, fields, body


def overloaded(origin: str | None, allowed: Collection[str]) -> tuple[int, dict[str, str], bytes]:
    """Make the answer of a gateway that has too much to do."""
    return unavailable(OVERLOADED, RETRY_SECONDS, origin, allowed)
