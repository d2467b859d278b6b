"""Law 10 against who may forge answers and packages, and has none of the trusted keys."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdn
from loadtest.client import Trust, read_keys
from phone_shop import (
    Shop,
)
from phone_ways import (
    SOAK,
    WAYS,
    downloads,
    forged,
    phone,
)
from stock import run_here

FLIPS = settings(max_examples=3_000 if SOAK else 60, deadline=None, derandomize=not SOAK)


@FLIPS
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), fresh=st.booleans())
def test_a_flipped_byte_in_the_answer(world: Shop, place: float, mask: int, fresh: bool) -> None:
    """Anywhere in the answer to a check: of a signed app nothing else is ever installed."""
    found = phone(world, "signed" if fresh else "signed, patch")

    def flip(body: bytes) -> bytes:
        data = bytearray(body)
        data[int(place * len(data))] ^= mask
        return bytes(data)

    found.gateway = world.gate.base
    world.gate.fault = cdn.only("/v1/check", cdn.rewritten(flip))
    found.round()
    found.heal()


def _part(number: int, change: Callable[[bytes], bytes]) -> Callable[[dict[str, Any]], None]:
    """Change a part of the signature: header, payload, or the signature itself."""

    def forge(app: dict[str, Any]) -> None:
        parts = app["signatures"][0].split(".")
        data = change(base64.urlsafe_b64decode(parts[number] + "=="))
        parts[number] = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        app["signatures"] = [".".join(parts)]

    return forge


def _other_bytes(app: dict[str, Any]) -> None:
    app["package"] |= {"sha256": "0" * 64, "size": 9}


SIGNED_WAYS = ["signed", "signed, patch", *(way for way in WAYS if way.startswith("encrypted"))]
FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "none": lambda app: app.update(signatures=[]),
    "no member": lambda app: app.pop("signatures", None),
    "no text": lambda app: app.update(signatures=[7, None, "", "a.b", "a.b.c"]),
    "another signature": _part(2, lambda data: bytes([data[0] ^ 1]) + data[1:]),
    "other claims": _part(1, lambda data: data.replace(b'"size":', b'"size":1')),
    "no algorithm": _part(0, lambda data: data.replace(b"EdDSA", b"none")),
    "another algorithm": _part(0, lambda data: data.replace(b"EdDSA", b"HS256")),
    "another key": _part(0, lambda data: data.replace(b'"kid":"', b'"kid":"x')),
    "another version": lambda app: app.update(version="3.0"),
    "other bytes": _other_bytes,
}


def test_sound_bytes_that_make_another_package(world: Shop) -> None:
    """A form or patch that is whole, and leads to other bytes than announced, is not installed."""
    for way, sent in (("full, zstd", ".zst"), ("bsdiff4", ".bsdiff4")):
        found = phone(world, "rollback, patch" if way == "bsdiff4" else "rollback")
        found.round()
        (request,) = downloads(world)
        assert request.path.endswith(sent)
        _, body = cdn.fetch(world.nginx.base + request.path)
        other = {
            "urls": [world.nginx.base + request.path],
            "transfer_size": len(body),
            "transfer_sha256": hashlib.sha256(body).hexdigest(),
        }

        def swap(app: dict[str, Any], other: dict[str, Any] = other) -> None:
            app["package"] |= other | {"compression": "zstd"}
            if "patch" in app:
                app["patch"] |= other

        found = phone(world, way)
        found.gateway = world.gate.base
        world.gate.fault = forged(swap)
        result = found.round()
        assert (result.outcome, result.version) == ("failed", found.before), result
        found.heal()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_wrong_signature(world: Shop, forgery: str) -> None:
    """Where keys are trusted nothing is installed, nor a byte fetched, that none of them signed."""
    for way in SIGNED_WAYS:
        found = phone(world, way)
        found.gateway = world.gate.base
        world.gate.fault = forged(FORGERIES[forgery])
        result = found.round()
        assert (result.outcome, result.version) == ("failed", found.before), result
        assert downloads(world) == []
        found.heal()


def test_an_unknown_key(world: Shop, tmp_path: Path) -> None:
    """Signed by a key that the phone does not trust, or not at all: what it had stays."""
    names = ("--for", "packages", "--dir", str(tmp_path), "--no-passphrase")
    run_here(world.place, "keygen", "eve", *names)
    eve = Trust(keys=read_keys(str(tmp_path / "eve.pub")))
    for way in (*SIGNED_WAYS, "full", "zstd-patch", "rollback"):
        found = phone(world, way)
        found.trust = replace(eve, identities=found.whom().identities)
        result = found.round()
        assert (result.outcome, result.version) == ("failed", found.before), result
        assert downloads(world) == []
        found.trust = None
        found.heal()


def test_without_its_identity_nothing_is_opened(world: Shop, tmp_path: Path) -> None:
    """An encrypted package stays closed to a phone without the app's identity, or with another."""
    names = ("--for", "devices", "--dir", str(tmp_path), "--no-passphrase")
    run_here(world.place, "keygen", "eve", *names)
    secret = (tmp_path / "eve.age-key").read_text().splitlines()[-1]
    for way in (each for each in WAYS if each.startswith("encrypted")):
        for identities in ([], [secret]):
            found = phone(world, way)
            found.trust = replace(found.whom(), identities=identities)
            result = found.round()
            assert (result.outcome, result.version) == ("failed", found.before), result
            found.trust = None
            found.heal()


def test_plain_bytes_of_an_encrypted_app_never_reach_the_store(world: Shop) -> None:
    """Of SECRET's forms and patches each is an age file; the plain package is of other apps."""
    for way in (each for each in WAYS if each.startswith("encrypted")):
        phone(world, way).round()
        (request,) = downloads(world)
        status, body = cdn.fetch(world.nginx.base + request.path)
        assert status == 200 and body.startswith(b"age-encryption.org/v1\n")
