"""Answers that a client reads: whole ones, damaged ones, and those of years to come."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.answer import Answer, Download, read_answer
from loadtest.client.fault import UnusableError

APP = "2021000000000001"
SHA, OTHER, THIRD = "a" * 64, "b" * 64, "c" * 64
FULL = {
    "app": APP,
    "status": "update",
    "version": "1.0.0.2",
    "release": "first-10k",
    "upgrade": "silent",
    "download": "wifi",
    "info": {"entry": "/index.html"},
    "package": {
        "size": 1_048_576,
        "sha256": SHA,
        "urls": ["https://a/x", "https://b/x"],
        "compression": "zstd",
        "transfer_size": 301_222,
        "transfer_sha256": OTHER,
    },
    "patch": {
        "from": "1.0.0.1",
        "format": "bsdiff4",
        "urls": ["https://a/p"],
        "transfer_size": 20_480,
        "transfer_sha256": THIRD,
    },
    "signatures": ["a.b.c"],
}


def read(entry: dict[str, Any], **more: Any) -> Answer:
    return read_answer(
        json.dumps({"epoch": 42, "check_after": 1733, "apps": [entry], **more}).encode()
    )


def test_an_answer_is_read_as_it_is_meant() -> None:
    """The patch comes before the full package, each with the digests of its own bytes."""
    answer = read(FULL)
    offer = answer.apps[APP].offer
    assert answer.check_after == 1733
    assert offer is not None
    assert (offer.version, offer.release, offer.size, offer.sha256) == (
        *("1.0.0.2", "first-10k", 1_048_576, SHA),
    )
    assert offer.downloads == (
        Download(("https://a/p",), 20_480, THIRD, "bsdiff4", False, "1.0.0.1"),
        Download(("https://a/x", "https://b/x"), 301_222, OTHER, "zstd"),
    )
    assert (offer.wifi_only, offer.info, offer.signatures) == (True, FULL["info"], ("a.b.c",))


def test_without_transfer_members_the_url_gives_the_file() -> None:
    """Where transfer_size and transfer_sha256 are absent, the bytes at the URL are the file."""
    package = {"size": 10, "sha256": SHA, "urls": ["https://a/x"]}
    offer = read({**FULL, "package": package, "patch": None}).apps[APP].offer
    assert offer is not None
    assert offer.downloads == (Download(("https://a/x",), 10, SHA, "identity"),)


def test_the_guides_answer_is_one() -> None:
    """The example that phone developers read is an answer with a patch and a full package."""
    guide = (Path(__file__).parent.parent / "loadtest/client/README.md").read_text()
    (text,) = re.findall(r"^```json\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    offer = read_answer(text.encode()).apps[APP].offer
    assert offer is not None
    assert [each.form for each in offer.downloads] == ["bsdiff4", "zstd"]
    assert all(each.encrypted for each in offer.downloads)


def test_what_is_not_known_is_passed_over() -> None:
    """Members, statuses and values of years to come break nothing."""
    later = {**FULL, "colour": {"deep": [1]}, "download": "over the moon", "install": 7}
    offer = read(later, weather="fine").apps[APP].offer
    assert offer is not None
    assert not offer.wifi_only
    assert read({"app": APP, "status": "recalled"}).apps[APP].status == "recalled"


PACKAGE = FULL["package"]


@pytest.mark.parametrize(
    "entry",
    [
        {**FULL, "package": None},
        {**FULL, "version": 2},
        {**FULL, "version": "1\n2"},
        {**FULL, "version": ""},
        {**FULL, "release": None},
        {**FULL, "encryption": {"format": "rot13"}},
        {**FULL, "encryption": None},
        {**FULL, "info": json.loads("[" * 100 + "]" * 100)},
        *(
            {**FULL, "package": {**PACKAGE, name: value}}
            for name, value in [
                ("size", -1),
                ("size", True),
                ("size", 1.0),
                ("size", 1 << 53),
                ("sha256", SHA.upper()),
                ("sha256", SHA + "\n"),
                ("sha256", "../" * 21 + "a"),
                ("urls", []),
                ("urls", "https://a"),
                ("urls", ["file:///etc/passwd", 7]),
                ("transfer_size", None),
                ("transfer_sha256", "x"),
                ("compression", 5),
            ]
        ),
        {**FULL, "package": {n: PACKAGE[n] for n in ("size", "sha256", "urls", "compression")}},
        {"app": APP, "status": 5},
        {"app": APP},
    ],
)
def test_a_fault_in_one_app_is_that_apps_alone(entry: dict[str, Any]) -> None:
    """What cannot be installed is no offer, and says why; the other app has its own."""
    other = {**FULL, "app": "other"}
    answer = read_answer(json.dumps({"check_after": 5, "apps": [entry, other]}).encode())
    assert answer.apps[APP].offer is None
    assert answer.apps[APP].detail
    assert answer.apps["other"].offer is not None


@pytest.mark.parametrize("name", ["from", "format", "urls", "transfer_size", "transfer_sha256"])
def test_a_patch_with_a_fault_is_none(name: str) -> None:
    """A patch that lacks a member leaves the full package."""
    patch = {key: value for key, value in FULL["patch"].items() if key != name}
    offer = read({**FULL, "patch": patch}).apps[APP].offer
    assert offer is not None
    assert [each.base for each in offer.downloads] == [None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Please log in to the hotel's network</html>",
        b"[]",
        b'"apps"',
        b"{}",
        b'{"check_after": 5}',
        b'{"apps": [], "check_after": -1}',
        b'{"apps": [], "check_after": 1.5}',
        b'{"apps": [], "check_after": true}',
        b'{"apps": {}, "check_after": 5}',
        b'{"type": "about:blank", "title": "Overloaded", "status": 503}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"check_after": ' + b"9" * 10_000 + b', "apps": []}',
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    """A captive portal's page, a problem, or half a body is no answer, whatever its status."""
    with pytest.raises(UnusableError):
        read_answer(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["package", "patch", "size", "sha256", "urls", "status", "encryption"])


@given(body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever comes, it is an answer or an UnusableError."""
    with suppress(UnusableError):
        assert isinstance(read_answer(body), Answer)


@given(outer=st.dictionaries(MEMBERS, JSON), inner=st.dictionaries(MEMBERS, JSON))
def test_any_damage_to_an_app_is_read(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    """Whatever an app's members are, the answer is read, and an offer has all that it needs."""
    entry = {**FULL, "package": {**PACKAGE, **inner}, "patch": {**FULL["patch"], **inner}, **outer}
    for said in read(entry).apps.values():
        if said.offer is not None:
            assert all(each.urls and len(each.sha256) == 64 for each in said.offer.downloads)
            assert said.offer.downloads[-1].base is None
