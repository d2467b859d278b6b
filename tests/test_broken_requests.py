"""Every kind of broken request: its status, its sentence, and never a traceback."""

from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgpack
import orjson
import pytest
import pytest_asyncio

from epochs import APP, make_epoch
from in_process import Served, raw, serving, snapshot_of

POST = "/v1/check"
PACKED = {"Content-Type": "application/msgpack"}
FULL = ", ".join(f'"a{at}": null' for at in range(101)).encode()


@dataclass(frozen=True)
class Broken:
    """A request that breaks as a whole, and what it gets."""

    name: str
    status: int
    sentence: str
    body: bytes = b""
    method: str = "POST"
    path: str = POST
    headers: dict[str, str] = field(default_factory=dict)


def packed(value: Any) -> bytes:
    """Write MessagePack."""
    return bytes(msgpack.packb(value))


def json(name: str, sentence: str, body: bytes) -> Broken:
    """Make a broken JSON request."""
    return Broken(name, 400, sentence, body)


def pack(name: str, sentence: str, body: bytes) -> Broken:
    """Make a broken MessagePack request."""
    return Broken(name, 400, sentence, body, headers=PACKED)


def get(name: str, sentence: str, query: str) -> Broken:
    """Make a broken GET."""
    return Broken(name, 400, sentence, method="GET", path=f"{POST}/{APP}?{query}")


def elsewhere(name: str, status: int, sentence: str, method: str, path: str) -> Broken:
    """Make a request that is at the wrong place."""
    return Broken(name, status, sentence, method=method, path=path)


NOT_JSON = "The body is not JSON: "
NOT_PACKED = "The body is not MessagePack: "
NOTHING_HERE = (
    "There is nothing at this path; checks go to POST /v1/check, reports to POST /v1/report."
)
TOO_LARGE = "The body is over 65,536 bytes; send less at once."
EMPTY = NOT_JSON + "input data is empty (line 1, column 1)."
NO_METHOD = "; it does not answer this method."
POST_ONLY = "This path answers POST, OPTIONS" + NO_METHOD
GET_ONLY = "This path answers GET, HEAD, OPTIONS" + NO_METHOD
UNREADABLE = "The body cannot be read: it breaks off, or is not encoded as its head says."
EXTENSION = "The body holds an extension type, which JSON does not have."
LONG_USER = "`user` is 257 bytes long; an id has at most 256."
MISSING = "The body has no member `apps`: an object of app ids to versions."
NOT_AN_OBJECT = "`apps` must be an object of app ids to installed versions, not "

CASES = [
    json("empty", NOT_JSON + "Input is a zero-length, empty document (line 1, column 1).", b""),
    json("blank", EMPTY, b" \n "),
    json("cut", NOT_JSON + "unexpected end of data (line 1, column 9).", b'{"apps":'),
    json(
        "a word",
        NOT_JSON + "unexpected character, expected a JSON value (line 1, column 1).",
        b"hello",
    ),
    json(
        "single quotes",
        NOT_JSON + "unexpected character, expected a string key (line 1, column 2).",
        b"{'apps': {}}",
    ),
    json("two values", NOT_JSON + "unexpected content after document (line 1, column 3).", b"{}{}"),
    json(
        "on its second line",
        NOT_JSON + "unexpected character, expected a JSON value (line 2, column 9).",
        b'{\n"apps": }',
    ),
    json(
        "NaN",
        NOT_JSON + "unexpected character, expected a JSON value (line 1, column 7).",
        b'{"x": NaN}',
    ),
    json(
        "infinite",
        NOT_JSON + "number is infinity when parsed as double (line 1, column 7).",
        b'{"x": 1e999}',
    ),
    json(
        "half a surrogate",
        NOT_JSON + "no low surrogate in string (line 1, column 8).",
        b'{"x": "\\ud800"}',
    ),
    json(
        "not UTF-8",
        NOT_JSON + "str is not valid UTF-8: surrogates not allowed (line 1, column 1).",
        b'{"x": "\xff"}',
    ),
    json(
        "a byte order mark",
        NOT_JSON + "UTF-8 byte order mark (BOM) is not supported (line 1, column 1).",
        b"\xef\xbb\xbf{}",
    ),
    json("nested", NOT_JSON + "depth limit exceeded (line 1, column 1026).", b"[" * 2000),
    json("an array", "The body must be an object, not an array.", b"[]"),
    json("a text", "The body must be an object, not a text.", b'"apps"'),
    json("a number", "The body must be an object, not a number.", b"1"),
    json("true", "The body must be an object, not true or false.", b"true"),
    json("null", "The body must be an object, not null.", b"null"),
    json("no apps", MISSING, b"{}"),
    json("another case", MISSING, b'{"Apps": {}}'),
    json("apps null", NOT_AN_OBJECT + "null.", b'{"apps": null}'),
    json("apps an array", NOT_AN_OBJECT + "an array.", b'{"apps": ["1"]}'),
    json("apps a text", NOT_AN_OBJECT + "a text.", b'{"apps": "1"}'),
    json("101 apps", "`apps` has 101 members; at most 100 are read.", b'{"apps": {' + FULL + b"}}"),
    json("long user", LONG_USER, b'{"apps": {}, "user": "' + b"u" * 257 + b'"}'),
    json(
        "long device",
        "`device` is 300 bytes long; an id has at most 256.",
        '{{"apps": {{}}, "device": "{}"}}'.format("界" * 100).encode(),
    ),
    pack("packed: empty", NOT_PACKED + "Unpack failed: incomplete input.", b""),
    pack("packed: cut", NOT_PACKED + "Unpack failed: incomplete input.", b"\x81\xa4apps"),
    pack("packed: JSON", NOT_PACKED + "unpack(b) received extra data..", b'{"apps": {}}'),
    pack("packed: byte C1", NOT_PACKED + "it has a byte that begins no value.", b"\xc1"),
    pack("packed: nested", NOT_PACKED + "it is nested too deep.", b"\x91" * 2000),
    pack("packed: not UTF-8", NOT_PACKED + "a text is not UTF-8.", b"\x81\xa1x\xa1\xff"),
    pack(
        "packed: a number as key",
        NOT_PACKED + "int is not allowed for map key when strict_map_key=True.",
        packed({1: 2}),
    ),
    pack(
        "packed: a huge claim",
        NOT_PACKED + "4294967295 exceeds max_map_len(2).",
        b"\xdf\xff\xff\xff\xff",
    ),
    pack(
        "packed: bytes",
        "The body holds binary data (bin); send it as text (str).",
        packed({"apps": {"a": b"1"}}),
    ),
    pack(
        "packed: a bytes key",
        "A map has a key that is no text; JSON has only texts.",
        packed({b"apps": {}}),
    ),
    pack("packed: extension", EXTENSION, packed({"apps": {}, "x": [msgpack.ExtType(5, b"x")]})),
    pack("packed: timestamp", EXTENSION, packed({"apps": {}, "x": msgpack.Timestamp(1)})),
    pack(
        "packed: NaN",
        "The body holds nan, a number that JSON cannot write.",
        packed({"apps": {}, "x": float("nan")}),
    ),
    pack(
        "packed: infinity",
        "The body holds -inf, a number that JSON cannot write.",
        packed({"apps": {}, "x": {"y": float("-inf")}}),
    ),
    pack("packed: an array", "The body must be an object, not an array.", packed([])),
    pack("packed: no apps", MISSING, packed({"user": "u"})),
    Broken("64 KiB and one", 413, TOO_LARGE, b" " * 65_537),
    Broken("gzip that is none", 400, UNREADABLE, b"{}", headers={"Content-Encoding": "gzip"}),
    get("parameter twice", "The parameter 'user' comes twice; send it once.", "user=a&user=b"),
    get("dry_run maybe", "`dry_run` must be true or false, not 'maybe'.", "dry_run=maybe"),
    get("query not UTF-8", "The address is not UTF-8 behind its percent signs.", "user=%ff"),
    get(
        "101 parameters",
        "The query has over 100 parameters.",
        "&".join(f"x{at}=1" for at in range(101)),
    ),
    get("long user in the query", LONG_USER, "user=" + "u" * 257),
    elsewhere("the root", 404, NOTHING_HERE, "GET", "/"),
    elsewhere("a trailing slash", 404, NOTHING_HERE, "POST", "/v1/check/"),
    elsewhere("two segments", 404, NOTHING_HERE, "GET", "/v1/check/a/b"),
    elsewhere("another version", 404, NOTHING_HERE, "POST", "/v2/check"),
    elsewhere("GET of all", 405, POST_ONLY, "GET", POST),
    elsewhere("DELETE of all", 405, POST_ONLY, "DELETE", POST),
    elsewhere("POST of one", 405, GET_ONLY, "POST", f"{POST}/{APP}"),
    elsewhere("PUT of the document", 405, GET_ONLY, "PUT", "/openapi.json"),
]

RAW = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(40) + b"\r\n\r\n",
    "a header without colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "an endless header": b"GET / HTTP/1.1\r\nHost: " + b"a" * 20_000 + b"\r\n\r\n",
    "a length that is none": b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST /v1/check HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
}


@pytest_asyncio.fixture
async def served() -> Any:
    """Serve a small epoch."""
    async with serving(snapshot_of(make_epoch())) as running:
        yield running


async def test_each_kind_of_broken_request_gets_its_status_and_sentence(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """What breaks a request as a whole is answered by problem+json that says what and where."""
    found: list[str] = []
    async with aiohttp.ClientSession(served.url) as session:
        for case in CASES:
            async with session.request(
                case.method, case.path, data=case.body or None, headers=case.headers
            ) as response:
                body = await response.read()
                said = orjson.loads(body)
                assert (case.name, response.status) == (case.name, case.status)
                found.append(f"{case.name}: {said['detail']}")
                assert response.headers["Content-Type"] == "application/problem+json"
                assert response.headers["Cache-Control"] == "no-store"
                assert said["status"] == case.status
                assert set(said) == {"type", "title", "status", "detail"}
                assert b"Traceback" not in body
                assert ("Allow" in response.headers) == (case.status == 405)
    assert found == [f"{case.name}: {case.sentence}" for case in CASES]
    assert len({case.name for case in CASES}) == len(CASES) >= 50
    assert served.metrics.failures == 0
    assert not caplog.records  # nor does a client fill the log


@pytest.mark.parametrize("name", RAW)
async def test_what_is_no_http_gets_a_problem_too(served: Served, name: str) -> None:
    """Even what the HTTP parser refuses is answered by problem+json, and the connection ends."""
    answer = await raw(served.port, RAW[name])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"Content-Type: application/problem+json" in head
    assert orjson.loads(body)["detail"] == (
        "This is not HTTP/1.1, or its head is over the limits of 8,190 bytes a line."
    )


async def test_a_body_that_grows_over_the_limit_is_refused_before_its_end(served: Served) -> None:
    """A chunked body has no length to refuse beforehand; it is refused at the 65,537th byte."""
    head = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    answer = await raw(served.port, head + chunk * 5, until_close=False)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_bug_is_a_problem_without_traceback(served: Served) -> None:
    """What nobody foresaw is answered 500 with a sentence; the traceback stays in the log."""
    served.follower.snapshot = object()
    async with aiohttp.ClientSession(served.url) as session:
        response = await session.post(POST, data=b'{"apps": {}}')
        body = await response.read()
    # The bug is met a second time when the answer's CORS headers are made, and still answered.
    assert response.status == 500
    assert b"Traceback" not in body
    assert b"AttributeError" not in body
    assert orjson.loads(body)["detail"].startswith("The gateway failed on this request")


async def test_a_wrong_app_does_not_break_its_neighbours(served: Served) -> None:
    """What is wrong in one app answers for that app alone; unknown members are ignored."""
    question = {"apps": {APP: None, "no such": "1", "x": 5, "": None}, "custom": 7, "later": {}}
    async with (
        aiohttp.ClientSession(served.url) as session,
        session.post(POST, json=question) as response,
    ):
        said = await response.json()
    assert response.status == 200
    assert [each["status"] for each in said["apps"]] == ["update", "invalid", "unknown", "invalid"]
