"""URLs that expire: what the gateway signs, a real nginx with secure_link lets through."""

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import cdn
from gateway.cdn import secure_link
from loadtest.client import Client, Trust
from phone_shop import QUICK
from processes import Gateway, RedisServer, running_gateway, wait_until
from stock import editions, packed, publish, run_here, stock
from workplace import APP, Workplace, workplace

MISSING = "TIDEGATE_URL_SECRET is not set here"
SECRET = "a-secret-of-enough-letters"
EXPIRES = 60
PLAN = (
    f"app: {APP}\npackages: [{{version: 1.0.0.1}}]\n"
    "releases: [{id: stable, package: 1.0.0.1, audience: everyone}]\n"
)


def workspace(base: str, expires: str = f", expires: {EXPIRES}", check_after: int = 1800) -> str:
    """Write a workspace with one signed rule, and one that is not."""
    return (
        f"workspace: demo\ncheck_after: {check_after}\ncdn:\n"
        f'  - {{regions: [OPEN], bases: ["{base}"]}}\n'
        f'  - {{regions: ["*"], bases: ["{base}{cdn.SIGNED}", "{base}{cdn.SIGNED}"]{expires}}}\n'
    )


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, server: RedisServer
) -> Iterator[tuple[Workplace, cdn.Nginx]]:
    """Publish one package behind an nginx that asks for signatures; the gateway has the secret."""
    folder = tmp_path_factory.mktemp("signed")
    with (
        cdn.nginx(folder / "nginx", folder / "store", SECRET) as front,
        workplace(folder, server.url) as found,
    ):
        found.gateway.terminate()
        found.gateway.wait()
        found.gateway.environment["TIDEGATE_URL_SECRET"] = SECRET
        found.write("workspace.yaml", workspace(front.base))
        found.write("apps/coffee.yaml", PLAN)
        stock(found, APP, packed(folder, editions(["1.0.0.1"])))
        found.gateway.start()
        publish(found)
        wait_until(lambda: _state(found.gateway).get("epoch") == 1, "it is served")
        yield found, front


def _state(gateway: Gateway) -> dict[str, Any]:
    """Ask what a gateway serves; nothing while it serves nothing."""
    with suppress(OSError), urllib.request.urlopen(f"{gateway.admin_url}/health/ready") as ready:
        found: dict[str, Any] = json.load(ready)
        return found
    return {}


def urls(place: Workplace, **request: Any) -> list[str]:
    """Ask for the package's URLs."""
    found: list[str] = place.app(**request)["package"]["urls"]
    return found


def test_nginx_accepts_what_the_gateway_signs(place: tuple[Workplace, cdn.Nginx]) -> None:
    """Every URL of the answer leads to the announced bytes; without its query it is refused."""
    found, _ = place
    package = found.app()["package"]
    assert len(package["urls"]) == 2
    for url in package["urls"]:
        status, body = cdn.fetch(url)
        assert (status, len(body)) == (200, package["transfer_size"])
        assert cdn.status_of(url.partition("?")[0]) == 403


def test_nginx_refuses_a_changed_url(place: tuple[Workplace, cdn.Nginx]) -> None:
    """Another path, another expiry, another digest, or a secret that is not the gateway's."""
    found, _ = place
    url = urls(found)[0]
    other = urls(found, accept=[])[0]
    bare, _, query = url.partition("?")
    expires = int(re.findall(r"expires=([0-9]+)", url)[0])
    assert other.partition("?")[0] != bare
    assert cdn.status_of(f"{other.partition('?')[0]}?{query}") == 403
    assert cdn.status_of(url.replace(f"={expires}", f"={expires + 1}")) == 403
    assert cdn.status_of(url.replace(f"={expires}", "=9999999999")) == 403
    assert cdn.status_of(url.replace("md5=", "md5=x")) == 403
    assert cdn.status_of(secure_link(bare, "some other secret text", expires)) == 403
    assert cdn.status_of(url) == 200


def test_an_expired_url_is_refused(place: tuple[Workplace, cdn.Nginx]) -> None:
    """Soundly signed and past its second: 410; nobody can make it last longer."""
    found, _ = place
    bare = urls(found)[0].partition("?")[0]
    now = int(time.time())
    assert cdn.status_of(secure_link(bare, SECRET, now - 1)) == 410
    assert cdn.status_of(secure_link(bare, SECRET, now + 30)) == 200


def test_a_period_has_one_answer(place: tuple[Workplace, cdn.Nginx]) -> None:
    """Two checks in a period get the same URLs, good for one to two times `expires`."""
    found, _ = place

    def pair() -> tuple[int, list[str], list[str], int]:
        before = int(time.time()) // EXPIRES
        return before, urls(found), urls(found, user="u-2"), int(time.time()) // EXPIRES

    before, one, two, after = pair()
    while before != after:
        before, one, two, after = pair()
    assert one == two
    (end,) = {int(url.rpartition("=")[2]) for url in one}
    assert end == (before + 2) * EXPIRES


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="takes a minute: TIDEGATE_SOAK=1")
def test_the_next_period_has_other_urls(place: tuple[Workplace, cdn.Nginx]) -> None:
    """When a period ends the URLs change at once, on the same epoch, and nginx accepts both."""
    found, _ = place
    before = urls(found)
    time.sleep(EXPIRES - time.time() % EXPIRES + 0.05)
    after = urls(found)
    assert set(before).isdisjoint(after)
    assert cdn.status_of(after[0]) == cdn.status_of(before[0]) == 200


def test_a_rule_without_expires_is_not_signed(place: tuple[Workplace, cdn.Nginx]) -> None:
    """Of two rules only the one with `expires` has signed URLs."""
    found, _ = place
    (url,) = urls(found, region="open")
    assert "?" not in url
    assert cdn.status_of(url) == 200


def test_without_the_secret_the_epoch_before_is_served(
    place: tuple[Workplace, cdn.Nginx], tmp_path: Path, server: RedisServer
) -> None:
    """A gateway that cannot sign says so, keeps the epoch that it has, and serves a later one."""
    found, front = place
    found.write("workspace.yaml", workspace(front.base, expires=""))
    publish(found)
    folder = found.folder
    names = {"STORE": str(folder / "store"), "TRUSTED_KEYS": str(folder / "keys" / "ann.pub")}

    def pushed() -> str:
        return run_here(found, "push", str(found.plan), "--wait", "1", code=5)

    with running_gateway(tmp_path, server.url, **names) as poor:
        other = Workplace(folder, server.url, poor)
        wait_until(lambda: _state(poor).get("state") == "live", "it serves it")
        before = other.check()["epoch"]
        found.write("workspace.yaml", workspace(front.base))
        found.commit("signed again")
        wait_until(lambda: MISSING in pushed().replace("\n", " "), "it says why")
        refused = "the live epoch is not taken: a rule of its CDN signs URLs"
        wait_until(lambda: _state(poor).get("why", "").startswith(refused), "so does its health")
        assert (_state(poor)["epoch"], _state(poor)["state"]) == (before, "kept")
        wait_until(lambda: found.check()["epoch"] == before + 1, "the other takes it")
        assert "expires=" in urls(found)[0]
        assert other.check()["epoch"] == before
        assert "?" not in urls(other)[0]
        assert MISSING in poor.log.read_text()
        found.write("workspace.yaml", workspace(front.base, expires="", check_after=60))
        publish(found)
        wait_until(lambda: other.check()["epoch"] == before + 2, "the later one is served")
        assert SECRET not in poor.log.read_text() + found.gateway.log.read_text()


def test_a_client_follows_signed_urls(place: tuple[Workplace, cdn.Nginx], tmp_path: Path) -> None:
    """It takes URLs as they are; what it fetched before one expired counts for the next."""
    found, front = place

    def client() -> Client:
        accept = {"accept": [], "device": "d-1"}
        return Client(tmp_path / "phone", gate.base, accept, [APP], Trust(), QUICK)

    def resigned(second: int) -> cdn.Fault:
        def sign(body: bytes) -> bytes:
            said = json.loads(body)
            package = said["apps"][0]["package"]
            bare = package["urls"][0].partition("?")[0].replace(front.base, line.base)
            package["urls"] = [secure_link(bare, SECRET, second)]
            return json.dumps(said).encode()

        return cdn.only("/v1/check", cdn.rewritten(sign))

    with cdn.proxy(found.gateway.url) as gate, cdn.proxy(front.base) as line:
        gate.fault = resigned(int(time.time()) + 30)
        line.fault = cdn.cut_at(1_000)
        assert client().update()[0].outcome == "failed"
        gate.fault = resigned(int(time.time()) - 1)
        line.fault = cdn.none
        (result,) = client().update()
        assert result.outcome == "failed" and "410" in result.detail
        line.requests.clear()
        gate.fault = resigned(int(time.time()) + 60)
        assert client().update()[0].version == "1.0.0.1"
        assert [each.headers.get("Range") for each in line.requests] == ["bytes=1000-"]


@pytest.mark.parametrize("secret", ["short", "fifteen letters"])
def test_a_short_secret_is_refused(tmp_path: Path, server: RedisServer, secret: str) -> None:
    """A secret that can be guessed ends the gateway at once, with a sentence that lacks it."""
    with (
        pytest.raises(AssertionError, match="ended at once") as ended,
        running_gateway(tmp_path, server.url, URL_SECRET=secret),
    ):
        pass
    said = str(ended.value)
    assert "TIDEGATE_URL_SECRET" in said and "16 characters" in said
    assert secret not in said
