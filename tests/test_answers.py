"""Which form and patch an answer names, against a plain search; what is signed, how long."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import layout
from gateway.answer import OTHER, Answer, Status, accepted, choose, offer, render
from gateway.apps import Apps, Entry
from gateway.cdn import Cdn
from gateway.errors import FormatError
from gateway.program import NO_RELEASE
from gateway.remembered import Memory, Remembered
from gateway.version import parse_version

SECRET = "a secret of sixteen"
VERSIONS = ["1.0", "1.1", "1.2-beta", "2"]
NAMES = ["gzip", "zstd", "bsdiff4", "zstd-patch", "br", "age", ""]


def _form(compression: str, size: int) -> layout.FormEntry:
    sha256 = hashlib.sha256(f"{compression} {size}".encode()).hexdigest()
    return {"compression": compression, "size": size, "sha256": sha256, "path": f"f/{compression}"}


def _patch(installed: str, name: str, size: int) -> layout.PatchEntry:
    sha256 = hashlib.sha256(f"{installed} {name} {size}".encode()).hexdigest()
    path = f"p/{installed}.{name}"
    return {"installed": installed, "format": name, "size": size, "sha256": sha256, "path": path}


def _package(
    forms: list[layout.FormEntry], patches: list[layout.PatchEntry], key: str | None
) -> layout.PackageEntry:
    return {
        "version": "3",
        "download": "any",
        "install": "on_open",
        "info": None,
        "size": 1_000,
        "sha256": "ab" * 32,
        "forms": forms,
        "encryption": None if key is None else {"format": "age", "key_id": key},
        "patches": patches,
        "signatures": [],
    }


def _offer(package: layout.PackageEntry, installed: str | None, accept: Any) -> dict[str, Any]:
    have = None if installed is None else parse_version(installed)
    return offer(
        {"id": "stable", "package": 0, "upgrade": "silent"},
        package,
        lambda path: [f"https://cdn.example.com/{path}"],
        choose(package, have, accepted(accept)),
        forced=False,
    )


sizes = st.integers(1, 2_000)
packages = st.builds(
    _package,
    st.lists(st.builds(_form, st.sampled_from(["gzip", "zstd"]), sizes), max_size=2).map(
        lambda forms: [_form("identity", 1_000), *forms]
    ),
    st.lists(
        st.builds(
            _patch, st.sampled_from(VERSIONS), st.sampled_from(["bsdiff4", "zstd-patch"]), sizes
        ),
        max_size=6,
    ),
    st.sampled_from([None, "coffee-2026"]),
)
accepts = st.one_of(
    st.none(), st.just("zstd"), st.lists(st.one_of(st.sampled_from(NAMES), st.just(7)), max_size=5)
)


@given(packages, st.sampled_from([*VERSIONS, "1.0.0.0", "9", "?", None]), accepts)
def test_the_smallest_that_the_client_opens(
    package: layout.PackageEntry, installed: str | None, accept: Any
) -> None:
    """The form and the patch are the smallest of those opened; a patch is below the form."""
    opens = {"gzip", "bsdiff4"} if not isinstance(accept, list) else set(map(str, accept))
    found = _offer(package, installed, accept)
    forms = [each for each in package["forms"] if each["compression"] in {"identity", *opens}]
    named = found["package"]
    size = named.get("transfer_size", package["size"])
    assert size == min(each["size"] for each in forms)
    assert ("transfer_size" in named) is (
        "compression" in named or package["encryption"] is not None
    )
    assert named["urls"] == [f"https://cdn.example.com/f/{named.get('compression', 'identity')}"]
    have = None if installed is None else parse_version(installed)
    patches = [
        each["size"]
        for each in package["patches"]
        if each["format"] in opens and parse_version(each["installed"]) == have
    ]
    best = min(patches, default=size)
    if best < size:
        assert found["patch"]["transfer_size"] == best
        assert found["patch"]["format"] in opens
        assert parse_version(found["patch"]["from"]) == have
        assert found["patch"]["urls"] == [
            f"https://cdn.example.com/p/{found['patch']['from']}.{found['patch']['format']}"
        ]
    else:
        assert "patch" not in found
    assert found.get("encryption") == package["encryption"]


@given(packages, st.sampled_from(VERSIONS), accepts)
def test_both_notations_say_the_same(
    package: layout.PackageEntry, installed: str, accept: Any
) -> None:
    """What JSON says of an app, MessagePack says as well; info is handed on as it was written."""
    package["info"] = b'{"entry":"/index.html","n":1.50}'
    json, packed = render("coffee", Status.UPDATE, _offer(package, installed, accept))
    assert b'"info":{"entry":"/index.html","n":1.50}' in json
    assert orjson.loads(json) == msgpack.unpackb(packed)
    assert list(orjson.loads(json))[:2] == ["app", "status"]


def _cdn(expires: int | None, secret: str | None = SECRET) -> Cdn:
    rules: list[layout.Cdn] = [
        {"regions": ["cn-*"], "bases": ["https://east.example.com/a b"], "expires": expires},
        {
            "regions": ["*"],
            "bases": ["https://x.example.com", "https://y.example.com"],
            "expires": None,
        },
    ]
    return Cdn(rules, secret, Memory())


@given(st.integers(0, 2**40), st.integers(60, 7 * 86_400))
def test_a_signed_url_holds_for_one_to_two_periods(second: int, expires: int) -> None:
    """Nginx's own sum over expiry, path and secret; the rule beside it is not signed."""
    cdn = _cdn(expires)
    (url,) = cdn.urls(cdn.place(cdn.regions["CN-ZJ"], second), "files/ab/x.zip")
    asked = parse_qs(urlsplit(url).query)
    until = int(asked["expires"][0])
    assert expires < until - second <= 2 * expires
    text = f"{until}/a b/files/ab/x.zip {SECRET}".encode()
    wanted = base64.urlsafe_b64encode(hashlib.md5(text).digest()).decode().rstrip("=")
    assert asked["md5"] == [wanted]
    other = cdn.place(cdn.regions["US"], second)
    assert cdn.urls(other, "f") == ["https://x.example.com/f", "https://y.example.com/f"]


@given(st.integers(0, 2**40), st.integers(60, 3600), st.integers(0, 7200))
def test_a_signed_url_is_one_for_a_period(second: int, expires: int, later: int) -> None:
    """Within a period the place, and so every ready-made byte, is the same; then another."""
    cdn = _cdn(expires)
    same = second // expires == (second + later) // expires
    assert (cdn.place(0, second) == cdn.place(0, second + later)) is same


def test_signing_needs_a_secret() -> None:
    """An epoch that wants signed URLs is refused without one, as its URLs would open nothing."""
    with pytest.raises(FormatError, match="TIDEGATE_URL_SECRET is not set"):
        _cdn(3600, None)
    assert not _cdn(None, None).signs


def _entry(cdn: Cdn, memory: Memory | None = None) -> Entry:
    program: layout.Program = {
        "app": "coffee",
        "packages": [_package([_form("identity", 1_000)], [_patch("1.0", "bsdiff4", 5)], None)],
        "versions": ["1.0", "1.1", "3"],
        "known_releases": ["stable"],
        "halts": [],
        "withdrawn": [],
        "releases": [{"id": "stable", "package": 0, "upgrade": "silent"}],
        "schedule": {"bounds": [], "cells": [b"\1"]},
        "hosts": {"any": b"\1", "platforms": {}},
        "attributes": {},
        "lists": [],
        "percents": [],
        "windows": [],
    }
    blob = layout.encode(layout.Program, program)
    entry = Apps({"coffee": b""}, cdn, {}, lambda _: blob, memory or Memory(), None)["coffee"]
    assert entry is not None
    return entry


def _held(answers: Remembered) -> dict[Any, Answer]:
    return {key: each for key, each in answers.known.items() if isinstance(each, Answer)}


@pytest.mark.parametrize(
    ("installed", "version"),
    [("1.0", "1.0"), ("1.0.0.0", "1.0"), ("1.1", "1.1"), ("0.5", OTHER), ("?", ""), (None, "")],
)
def test_what_is_counted_is_the_plans_own_version(installed: str | None, version: str) -> None:
    """However a phone writes its version, one text is counted; a stranger's is none of its own."""
    entry = _entry(_cdn(None))
    assert entry.answers[0, 1, installed, 0].outcome == ("coffee", "stable", "update", version)
    nothing = entry.answers[NO_RELEASE, 1, installed, 0]
    assert nothing.outcome == ("coffee", "", "none", version)


def test_answers_share_their_bytes() -> None:
    """Phones whose answers are the same share the bytes, but not those that have a patch."""
    answers = _entry(_cdn(None)).answers
    assert answers[0, 1, "1.1", 5].json is answers[0, 1, "0.9", 5].json
    assert b'"patch"' in answers[0, 1, "1.0", 5].json
    assert b'"patch"' not in answers[0, 1, "1.1", 5].json
    assert b'"patch"' not in answers[0, 1, "1.0", 0].json


def test_answers_of_a_period_that_is_over_are_forgotten() -> None:
    """A new period's first answer empties the table, which else would grow with time."""
    cdn = _cdn(60)
    answers = _entry(cdn).answers
    for version in ("1.0", "1.1", "3"):
        assert answers[0, cdn.place(0, 600), version, 0]
    assert len(_held(answers)) == 3
    renewed = answers[0, cdn.place(0, 660), "1.0", 0]
    assert list(_held(answers).values()) == [renewed]
    assert b"expires=780" in renewed.json


def test_the_slower_of_two_signing_rules_forgets_too() -> None:
    """Rules count their periods apart: the hours of one have lower numbers than minutes."""
    rules: list[layout.Cdn] = [
        {"regions": [region], "bases": ["https://cdn.example.com"], "expires": expires}
        for region, expires in (("a", 60), ("*", 3600))
    ]
    cdn = Cdn(rules, SECRET, Memory())
    answers = _entry(cdn).answers
    answers[0, cdn.place(0, 7_200_000), "1.0", 0]
    for hour in range(2_000, 2_010):
        answers[0, cdn.place(1, 3_600 * hour), "1.0", 0]
        assert list(_held(answers)) == [(0, cdn.place(1, 3_600 * hour), "1.0", 0)]


def test_bytes_are_shared_by_what_they_depend_on() -> None:
    """Sixteen ways to say what a client opens give two offers: with a patch and without."""
    answers = _entry(_cdn(None)).answers
    found = {answers[0, 1, "1.0", opened].json for opened in range(16)}
    assert len({id(answers[0, 1, "1.0", opened].json) for opened in range(16)}) == len(found) == 2
    have = [answers[NO_RELEASE, place, "1.0", 5].json for place in range(3)]
    assert have[0] is have[1] is have[2]


@pytest.mark.parametrize("entries", [1, 20, 100, 1_000])
def test_the_bytes_of_answers_are_within_the_workers_bound(entries: int) -> None:
    """Whatever phones send, at 400 bytes an entry; what is too much goes, answers and all."""
    memory = Memory(entries)
    tables = [_entry(_cdn(60), memory).answers for _ in range(10)]
    for second in range(0, 600, 30):
        for turn in range(100):
            place = second // 60 * 3
            answers = tables[turn * 7 % 10]
            answers[0, place, f"0.{turn % 8}", turn % 16]
            held = {id(each.json): each for table in tables for each in _held(table).values()}
            bytes_held = sum(len(each.json) + len(each.msgpack) for each in held.values())
            # One answer may be above a bound that does not hold it.
            assert bytes_held <= 400 * max(entries, 20)
            assert memory.used == sum(table.held for table in tables) <= max(entries, 20)
    assert memory.used > 0
