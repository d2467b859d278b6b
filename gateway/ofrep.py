"""The OpenFeature Remote Evaluation Protocol (OFREP 0.3.0): contexts in, evaluations out. Pure.

POST /ofrep/v1/evaluate/flags/{key} asks for one switch, …/flags for all of them. Both paths, the
quick and the ordinary one, read and answer with what is here.

An evaluation depends on the epoch, the context, and the part of the schedule that the second lies
in; so does the ETag of all of them, and a client that has it gets 304 without anything decided,
also while Redis is away. An answer that is degraded has no ETag.
"""

from collections.abc import Collection
from typing import Any

import orjson
from xxhash import xxh3_128_hexdigest

from gateway import headers
from gateway.attribute import CUSTOM
from gateway.check import Check
from gateway.errors import RequestError
from gateway.problem import OVERLOADED, RETRY_SECONDS
from gateway.request import BODY_BYTES, make_check, read_id, too_large
from gateway.snapshot import Snapshot

FLAGS_PATH = "/ofrep/v1/evaluate/flags"
ROOT = "/ofrep/"

PARSE_ERROR, INVALID_CONTEXT = "PARSE_ERROR", "INVALID_CONTEXT"
FLAG_NOT_FOUND, GENERAL = "FLAG_NOT_FOUND", "GENERAL"

CREDENTIALS = "X-API-Key, If-None-Match"
"""What browsers may send besides: a key that some SDKs want to send, and nobody looks at."""


class ContextError(RequestError):
    """A request that breaks as a whole; `code` is the protocol's word."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


class Reply:
    """A whole answer: status, body, and the ETag, empty for none.

    `outcome` is what is counted of it, a word of metrics.EVALUATIONS.
    """

    __slots__ = ("body", "etag", "outcome", "status")

    def __init__(self, status: int, body: bytes, outcome: str = "failed", etag: str = "") -> None:
        self.status = status
        self.body = body
        self.etag = etag
        self.outcome = outcome


def parse_context(body: bytes, placeholders: Collection[str]) -> Check:
    """Read the body of an evaluation as a check that asks for no app. Raises ContextError.

    Attributes stand in the context under their own names, those of one's own as `custom.NAME` or
    in an object `custom`. `targetingKey` stands in for a device that is missing, or one of the
    workspace's placeholders, which are no ids.
    """
    if len(body) > BODY_BYTES:
        raise too_large()
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        place = f"line {fault.lineno}, column {fault.colno}"
        sentence = f"The body is not JSON: {fault.msg} ({place})."
        raise ContextError(400, PARSE_ERROR, sentence) from None
    if type(asked) is not dict:
        raise ContextError(400, PARSE_ERROR, "The body must be an object with a `context`.")
    sent = asked.get("context")
    if sent is None:
        sent = {}
    if type(sent) is not dict:
        raise ContextError(400, INVALID_CONTEXT, "`context` must be an object.")
    device = sent.get("device")
    try:
        if type(device) is not str or not device or device.casefold() in placeholders:
            sent["device"] = read_id(sent, "targetingKey")
        check = make_check(sent, _custom(sent), {}, True, True)
    except RequestError as fault:
        raise ContextError(fault.status, INVALID_CONTEXT, str(fault)) from None
    check.fingerprint = xxh3_128_hexdigest(body)
    return check


def _custom(sent: dict[str, Any]) -> dict[str, Any]:
    found = sent.get("custom")
    custom = found if type(found) is dict else {}
    for name, value in sent.items():
        if name.startswith(CUSTOM):
            custom[name.removeprefix(CUSTOM)] = value
    return custom


def evaluate(
    snapshot: Snapshot, check: Check, members: dict[int, int | None], second: int, key: str | None
) -> Reply:
    """Evaluate the switch of this key, or all of them with None, after the snapshot's probes."""
    switches = snapshot.switches
    flags = [] if switches is None else switches.flags
    if key is not None:
        flag = None if switches is None else switches.by_key.get(key)
        if flag is None:
            sentence = f"There is no switch {key[:80]!r}."
            return Reply(404, failure(key, FLAG_NOT_FOUND, sentence), "unknown")
        flags = [flag]
    context = snapshot.context(check, members)
    bits = least = most = 0
    if switches is not None:
        told = snapshot.told(check, members, context)
        bits, least, most = switches.decide(check.sent, check.custom, context, second, told)
    found = [flag.answer(bits, least, most, context) for flag in flags]
    degraded = False
    for answer in found:
        degraded = degraded or answer.degraded
    if key is not None:
        return Reply(200, found[0].ofrep, "degraded" if degraded else "one")
    body = b'{"flags":[%b]}' % b",".join([answer.ofrep for answer in found])
    if degraded:
        return Reply(200, body, "degraded")
    return Reply(200, body, "all", etag(snapshot, check, second))


def etag(snapshot: Snapshot, check: Check, second: int) -> str:
    """Name all evaluations of a context: equal tags, equal answers."""
    switches = snapshot.switches
    period = 0 if switches is None else switches.period(second)
    return f'"{snapshot.digest.hex()[:16]}.{period}.{check.fingerprint}"'


def unchanged(snapshot: Snapshot, check: Check, second: int, matches: str | None) -> Reply | None:
    """Give the 304 for a client that has the answer: `matches` is its If-None-Match."""
    if matches is None:
        return None
    tag = etag(snapshot, check, second)
    named = {each.strip().removeprefix("W/") for each in matches.split(",")}
    return Reply(304, b"", "unchanged", tag) if tag in named or "*" in named else None


def failure(key: str | None, code: str, sentence: str) -> bytes:
    """Write the body of an error; `key` where one switch was asked for."""
    content = {"errorCode": code, "errorDetails": sentence}
    return orjson.dumps(content if key is None else {"key": key, **content})


def fault_of(key: str | None, fault: RequestError) -> Reply:
    """Make the answer to a request that cannot be read."""
    code = fault.code if isinstance(fault, ContextError) else GENERAL
    return Reply(fault.status, failure(key, code, str(fault)))


def overloaded(
    key: str | None, origin: str | None, allowed: Collection[str]
) -> tuple[int, dict[str, str], bytes]:
    """Make status, headers and body of a gateway that has too much to do."""
    return later(key, OVERLOADED, RETRY_SECONDS, origin, allowed)


def later(
    key: str | None, sentence: str, retry_seconds: int, origin: str | None, allowed: Collection[str]
) -> tuple[int, dict[str, str], bytes]:
    """Make status, headers and body for who shall ask again later."""
    detail = f"{sentence} Ask again in {retry_seconds} s or later."
    reply = Reply(503, failure(key, GENERAL, detail))
    fields = reply_headers(reply, origin, allowed)
    fields["Retry-After"] = str(retry_seconds)
    return 503, fields, reply.body


def reply_headers(reply: Reply, origin: str | None, allowed: Collection[str]) -> dict[str, str]:
    """Give the headers of an answer, but those that aiohttp adds."""
    fields: dict[str, Any] = headers.answer_headers(headers.JSON, origin, allowed)
    fields["Cache-Control"] = "private, no-cache"
    if "Access-Control-Allow-Origin" in fields:
        fields["Access-Control-Expose-Headers"] = "ETag, Retry-After"
    if reply.status == 304:
        del fields["Content-Type"]
    if reply.etag:
        fields["ETag"] = reply.etag
    return fields
