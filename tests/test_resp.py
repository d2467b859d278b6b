"""Redis's protocol: what is cut anywhere reads as the whole; what is no answer is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resp import BrokenReplyError, mget, read_head, read_values

VALUES = st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=8)


def written(values: list[bytes | None], null: bytes) -> bytes:
    """Write values as Redis does."""
    return b"".join(
        null if each is None else b"$%d\r\n%b\r\n" % (len(each), each) for each in values
    )


def test_an_mget_is_written_as_redis_reads_it() -> None:
    """The command is an array of bulk strings, whose lengths count bytes."""
    assert mget([b"a", b"bc"]) == b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$2\r\nbc\r\n"


@given(VALUES, st.sampled_from([b"$-1\r\n", b"_\r\n"]), st.data())
def test_values_cut_anywhere_are_read_once(
    values: list[bytes | None], null: bytes, data: st.DataObject
) -> None:
    """Each value is read when it is whole, in order, whatever arrives together."""
    stream = written(values, null)
    cut = data.draw(st.integers(0, len(stream)))
    first, at = read_values(stream[:cut], 0, len(values))
    second, end = read_values(stream, at, len(values) - len(first))
    assert first + second == values
    assert end == len(stream)
    assert at <= cut


def test_no_more_is_read_than_was_asked_for() -> None:
    """What follows the last value belongs to the next answer."""
    assert read_values(b"$1\r\na\r\n$1\r\nb\r\n", 0, 1) == ([b"a"], 7)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", (None, 0)),
        (b"*1", (None, 0)),
        (b"*12\r\n$1", (12, 5)),
        (b"-LOADING wait\r\n", ("LOADING wait", 15)),
    ],
)
def test_a_head_tells_how_many_follow_or_why_none(
    data: bytes, found: tuple[int | str | None, int]
) -> None:
    """Half a line is no head yet; a refusal is a whole answer."""
    assert read_head(data, 0) == found


@pytest.mark.parametrize("data", [b"$1\r\na\r\n", b"+OK\r\n", b"*x\r\n", b"x" * 5_000])
def test_what_is_no_head_is_refused(data: bytes) -> None:
    """Nothing else is taken for the head of an answer."""
    with pytest.raises(BrokenReplyError):
        read_head(data, 0)


@pytest.mark.parametrize(
    "data",
    [
        b":1\r\n",
        b"$\r\n",
        b"$-2\r\n",
        b"$99999999999\r\n",
        b"-ERR\r\n",
        b"*1\r\n",
        b"$1\r\nabc\r\n",
    ],
)
def test_what_is_no_value_is_refused(data: bytes) -> None:
    """A value is a bulk string that ends where it says, or a null."""
    with pytest.raises(BrokenReplyError):
        read_values(data, 0, 1)
