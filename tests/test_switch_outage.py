"""Switches against a real Redis: members are remembered, and an outage flips nothing."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import msgpack
import pytest

import processes
from controllers import ask, epoch_of
from gateway.ofrep import ContextError, parse_context
from publishing import Workshop, image_of, plan_files

PATIENT = {"LOOKUP_TIMEOUT_MS": "10000"}
"""Before the outage nobody is uncertain because the machine is busy."""

SWITCHES = """switches:
  - key: new-home
    variants: {on: true, off: false}
    default: off
    targeting: [{variant: on, audience: {lists: staff}}]
  - key: plain
    variants: {a: 1, b: 2}
    default: a
    targeting: [{variant: b, audience: {percent: 100}}, {variant: a, audience: {lists: staff}}]
"""


def _ask(url: str, user: str, key: str = "", **headers: str) -> tuple[int, Any, Any]:
    body = json.dumps({"context": {"user": user}}).encode()
    asked = urllib.request.Request(f"{url}/ofrep/v1/evaluate/flags{key}", body, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return response.status, json.loads(response.read()), response.headers["ETag"]
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read(), fault.headers["ETag"]


def test_an_outage_flips_no_switch(tmp_path: Path) -> None:
    """Who was a member stays one; who was never asked about is told that it is not certain.

    A client that has the answer keeps it: its ETag holds without Redis.
    """
    with processes.redis_server(tmp_path / "redis") as server:
        workshop = Workshop(tmp_path / "store", server.client())
        files = plan_files(staff=True) | {"switches.yaml": SWITCHES}
        workshop.push(image_of(files, {"staff": [f"u-{n}" for n in range(100)]}))
        with processes.running_gateway(tmp_path / "gateway", server.url, **PATIENT) as gateway:
            on = {
                "key": "new-home",
                "value": True,
                "reason": "TARGETING_MATCH",
                "variant": "on",
                "metadata": {},
            }
            assert _ask(gateway.url, "u-1", "/new-home")[:2] == (200, on)
            status, every, tag = _ask(gateway.url, "u-2")
            assert (status, every["flags"][0]) == (200, on)
            server.kill()
            assert _ask(gateway.url, "u-1", "/new-home")[:2] == (200, on)
            assert _ask(gateway.url, "u-2") == (200, every, tag)
            assert _ask(gateway.url, "u-3", **{"If-None-Match": tag})[2] is None
            assert _ask(gateway.url, "u-2", **{"If-None-Match": tag}) == (304, b"", tag)
            _, doubtful, no_tag = _ask(gateway.url, "u-4")
            assert no_tag is None
            assert doubtful["flags"][0]["metadata"] == {"degraded": True}
            assert doubtful["flags"][0]["value"] is False
            # Its first row holds whatever the list says.
            assert doubtful["flags"][1]["metadata"] == {}
            body = json.dumps({"user": "u-5", "switches": True}).encode()
            for accept in ("application/json", "application/msgpack"):
                asked = urllib.request.Request(
                    f"{gateway.url}/v1/check", body, headers={"Accept": accept}
                )
                with urllib.request.urlopen(asked, timeout=30) as response:
                    read = json.loads if accept.endswith("json") else msgpack.unpackb
                    told = read(response.read())
                assert told["apps"] == []
                assert told["switches"] == {
                    "new-home": {"variant": "off", "value": False, "degraded": True},
                    "plain": {"variant": "b", "value": 2},
                }


def test_an_outage_after_a_push_flips_no_switch(tmp_path: Path) -> None:
    """Who was a member by the lists of before stays one, but that is not certain.

    Where a list excludes, who was on none may be on it now, and counts as a member.
    """
    switches = (
        SWITCHES
        + """  - key: outsiders
    variants: {a: 1, b: 2}
    default: a
    targeting: [{variant: b, audience: {not_lists: staff}}]
"""
    )
    with processes.redis_server(tmp_path / "redis") as server:
        workshop = Workshop(tmp_path / "store", server.client())
        files = plan_files(staff=True) | {"switches.yaml": switches}
        staff = [f"u-{n}" for n in range(100)]
        workshop.push(image_of(files, {"staff": staff}))
        with processes.running_gateway(tmp_path / "gateway", server.url, **PATIENT) as gateway:
            before = {at: _ask(gateway.url, f"u-{at}", "/new-home")[1]["value"] for at in (1, 2)}
            assert before == {1: True, 2: True}
            files["lists.yaml"] += "  - {list: a-list, of: user, file: other.txt}\n"
            workshop.push(image_of(files, {"staff": [*staff, "x"], "a-list": ["y", "z"]}))
            processes.wait_until(lambda: epoch_of(gateway) == 2, "the push is served")
            server.kill()
            for at in (1, 2):
                _, found, tag = _ask(gateway.url, f"u-{at}")
                told = {flag["key"]: flag for flag in found["flags"]}
                assert tag is None
                assert (told["new-home"]["value"], told["outsiders"]["value"]) == (True, 1)
                assert told["new-home"]["metadata"] == {"degraded": True}
                assert told["plain"]["metadata"] == {}
                body = {"user": f"u-{at}", "switches": True}
                member = ask(gateway, "/v1/check", body)["switches"]["new-home"]
                assert member == {"variant": "on", "value": True, "degraded": True}


def _read(body: bytes) -> Any:
    return parse_context(body, ["unknown", "0"])


def test_a_context_is_read_as_a_check() -> None:
    """Names are those of a check; `targetingKey` stands in for a missing device only.

    A placeholder is no device; and an id that is too long is refused by the name it came under.
    """
    read = _read(b'{"context":{"targetingKey":"t","device":"d","custom.tier":"gold"}}')
    assert read.device == "d"
    assert read.custom == {"tier": "gold"}
    for device in ("null", '""', "7", "{}", '"Unknown"', '"0"'):
        found = _read(b'{"context":{"targetingKey":"t","device":%b}}' % device.encode())
        assert found.device == "t"
    assert _read(b"{}").device is None
    assert _read(b'{"context":{"targetingKey":7}}').device is None
    for name in ("targetingKey", "device", "user"):
        with pytest.raises(ContextError, match=f"`{name}` is 257 bytes long"):
            _read(b'{"context":{"%b":"%b"}}' % (name.encode(), b"d" * 257))
    assert _read(b'{"context":{"custom":{"a":1},"custom.b":2}}').custom == {"a": 1, "b": 2}
