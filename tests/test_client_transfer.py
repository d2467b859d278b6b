"""Downloads from CDNs that cut, lie, forget ranges, and fall silent."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from loadtest.client.answer import Download
from loadtest.client.fault import UnusableError
from loadtest.client.limits import Limits
from loadtest.client.transfer import fetch
from stub_gateway import Fault, StubGateway, sha256, stub_gateway

DATA = random.Random(1).randbytes(200_000)
BAD = DATA[:777] + bytes([DATA[777] ^ 1]) + DATA[778:]
LIMITS = Limits(silence_seconds=20, pause_seconds=0)
HASTY = replace(LIMITS, silence_seconds=0.5)
"""For a server that is silent."""


@pytest.fixture(scope="module")
def running() -> Iterator[StubGateway]:
    with stub_gateway() as found:
        yield found


@pytest.fixture
def cdn(running: StubGateway) -> StubGateway:
    running.reset()
    return running


def get(
    cdn: StubGateway, partial: Path, names: list[str], data: bytes = DATA, *, hasty: bool = False
) -> bytes:
    urls = tuple(f"{cdn.url}/{name}" for name in names)
    download = Download(urls, len(data), sha256(data), "identity")
    with urllib3.PoolManager() as pool:
        fetch(pool, download, partial, HASTY if hasty else LIMITS)
    return partial.read_bytes()


def asked(cdn: StubGateway) -> list[tuple[str, str | None]]:
    return [(each.path, each.range) for each in cdn.fetched]


def test_a_cut_download_is_taken_up(cdn: StubGateway, tmp_path: Path) -> None:
    """With every connection cut after a tenth, no byte is fetched twice."""
    cdn.put(DATA, "a")
    cdn.faults["/a"] = Fault(cut_after=20_000)
    assert get(cdn, tmp_path / "p", ["a"]) == DATA
    ranges = [None, *(f"bytes={at}-" for at in range(20_000, 200_000, 20_000))]
    assert asked(cdn) == [("/a", each) for each in ranges]


@pytest.mark.parametrize("tenth", range(10))
def test_a_restart_goes_on_at_another_url(cdn: StubGateway, tmp_path: Path, tenth: int) -> None:
    """What an earlier run brought, up to any tenth, is not fetched again, whichever URL is next."""
    have = DATA[: tenth * 20_000]
    (tmp_path / "p").write_bytes(have)
    cdn.put(DATA, "b")
    assert get(cdn, tmp_path / "p", ["missing", "b"]) == DATA
    assert asked(cdn)[-1] == ("/b", f"bytes={len(have)}-" if have else None)


def test_a_whole_download_is_not_asked_for(cdn: StubGateway, tmp_path: Path) -> None:
    """Bytes that are there, and right, cost no request."""
    (tmp_path / "p").write_bytes(DATA)
    assert get(cdn, tmp_path / "p", ["a"]) == DATA
    assert not cdn.fetched


def test_an_empty_file_is_a_file(cdn: StubGateway, tmp_path: Path) -> None:
    """Nought bytes are fetched like any others."""
    cdn.put(b"", "a")
    assert get(cdn, tmp_path / "p", ["a"], b"") == b""


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=404),
        Fault(status=403),
        Fault(status=500),
        Fault(status=204),
        Fault(silent=True),
        Fault(cut_after=0),
        Fault(longer_by=1),
        Fault(longer_by=5000, chunked=True),
        Fault(no_ranges=True, cut_after=150_000),
        Fault(wrong_range=True, cut_after=150_000),
    ],
)
def test_a_faulty_url_gives_way_to_the_next(cdn: StubGateway, tmp_path: Path, fault: Fault) -> None:
    """Whatever is wrong with the first URL, the second one's bytes arrive; tries are few."""
    cdn.put(DATA, "a")
    cdn.put(DATA, "b")
    cdn.faults["/a"] = fault
    assert get(cdn, tmp_path / "p", ["a", "b"], hasty=fault.silent) == DATA
    assert len(cdn.fetched) <= 5


def test_a_status_that_passes_is_waited_out(cdn: StubGateway, tmp_path: Path) -> None:
    """One 503 is no reason to leave a URL."""
    cdn.put(DATA, "a")
    cdn.faults["/a"] = Fault(status=503, times=1)
    assert get(cdn, tmp_path / "p", ["a"]) == DATA


def test_wrong_bytes_are_thrown_away(cdn: StubGateway, tmp_path: Path) -> None:
    """A flipped byte at the first URL: it is asked once, and the second gives all."""
    cdn.put(BAD, "a")
    cdn.put(DATA, "b")
    assert get(cdn, tmp_path / "p", ["a", "b"]) == DATA
    assert asked(cdn) == [("/a", None), ("/b", None)]


def test_a_url_that_was_handed_wrong_bytes_is_asked_again(cdn: StubGateway, tmp_path: Path) -> None:
    """Where a wrong start was taken up, who sent it is unknown: the last URL is asked for all."""
    cdn.put(DATA, "b")
    (tmp_path / "p").write_bytes(BAD[:1000])
    assert get(cdn, tmp_path / "p", ["b"]) == DATA
    assert asked(cdn) == [("/b", "bytes=1000-"), ("/b", None)]


def test_a_longer_rest_of_another_file_is_forgotten(cdn: StubGateway, tmp_path: Path) -> None:
    """More bytes than there can be, as after a bad disk, are not taken for the file."""
    (tmp_path / "p").write_bytes(DATA + b"x")
    cdn.put(DATA, "a")
    assert get(cdn, tmp_path / "p", ["a"]) == DATA


@pytest.mark.parametrize("fault", [Fault(wrong_range=True, times=1), Fault(status=416, times=1)])
def test_a_server_without_the_rest_is_asked_for_all(
    cdn: StubGateway, tmp_path: Path, fault: Fault
) -> None:
    """An only URL that gives no good rest gives the whole; no download is stuck for ever."""
    (tmp_path / "p").write_bytes(DATA[:1000])
    cdn.put(DATA, "a")
    cdn.faults["/a"] = fault
    assert get(cdn, tmp_path / "p", ["a"]) == DATA
    assert asked(cdn) == [("/a", "bytes=1000-"), ("/a", None)]


def test_never_more_is_written_than_announced(cdn: StubGateway, tmp_path: Path) -> None:
    """A URL that sends without end fills no disk, and is named in the reason."""
    cdn.put(DATA + DATA, "a")
    with pytest.raises(UnusableError, match=r"127\.0\.0\.1:\d+: it sent more bytes"):
        get(cdn, tmp_path / "p", ["a"])
    assert (tmp_path / "p").stat().st_size <= len(DATA)


@pytest.mark.parametrize("fault", [Fault(cut_after=0), Fault(cut_after=10), Fault(silent=True)])
def test_tries_are_bounded(cdn: StubGateway, tmp_path: Path, fault: Fault) -> None:
    """A URL that never gives enough is left after a set number of tries, and what came is kept."""
    cdn.put(DATA, "a")
    cdn.faults["/a"] = fault
    with pytest.raises(UnusableError):
        get(cdn, tmp_path / "p", ["a"], hasty=fault.silent)
    assert len(cdn.fetched) == (LIMITS.tries if fault.cut_after else LIMITS.idle_tries)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://[::1/",
        "http://exa mple/",
        "http://\u2603.invalid/",
        "http://.invalid/",
        "http://a@@b:c@/",
        "http://" + "x" * 300 + ".invalid/",
        "http://127.0.0.1:1/%zz",
    ],
)
def test_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    """Whatever stands in an answer as a URL, it leads to a reason and not to a crash."""
    with urllib3.PoolManager() as pool, pytest.raises(UnusableError):
        fetch(pool, Download((url,), 5, sha256(b"hello"), "identity"), tmp_path / "p", LIMITS)
