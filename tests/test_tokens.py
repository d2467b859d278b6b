"""Tokens that phones of load tests sign for themselves, and the reference client's."""

import re
import time
import urllib.request
from pathlib import Path

import pytest
import urllib3

import identities
from compiler.language.faults import Faults
from compiler.language.identity import IDENTITY
from compiler.language.tree import parse
from compiler.plan import Identity
from gateway.identity import MISSING, REMEMBERED, VERIFIED
from gateway.identity import Identity as Provider
from load_runs import LONGEST, QUICK, ended, rows_of, start
from loadtest.client.gateway import Gateway
from loadtest.client.limits import Limits
from loadtest.tokens import LIFETIME_SECONDS, Signer
from processes import Gateway as Running
from processes import RedisServer, running_gateway, wait_until
from publishing import COFFEE, Workshop, image_of, plan_files

NOW = 1_900_000_000


def pem_of(kid: str) -> bytes:
    """Give the private half of a provider's key."""
    pem: bytes = identities.key(kid).export_to_pem(private_key=True, password=None)
    return pem


def told(*kids: str) -> Identity:
    """Read what a plan says of the provider."""
    faults = Faults()
    node = parse("identity", identities.plan_text(*kids), faults)
    assert node is not None
    found = IDENTITY.read(node, faults)
    assert found is not None
    return found


@pytest.mark.parametrize("kid", identities.KINDS)
def test_a_gateway_takes_a_phone_for_who_it_is(kid: str) -> None:
    """Whatever the key's kind: the ids count, are remembered for a while, and none is no token."""
    signer, provider = Signer(pem_of(kid), told()), Provider(identities.settings())
    phones = ({"user": "u-1", "device": "d-1"}, {"user": "u-1"}, {"device": "d-1"})
    for phone in phones:
        for late, outcome in ((0, VERIFIED), (1, REMEMBERED), (LIFETIME_SECONDS, VERIFIED)):
            sent = signer.headers(phone, NOW + late)["Authorization"].encode()
            who = provider.who(sent, NOW + late)
            assert who == (phone.get("user"), phone.get("device"), outcome)
    assert not signer.headers({}, NOW)
    assert provider.who(None, NOW)[2] == MISSING


def test_a_key_that_does_not_count_is_refused() -> None:
    """Neither a key of somebody else, nor what is no key, lets phones sign."""
    with pytest.raises(ValueError, match="none of the keys"):
        Signer(pem_of("ed"), told("ec"))
    with pytest.raises(ValueError, match="no private key"):
        Signer(b"junk", told())


def crowd(workshop: Workshop, gateway: Running, *words: str) -> str:
    """Let a load test ask two hundred times, and end it; give what it says."""

    def answered() -> int:
        with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as said:
            found = re.search(rb"^tidegate_http_seconds_count (\d+)", said.read(), re.MULTILINE)
        return int(found[1]) if found else 0

    wanted = answered() + 200
    with ended(start(workshop.folder, "-m", "loadtest", gateway.url, *words)) as process:
        wait_until(lambda: answered() > wanted, "the crowd asks")
        process.terminate()
        text, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, text
    return str(text)


def test_a_load_test_counts_with_tokens_and_is_nobody_without(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """With the provider's key half of the phones are in 50 %; without it nobody is, and both hold.

    So it is for the reference client, which reads its token from a file.
    """
    files = plan_files(staff=True)
    files["apps/coffee.yaml"] = files["apps/coffee.yaml"].replace("everyone", "{percent: 50}")
    files["workspace.yaml"] += f"identity: {identities.plan_text()}\n"
    workshop.push(image_of(files, {"staff": ["s-1"]}))
    key, series = tmp_path / "key.pem", tmp_path / "s.csv"
    key.write_bytes(pem_of("ed"))
    words = (*QUICK, "-t", "60s", "--report", str(tmp_path / "r.html"), "--series", str(series))
    token = Signer(pem_of("ec"), told()).headers({"user": "s-1"}, time.time())["Authorization"]
    file = tmp_path / "token"
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        said = crowd(workshop, gateway, *words)
        assert "phones sent none: they were nobody" in said
        assert sum(int(row["apps_none"]) for row in rows_of(series)) > 100
        assert not sum(int(row["apps_update"]) for row in rows_of(series))
        said = crowd(workshop, gateway, *words, "--token-key", str(key))
        assert "phones sent none" not in said
        assert sum(int(row["apps_update"]) for row in rows_of(series)) > 10
        for text, status in ((token, "update"), ("odd\n", "none"), ("", "none")):
            file.write_text(text.removeprefix("Bearer ") + "\n")
            client = Gateway(gateway.url, urllib3.PoolManager(), Limits(), file)
            found = client.check({"user": "s-1"}, {COFFEE: None})
            assert found.apps[COFFEE].status == status
