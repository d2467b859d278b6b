"""What the benchmarks ask: phones, and their requests as bytes on the wire.

Every phone has 1.0.0.0, so that there is an update for it: all answers are long ones, and about
as long as the constant. Ids have one length, so that one request is as long as another.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgpack

from loadtest.plans import COFFEE, member_id

Phone = dict[str, Any]
"""A check as data."""

INSTALLED = "1.0.0.0"
ANYBODY = "m-########"
"""Stands for a member's id in a request; wrk writes another member there each time."""


def phone(number: int, apps: Sequence[str] = (COFFEE,)) -> Phone:
    """Make up a phone that is on no list."""
    return {
        "user": f"u-{number:08}",
        "device": f"d-{number:08x}",
        "platform": "android",
        "os_version": str(10 + number % 6),
        "client_version": "10.2.3",
        "brand": "Xiaomi",
        "model": f"2304FPN{number % 90:02}",
        "network": "WIFI" if number % 3 else "5G",
        "city": "Hangzhou",
        "region": "CN-ZJ",
        "custom": {"tier": "gold"},
        "apps": dict.fromkeys(apps, INSTALLED),
    }


def member(number: int) -> Phone:
    """Make up a phone whose user is on one list."""
    return phone(number) | {"user": member_id(number)}


def anybody(number: int) -> Phone:
    """Make up a phone whose user wrk fills in."""
    return phone(number) | {"user": ANYBODY}


def as_json(asked: Phone, *lines: str) -> bytes:
    """Write a request as bytes on the wire, with further header lines."""
    body = json.dumps(asked, separators=(",", ":")).encode()
    return _with_head(body, "Content-Type: application/json", *lines)


def as_msgpack(asked: Phone, *lines: str) -> bytes:
    """Write a request in MessagePack that asks for an answer in it, with further header lines."""
    wanted = "application/msgpack"
    fields = f"Content-Type: {wanted}", f"Accept: {wanted}"
    return _with_head(msgpack.packb(asked), *fields, *lines)


def as_last(asked: Phone) -> bytes:
    """Write a request after which the connection ends."""
    return as_json(asked, "Connection: close")


def _with_head(body: bytes, *lines: str) -> bytes:
    start = ("POST /v1/check HTTP/1.1", "Host: 127.0.0.1", *lines)
    return "\r\n".join((*start, f"Content-Length: {len(body)}", "", "")).encode() + body
