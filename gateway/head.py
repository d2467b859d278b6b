"""The head of an ordinary request: which bytes the quick path takes, and what they say. Pure.

Taken is only what leaves no room for two readings, so that no intermediary can be made to see
other requests than we do (request smuggling; RFC 9112, sections 6.3 and 11.2):

    POST /v1/check HTTP/1.1            these very bytes: no absolute form, no query, no HTTP/1.0;
                                       or for switches /ofrep/v1/evaluate/flags, alone or with
                                       /KEY of letters, digits, dots, underscores and hyphens
    Name: value                        a token, a colon at once, then printable ASCII; CRLF ends
                                       it, and no line begins with a blank (obs-fold)
    Content-Length: 1 to 65536         there, digits only
    Host                               there
    Connection: keep-alive | close     these words only, if there
    Authorization                      may be there; what it says is identity.py's matter
    no name comes twice

Declined, whatever their value: Transfer-Encoding, Content-Encoding, Expect, Upgrade, Origin (its
answer has CORS headers), Trailer, Proxy-Connection (which aiohttp's parser obeys as Connection),
Sec-WebSocket-Key1 (which it refuses); and heads over HEAD_BYTES or HEAD_FIELDS. Whoever is
declined is read by aiohttp's parser from the first byte on.
"""

import re

from gateway.headers import is_msgpack, wants_msgpack
from gateway.request import BODY_BYTES

CHECK, ONE_SWITCH, ALL_SWITCHES = range(3)
"""What an ordinary request asks for."""

STARTS = (b"POST /v1/check HTTP/1.1\r\n", b"POST /ofrep/v1/evaluate/flags")
END = b"\r\n\r\n"
HEAD_BYTES = 4_096
HEAD_FIELDS = 100
"""Fewer than aiohttp's parser refuses."""

REMEMBERED_HEADS = 1_024
"""A phone's head differs from another's in few ways; edges add ids to it, and then it is read."""

_SHAPE = re.compile(
    rb"POST /(?:v1/check|(ofrep)/v1/evaluate/flags(?:/((?=[^ /]*[\w-])[\w.-]{1,64}))?) HTTP/1\.1"
    rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*)+\r\n\r\n"
)
_FIELD = re.compile(rb"\r\n([^:]+):([^\r]*)")
_DECLINED = frozenset(
    (
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"origin",
        b"trailer",
        b"proxy-connection",
        b"sec-websocket-key1",
        b"authorization",  # another one, see _read
    )
)
_AUTHORIZATION = re.compile(rb"\r\n[Aa]uthorization:([\t\x20-\x7e]*)(?=\r\n)")
_LENGTH = re.compile(rb"[0-9]{1,5}")
_CONNECTION = {b"keep-alive": False, b"close": True}


class Head:
    """What a head says: bytes of body, notation in and out, and whether the connection ends.

    `kind` is what is asked for, `key` the one switch of it, `matches` the value of If-None-Match,
    `authorization` that of Authorization.
    """

    __slots__ = (
        "authorization",
        "closes",
        "key",
        "kind",
        "length",
        "matches",
        "packed_in",
        "packed_out",
    )

    def __init__(
        self,
        length: int,
        packed_in: bool,
        packed_out: bool,
        closes: bool,
        kind: int = CHECK,
        key: str | None = None,
        matches: str | None = None,
        authorization: bytes | None = None,
    ) -> None:
        self.authorization = authorization
        self.kind = kind
        self.key = key
        self.matches = matches
        self.length = length
        self.packed_in = packed_in
        self.packed_out = packed_out
        self.closes = closes

    def authorized(self, authorization: bytes) -> "Head":
        """Give the same head with this Authorization."""
        return Head(
            self.length,
            self.packed_in,
            self.packed_out,
            self.closes,
            self.kind,
            self.key,
            self.matches,
            authorization,
        )


def read_head(head: bytes) -> Head | None:
    """Read a head, its empty line too; None when the quick path does not take it."""
    if len(head) > HEAD_BYTES:
        return None
    rest, authorization = _apart(head)
    found = _read(rest)
    if found is None or authorization is None:
        return found
    return found.authorized(authorization)


def _apart(head: bytes) -> tuple[bytes, bytes | None]:
    """Take Authorization out of a head: what is left, and its value, None without one."""
    field = _AUTHORIZATION.search(head) if b"uthorization:" in head else None
    if field is None:
        return head, None
    return head[: field.start()] + head[field.end() :], field[1].strip(b" \t")


def _read(head: bytes) -> Head | None:
    """Read a head from which Authorization has been taken; if it had two, it is declined."""
    shape = _SHAPE.fullmatch(head)
    if shape is None:
        return None
    pairs = _FIELD.findall(head)
    fields = {name.lower(): value.strip(b" \t") for name, value in pairs}
    if len(fields) != len(pairs) or len(pairs) > HEAD_FIELDS:
        return None
    if b"host" not in fields or not _DECLINED.isdisjoint(fields):
        return None
    length = fields.get(b"content-length", b"")
    closes = _CONNECTION.get(fields.get(b"connection", b"keep-alive").lower())
    if _LENGTH.fullmatch(length) is None or not 0 < int(length) <= BODY_BYTES or closes is None:
        return None
    kind = CHECK if shape[1] is None else ALL_SWITCHES if shape[2] is None else ONE_SWITCH
    return Head(
        int(length),
        kind == CHECK and is_msgpack(_text(fields.get(b"content-type"))),
        kind == CHECK and wants_msgpack(_text(fields.get(b"accept"))),
        closes,
        kind,
        _text(shape[2]),
        _text(fields.get(b"if-none-match")) if kind == ALL_SWITCHES else None,
    )


def may_begin(data: bytes) -> bool:
    """Tell whether this may be the beginning of a head that the quick path takes."""
    return len(data) <= HEAD_BYTES and any(data.startswith(each[: len(data)]) for each in STARTS)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii")


class Heads:
    """Heads read before: the same bytes mean the same. `known.get(head)`, else `learn(head)`.

    Those about switches are remembered apart, as there is one for each switch, so that they
    never crowd out those of checks; and not those with an ETag, which each client has its own of.
    A client has its own Authorization, too: the head is remembered without it.
    """

    __slots__ = ("_of_switches", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, Head] = {}
        self._of_switches: dict[bytes, Head] = {}

    def learn(self, head: bytes) -> Head | None:
        """Read a head as read_head does, and remember it if the quick path takes it."""
        if len(head) > HEAD_BYTES:
            return None
        rest, authorization = _apart(head)
        found = self.known.get(rest) or self._learn(rest)
        if found is None or authorization is None:
            return found
        return found.authorized(authorization)

    def _learn(self, head: bytes) -> Head | None:
        known = self._of_switches.get(head)
        if known is not None:
            return known
        found = _read(head)
        if found is not None and found.matches is None:
            remembered = self._of_switches if found.kind else self.known
            if len(remembered) >= REMEMBERED_HEADS:
                remembered.clear()
            remembered[head] = found
        return found
