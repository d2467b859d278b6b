"""Requests with tokens, over HTTP: who counts in checks, in reports and for switches.

Both paths are asked: law 8 holds them to each other, and here they are held to what is right.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

import identities
from epochs import APP, make_epoch
from gateway.hashing import id_hash, id_seed
from identities import bearer
from in_process import FixedLookup, Served, serving, snapshot_of

STAFF = 1
MEMBERS = {id_hash("u-1", id_seed("demo", "user")): STAFF}
MADE = make_epoch(staff=("u-1",), switches=True, identity=identities.settings())
FLAGS = "/ofrep/v1/evaluate/flags"
REPORT = {"app": APP, "release": "stable", "event": "installed"}

Asked = tuple[Served, aiohttp.ClientSession]


@pytest.fixture(params=[True, False], ids=["quick", "ordinary"])
async def asked(request: pytest.FixtureRequest) -> AsyncIterator[Asked]:
    """Serve a workspace with an identity provider, whose staff is u-1."""
    lookup = FixedLookup(MEMBERS)
    async with (
        serving(snapshot_of(MADE), lookup=lookup, quick=request.param) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        yield served, session


def _with(authorization: bytes | None) -> dict[str, str]:
    return {} if authorization is None else {"Authorization": authorization.decode()}


NOBODY = {
    "nothing": None,
    "another scheme": b"Basic dS0xOng=",
    "expired": bearer(exp=1_000_000_000),
    "a stranger's": bearer(signed_by="ed-evil"),
    "of another service": bearer(aud="kiosks"),
    "no token": b"Bearer x",
}


async def _version(session: aiohttp.ClientSession, token: bytes | None, **sent: Any) -> str:
    """Ask by POST and by GET, which must agree, and give the version that is offered."""
    body = orjson.dumps({"apps": {APP: None}, **sent})
    posted = await session.post("/v1/check", data=body, headers=_with(token))
    got = await session.get(f"/v1/check/{APP}", params=sent, headers=_with(token))
    assert (posted.status, got.status) == (200, 200)
    said = await posted.json()
    assert said == await got.json()
    assert "WWW-Authenticate" not in posted.headers
    return str(said["apps"][0]["version"])


async def test_the_token_says_who_asks(asked: Asked) -> None:
    """Who has staff's token gets what staff gets, whatever the request says of its user."""
    _, session = asked
    for sent in ({}, {"user": "nobody"}, {"user": "u-1", "device": "d-9"}):
        assert await _version(session, bearer(), **sent) == "9.0.0.0"
        assert await _version(session, bearer(sub="u-2"), **sent) == "1.0.0.1"


@pytest.mark.parametrize("kind", NOBODY)
async def test_without_a_sound_token_nobody_asks(asked: Asked, kind: str) -> None:
    """It is no error: the answer is what is for everyone, and never 401."""
    served, session = asked
    assert await _version(session, NOBODY[kind], user="u-1") == "1.0.0.1"
    text = await (await session.get(served.admin_url + "/metrics")).text()
    counted = {"nothing": "missing", "another scheme": "missing", "expired": "expired"}
    counted |= {"a stranger's": "signature", "of another service": "audience"}
    outcome = counted.get(kind, "malformed")
    assert f'tidegate_identity_tokens_total{{outcome="{outcome}"}} 2.0' in text
    assert 'tidegate_identity_tokens_total{outcome="verified"} 0.0' in text


async def test_reports_are_of_whom_the_token_names(asked: Asked) -> None:
    """A subject is the token's device, else its user; without a token there is none."""
    served, session = asked
    for headers in (_with(bearer()), _with(bearer(device=...)), {}):
        body = orjson.dumps({"device": "d-9", "user": "u-9", "reports": [REPORT]})
        answer = await session.post("/v1/report", data=body, headers=headers)
        assert (answer.status, await answer.json()) == (202, {"accepted": 1, "passed_over": 0})
    ((_, heard),) = served.metrics.tally.take_reported().items()
    wanted = {id_hash("d-1", id_seed("demo", "device")), id_hash("u-1", id_seed("demo", "user"))}
    assert heard.times == 3
    assert set(heard.subjects) == wanted


async def test_switches_are_for_whom_the_token_names(asked: Asked) -> None:
    """The targeting key and the user of a context are claims, too; an ETag is each one's own."""
    _, session = asked
    context = orjson.dumps({"context": {"targetingKey": "d-9", "user": "nobody"}})
    tags = {}
    for name, token in (("u-1", bearer()), ("u-2", bearer(sub="u-2")), ("", None)):
        answer = await session.post(FLAGS, data=context, headers=_with(token))
        (flag,) = (await answer.json())["flags"]
        if name != "u-2":  # whose device may be in the half that has it
            assert flag["variant"] == ("on" if name else "off")
        tags[name] = answer.headers["ETag"]
        one = await session.post(f"{FLAGS}/new-home", data=context, headers=_with(token))
        assert (await one.json())["value"] == flag["value"]
        again = await session.post(
            FLAGS, data=context, headers=_with(token) | {"If-None-Match": answer.headers["ETag"]}
        )
        assert again.status == 304
    assert len(set(tags.values())) == 3
    other = await session.post(FLAGS, data=context, headers={"If-None-Match": tags["u-1"]})
    assert other.status == 200


async def test_without_a_provider_tokens_are_nothing() -> None:
    """Clients say who they are, as ever, and no token is counted."""
    async with (
        serving(snapshot_of(make_epoch(staff=("u-1",))), lookup=FixedLookup(MEMBERS)) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        assert await _version(session, bearer(sub="u-2"), user="u-1") == "9.0.0.0"
        assert not any(served.metrics.identities.values())


async def test_web_pages_may_send_tokens() -> None:
    """A preflight from an allowed origin allows the field."""
    made = make_epoch(cors=("https://ours.example",), identity=identities.settings())
    ask = {"Origin": "https://ours.example", "Access-Control-Request-Method": "POST"}
    async with (
        serving(snapshot_of(made)) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        for path in ("/v1/check", "/v1/report", FLAGS):
            preflight = await session.options(path, headers=ask)
            allowed = preflight.headers["Access-Control-Allow-Headers"].split(", ")
            assert allowed.count("Authorization") == 1
