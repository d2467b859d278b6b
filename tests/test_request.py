"""Reading a request: what is forgiven, and that both notations mean the same."""

from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.check import Check
from gateway.errors import RequestError
from gateway.request import BODY_BYTES, parse_body, parse_query

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["apps", "user", "device", "custom", "platform", "dry_run", "x"])


@given(st.dictionaries(NAMES, JSON_VALUES))
def test_json_and_messagepack_mean_the_same(sent: dict[str, Any]) -> None:
    """A request means the same in both notations: the same check, or the same refusal."""
    as_json = _outcome(orjson.dumps(sent), packed=False)
    as_msgpack = _outcome(msgpack.packb(sent), packed=True)
    assert _content(as_json) == _content(as_msgpack)


@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_are_a_check_or_a_refusal(body: bytes, packed: bool) -> None:
    """No bytes make anything but a Check or a RequestError of status 400."""
    found = _outcome(body, packed=packed)
    assert isinstance(found, Check) or found[0] == 400


def _content(outcome: Any) -> Any:
    names = ("sent", "custom", "user", "device", "apps", "dry_run", "user_hash", "device_hash")
    if isinstance(outcome, Check):
        return [getattr(outcome, name) for name in names]
    return outcome


def _outcome(body: bytes, *, packed: bool) -> Any:
    try:
        return parse_body(body, packed=packed)
    except RequestError as fault:
        return fault.status, str(fault)


def test_the_example_of_the_contract_is_read() -> None:
    """The check printed in the design is read member by member."""
    check = parse_body(
        b'{"user": "u-8841", "device": "d-5f0c", "platform": "android", "os_version": "14",'
        b'"custom": {"tier": "gold"}, "accept": ["zstd", "bsdiff4"],'
        b'"apps": {"2021000000000001": "1.0.0.1", "2021000000000002": null}, "dry_run": true}',
        packed=False,
    )
    assert (check.user, check.device, check.dry_run) == ("u-8841", "d-5f0c", True)
    assert check.custom == {"tier": "gold"}
    assert check.apps == {"2021000000000001": "1.0.0.1", "2021000000000002": None}
    assert check.sent["os_version"] == "14"
    assert check.sent["accept"] == ["zstd", "bsdiff4"]


@pytest.mark.parametrize("value", ["5", '""', "null", "[]", "true", '{"id": "u"}'])
def test_an_id_that_is_no_text_was_not_sent(value: str) -> None:
    """An empty id, and one of another kind, counts as not sent and breaks nothing."""
    check = parse_body(f'{{"apps": {{}}, "user": {value}}}'.encode(), packed=False)
    assert check.user is None


def test_limits_are_met_exactly() -> None:
    """What is at a limit is read: 64 KiB, 100 apps, ids of 256 bytes."""
    apps = ",".join(f'"a{at}":null' for at in range(100))
    ids = f'"user":"{"u" * 256}","device":"{"é" * 128}"'
    body = f'{{"apps":{{{apps}}},{ids}}}'.encode()
    check = parse_body(body + b" " * (BODY_BYTES - len(body)), packed=False)
    assert len(check.apps) == 100
    assert check.user == "u" * 256
    assert check.device == "é" * 128


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gold", "gold"),
        ("5", 5),
        ("5.5", 5.5),
        ("true", True),
        ("%22true%22", "true"),
        ("null", "null"),
        ("[1]", "[1]"),
        ("1.2.3", "1.2.3"),
        ("a+b", "a b"),
        ("", ""),
    ],
)
def test_a_custom_value_in_a_query_is_what_json_reads(text: str, value: Any) -> None:
    """Numbers, true, false and quoted texts are read as JSON; all else is the text itself."""
    found = parse_query("app", f"custom.tier={text}").custom["tier"]
    assert (found, type(found)) == (value, type(value))


def test_a_query_asks_what_a_body_asks() -> None:
    """GET builds the same check as POST does, for one app."""
    check = parse_query(
        "a", "installed=1.0.0.1%2Bb7&user=u&device=d&brand=Xiaomi&accept=gzip,zstd&dry_run=1&x=y"
    )
    assert check.apps == {"a": "1.0.0.1+b7"}
    assert (check.user, check.device, check.dry_run) == ("u", "d", True)
    assert check.sent["brand"] == "Xiaomi"
    assert check.sent["accept"] == ["gzip", "zstd"]
    assert parse_query("a", "").apps == {"a": None}
    assert not parse_query("a", "").dry_run


def test_raw_bytes_in_an_address_are_refused() -> None:
    """A lone surrogate, which is how raw bytes arrive, never reaches a hash."""
    with pytest.raises(RequestError, match="not UTF-8"):
        parse_query("a", "user=\udcff")
    with pytest.raises(RequestError, match="not UTF-8"):
        parse_query("\udcff", "")
