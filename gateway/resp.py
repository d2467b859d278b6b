r"""Redis's protocol, as far as one command needs it: ask with MGET, read the answer. Pure.

    *3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n   asks for two keys
    *2\r\n$5\r\nhello\r\n$-1\r\n               the value of the first; the second is missing
    -LOADING Redis is loading\r\n           or a refusal instead of all that

An answer comes in pieces, cut anywhere. What is read begins `at` a place in the bytes, and ends at
the place that is told; what has not arrived whole is left to be read again with more behind it. A
missing key is `_` in RESP3. Both readers raise BrokenReplyError for anything else, after which
nothing on that connection can be trusted.
"""

from collections.abc import Sequence

from gateway.errors import TidegateError

_END = b"\r\n"
_ARRAY, _BULK, _REFUSAL, _NULL = b"*$-_"
_LINE_BYTES = 4_096
_VALUE_BYTES = 1 << 24
"""Far above any bucket: a length beyond it is no length."""


class BrokenReplyError(TidegateError):
    """What came is no answer to an MGET."""


def mget(keys: Sequence[bytes]) -> bytes:
    """Write the command that reads all these keys."""
    parts = [b"*%d\r\n$4\r\nMGET\r\n" % (len(keys) + 1)]
    parts += [b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    return b"".join(parts)


def read_head(data: bytes, at: int) -> tuple[int | str | None, int]:
    """Read how many values follow, or Redis's refusal; None when the line is not there yet."""
    end = _line_end(data, at)
    if end < 0:
        return None, at
    kind = data[at]
    if kind == _REFUSAL:
        return data[at + 1 : end].decode(errors="replace"), end + 2
    if kind != _ARRAY:
        raise BrokenReplyError(f"Redis answered MGET with {data[at:end][:80]!r}")
    return _number(data, at, end), end + 2


def read_values(data: bytes, at: int, count: int) -> tuple[list[bytes | None], int]:
    """Read values, so many at most, as far as they have arrived; None is a missing key's."""
    values: list[bytes | None] = []
    size = len(data)
    while len(values) < count:
        end = _line_end(data, at)
        if end < 0:
            break
        kind = data[at]
        length = _number(data, at, end) if kind == _BULK else -1
        stop = end + 2
        if length >= 0:
            stop += length + 2
            if size < stop:
                break
            if data[stop - 2 : stop] != _END:
                raise BrokenReplyError(
                    "Redis answered MGET with a value that does not end where it says"
                )
            values.append(data[end + 2 : stop - 2])
        elif kind in (_BULK, _NULL):
            values.append(None)
        else:
            raise BrokenReplyError(f"Redis answered MGET with the value {data[at:end][:80]!r}")
        at = stop
    return values, at


def _line_end(data: bytes, at: int) -> int:
    end = data.find(_END, at, at + _LINE_BYTES)
    if end < 0 and len(data) >= at + _LINE_BYTES:
        raise BrokenReplyError("Redis answered MGET with a line that does not end")
    return end


def _number(data: bytes, at: int, end: int) -> int:
    try:
        number = int(data[at + 1 : end])
    except ValueError:
        number = _VALUE_BYTES + 1
    if not -1 <= number <= _VALUE_BYTES:
        raise BrokenReplyError(f"Redis answered MGET with the length {data[at:end][:80]!r}")
    return number
