"""Errors as RFC 9457 has them: `application/problem+json`, with a sentence that says what."""

from http import HTTPStatus

import orjson

CONTENT_TYPE = "application/problem+json"


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
