"""Redis URLs: what each kind means, what a wrong one is told; no password is ever shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.link import connect_async, connect_sync, parse_url
from gateway.redis_url import Address, Kind, Login, Tls, read_url

H, S, C = Kind.ONE, Kind.SENTINEL, Kind.CLUSTER
TWO = (("a", 26379), ("b", 7))


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis://h", Address("redis://h:6379/0", H, (("h", 6379),))),
        ("redis://h:1/3", Address("redis://h:1/3", H, (("h", 1),), db=3)),
        ("redis://[::1]:1", Address("redis://[::1]:1/0", H, (("::1", 1),))),
        (
            "redis://me:p%40%2Fw:x@h",
            Address("redis://h:6379/0", H, (("h", 6379),), login=Login("me", "p@/w:x")),
        ),
        (
            "redis://:a/b@c@h",
            Address("redis://h:6379/0", H, (("h", 6379),), login=Login(None, "a/b@c")),
        ),
        (
            "rediss://h?ca=/c.pem&server_name=n",
            Address("rediss://h:6379/0", H, (("h", 6379),), tls=Tls("/c.pem", server_name="n")),
        ),
        (
            "unix://me:pw@/run/r.sock?db=2",
            Address("unix:///run/r.sock", H, (), path="/run/r.sock", db=2, login=Login("me", "pw")),
        ),
        (
            "redis+sentinel://u:p@a,b:7/main/2?sentinel_user=s&sentinel_password=t&read=replicas",
            Address(
                "redis+sentinel://a:26379,b:7/main/2",
                S,
                TWO,
                service="main",
                db=2,
                login=Login("u", "p"),
                sentinel_login=Login("s", "t"),
                replicas_first=True,
            ),
        ),
        (
            "rediss+cluster://a,b:7?cert=c&key=k",
            Address(
                "rediss+cluster://a:6379,b:7",
                C,
                (("a", 6379), ("b", 7)),
                tls=Tls(cert="c", key="k"),
            ),
        ),
    ],
)
def test_a_url_means_what_it_says(url: str, meant: Address) -> None:
    """Hosts, default ports, service, database, users, TLS and options of every kind of URL."""
    assert read_url(url) == meant
    for login in ("login", "sentinel_login"):
        assert getattr(read_url(url), login).password == getattr(meant, login).password


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "It is no Redis URL. Write redis://"),
        ("localhost:6379", "It is no Redis URL"),
        ("http://h", "http:// is no Redis URL"),
        ("redis+one://h", "is no Redis URL"),
        ("redis+://h", "is no Redis URL"),
        ("unix+cluster:///x", "is no Redis URL"),
        ("redis+sentinels://h/s", "is no Redis URL"),
        ("redis://", "no HOST:PORT"),
        ("redis://h:x", "no HOST:PORT"),
        ("redis://h:0", "no HOST:PORT"),
        ("redis://h:70000", "no HOST:PORT"),
        ("redis://::1", "no HOST:PORT"),
        ("redis+cluster://a,b:x", "Host 2 of the Redis URL is no HOST:PORT"),
        ("redis+cluster://a,,b", "Host 2"),
        ("redis://a,b", "redis+sentinel://HOST,HOST/SERVICE"),
        ("redis://h/x", "database is no number"),
        ("redis://h/0/1", "too many parts"),
        ("redis+sentinel://a,b", "what the Sentinels watch"),
        ("redis+sentinel://a/s/x", "database is no number"),
        ("redis+cluster://a/1", "has only database 0"),
        ("unix://run/r.sock", "whole path"),
        ("redis://h?db", "NAME=VALUE"),
        ("redis://h?ca=x", "needs TLS. Write rediss"),
        ("redis://h?timeout=3", "not known here. This kind of URL takes none"),
        ("rediss://h?verify=no", "It may be ca, cert, key, server_name"),
        ("rediss://h?key=k", "without a cert="),
        ("redis+cluster://h?read=primary", "can only be read=replicas"),
        ("redis+cluster://h?sentinel_user=x", "It may be read"),
        ("redis://me:pa?ss@h", "behind its ?. In a user or password write %40"),
        ("redis://me:pa#ss@h/#", "has a # in it"),
    ],
)
def test_a_wrong_url_is_told_what_to_write(url: str, said: str) -> None:
    """One sentence or two say what is wrong and give the mend."""
    with pytest.raises(ValueError, match=r"\.") as fault:
        read_url(url)
    assert said in str(fault.value)


SECRET = "Gq7"


@given(
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http", ""]),
    st.text("@:/?#%&=,[]x+ ", max_size=6),
    st.text("@:/?#%&=,[]x+ ", max_size=6),
    st.sampled_from(["h", "h:1/0", "h:port", "a,b/s", "/run/x", "", "h?ca=x", "h/0/1"]),
)
def test_no_password_is_ever_shown(scheme: str, before: str, after: str, place: str) -> None:
    """However it is written and whatever else is wrong, nothing said or shown repeats it."""
    assert SECRET not in told(f"{scheme}://me:{before}{SECRET}{after}@{place}")


def told(url: str) -> str:
    """Give all that is said or shown of a URL."""
    try:
        found = read_url(url)
    except ValueError as fault:
        return str(fault)
    return f"{found.shown} {found!r}"


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A missing or broken file of TLS is found when the URL is read, not at the first check."""
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\n")
    for url, said in (
        (f"rediss://h?ca={tmp_path}/none.pem", "none.pem of the Redis URL cannot be used"),
        (f"rediss+cluster://h?ca={broken}", "broken.pem of the Redis URL cannot be used"),
        (f"rediss://h?cert={broken}&key={tmp_path}/none", "cert="),
    ):
        with pytest.raises(ValueError, match="PEM") as fault:
            parse_url(url)
        assert said in str(fault.value)


async def test_clients_are_made_without_asking_anybody() -> None:
    """Where nobody listens, a client for one server or for Sentinels can still be made."""
    for url in ("redis://127.0.0.1:1", "unix:///none", "rediss+sentinel://127.0.0.1:1/s"):
        link = connect_async(parse_url(url), timeout_seconds=0.1)
        await link.aclose()
        connect_sync(parse_url(url), timeout_seconds=0.1).close()
