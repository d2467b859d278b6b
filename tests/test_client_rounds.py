"""What a client does with each answer, round by round, and what it remembers."""

import fcntl
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loadtest.client import Client, Limits, Result, Trust, UnusableError
from loadtest.client.__main__ import main
from loadtest.client.diary import MOST_REPORTS, Diary
from loadtest.client.trust import thumbprint
from stub_gateway import APP, Fault, StubGateway, offer, package, sha256, stub_gateway

ROOT = Path(__file__).parent.parent
V1, V2, V3 = package(1), package(2), package(3)
LIMITS = Limits(silence_seconds=20, pause_seconds=0)
PHONE = {"user": "u-1", "device": "d-1", "network": "WIFI"}


@pytest.fixture(scope="module")
def running() -> Iterator[StubGateway]:
    with stub_gateway() as found:
        yield found


@pytest.fixture
def gateway(running: StubGateway) -> StubGateway:
    running.reset()
    return running


class Phone:
    """A client that is made anew for each round, as after a restart."""

    def __init__(self, root: Path, gateway: StubGateway) -> None:
        self.root, self.gateway, self.trust = root, gateway, Trust()
        self.members: Mapping[str, Any] = PHONE

    def client(self, *apps: str) -> Client:
        """Start the client again."""
        return Client(self.root, self.gateway.url, self.members, apps or (APP,), self.trust, LIMITS)

    def round(self, *entries: dict[str, Any]) -> Result:
        """Do a round in which the gateway says this."""
        self.gateway.apps = list(entries)
        (result,) = self.client().update()
        return result

    def has(self) -> str | None:
        """Give the version that is installed."""
        found = self.client().installed(APP)
        return found and found.version


@pytest.fixture
def phone(tmp_path: Path, gateway: StubGateway) -> Phone:
    """Give a phone that has version 1."""
    found = Phone(tmp_path / "phone", gateway)
    assert found.round(offer(gateway, "1", V1)).outcome == "installed"
    gateway.reports.clear()
    return found


def said(status: str, **more: Any) -> dict[str, Any]:
    return {"app": APP, "status": status, **more}


def events(gateway: StubGateway) -> list[str]:
    return [each["event"] for body in gateway.reports for each in body["reports"]]


@pytest.mark.parametrize("form", ["bsdiff4", "zstd-patch"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_patch_brings_the_next_version(phone: Phone, form: str, encrypted: bool) -> None:
    """With the patch's base installed, only the patch is fetched, and both ways are."""
    identity = pyrage.x25519.Identity.generate()
    phone.trust = Trust(identities=[str(identity)])
    recipients = [identity.to_public()] if encrypted else []
    up = offer(phone.gateway, "2", V2, form="gzip", base=(form, "1", V1), recipients=recipients)
    down = offer(phone.gateway, "1", V1, form="zstd", base=(form, "2", V2), recipients=recipients)
    phone.gateway.fetched.clear()
    first = phone.round(up)
    assert (first.outcome, first.version, phone.has()) == ("installed", "2", "2")
    assert form in first.detail
    phone.round(said("latest"))
    assert phone.round(down | {"status": "rollback"}).outcome == "rolled_back"
    urls = [up["patch"]["urls"][0], down["patch"]["urls"][0]]
    assert [phone.gateway.url + each.path for each in phone.gateway.fetched] == urls
    assert events(phone.gateway) == ["downloaded", "installed", "downloaded", "rolled_back"]


@pytest.mark.parametrize("form", ["identity", "gzip", "zstd"])
def test_a_full_package_replaces_what_is_there(phone: Phone, form: str) -> None:
    """Without a patch the full package comes, in any form.

    The old one stays for those who are reading it, and is gone a round later.
    """
    old = phone.client().installed(APP)
    assert old is not None
    new = offer(phone.gateway, "2", V2, form=form, info={"entry": "/index.html"})
    assert phone.round(new).version == "2"
    found = phone.client().installed(APP)
    assert found is not None
    assert found.path.read_bytes() == V2
    assert (found.info, found.release, found.may_open) == ({"entry": "/index.html"}, "stable", True)
    assert old.path.read_bytes() == V1
    phone.round(said("latest"))
    left = {path.name for path in phone.root.rglob("*") if path.is_file()}
    assert left == {found.sha256, "installed.json", "diary.json", "lock"}


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "xdelta"},
        {"from": "0.9"},
        {"transfer_sha256": "0" * 64},
        {"urls": ["http://127.0.0.1:1/"]},
        {"transfer_size": 1 << 40},
        {"format": "zstd-patch"},
    ],
)
def test_a_patch_that_fails_gives_way_to_the_full_package(
    phone: Phone, damage: dict[str, Any]
) -> None:
    """Whatever is wrong with a patch, the full package comes instead, and the report says it."""
    new = offer(phone.gateway, "2", V2, form="gzip", base=("bsdiff4", "1", V1))
    new["patch"] |= damage
    result = phone.round(new)
    assert (result.outcome, phone.has()) == ("installed", "2")
    last = phone.gateway.reports[-1]["reports"][-1]
    assert last["event"] == "installed"
    assert "the patch: " in last["reason"]


@pytest.mark.parametrize("form", ["identity", "gzip", "zstd", "bsdiff4", "zstd-patch"])
def test_sound_bytes_of_another_package_are_refused(phone: Phone, form: str) -> None:
    """A download with the announced digest that makes another file, of the same size, is none."""
    patched = form in ("bsdiff4", "zstd-patch")
    full = "gzip" if patched else form
    base = (form, "1", V1) if patched else None
    new = offer(phone.gateway, "2", V2, form=full, base=base)
    other = offer(phone.gateway, "3", V3, form=full, base=base)
    travels = phone.gateway.files[urlsplit(other["package"]["urls"][0]).path]
    new["package"] |= {
        "urls": other["package"]["urls"],
        "transfer_size": len(travels),
        "transfer_sha256": sha256(travels),
    }
    if patched:
        new["patch"] = other["patch"]
    result = phone.round(new)
    assert (result.outcome, phone.has()) == ("failed", "1")
    assert "another file" in result.detail


def test_what_fails_leaves_what_is_installed(phone: Phone) -> None:
    """From the full package the client falls back to what it has, says why, and tries again."""
    new = offer(phone.gateway, "2", V2, form="gzip", base=("bsdiff4", "1", V1))
    for path in phone.gateway.files:
        phone.gateway.faults[path] = Fault(status=403)
    result = phone.round(new)
    assert (result.outcome, result.version, phone.has()) == ("failed", "1", "1")
    assert "403" in result.detail
    assert events(phone.gateway) == ["failed"]
    assert phone.gateway.reports[-1]["reports"][-1] == {
        "app": APP,
        "version": "2",
        "from": "1",
        "release": "stable",
        "event": "failed",
        "reason": result.detail[:200],
    }
    phone.gateway.faults.clear()
    assert phone.round(new).outcome == "installed"


def test_a_download_goes_on_in_the_next_round(phone: Phone) -> None:
    """Half a download is kept over a restart, and taken up; one that is not wanted is deleted."""
    new = offer(phone.gateway, "2", V2)
    path = "/" + new["package"]["sha256"]
    phone.gateway.faults[path] = Fault(cut_after=5000, times=1)
    phone.gateway.on_fetch = lambda _: phone.gateway.faults.update(
        {path: Fault(cut_after=5000 if len(phone.gateway.fetched) < 3 else 0)}
    )
    phone.gateway.fetched.clear()
    assert phone.round(new).outcome == "failed"
    phone.gateway.on_fetch = lambda _: None
    phone.gateway.faults.clear()
    assert phone.round(new).outcome == "installed"
    assert phone.gateway.fetched[-1].range == "bytes=10000-"
    phone.gateway.faults[path] = Fault(cut_after=5000)
    (phone.root / "downloads" / "left").write_bytes(b"x")
    phone.round(said("latest"))
    assert not list((phone.root / "downloads").iterdir())


LATER = ("of a later year", "installed")


@pytest.mark.parametrize("status", ["latest", "none", "unknown", "invalid", *LATER])
def test_no_status_is_an_order_to_delete(phone: Phone, status: str) -> None:
    """What is installed stays, and may be opened, whatever else the gateway says of it."""
    result = phone.round(said(status, detail="why"))
    assert (result.version, phone.has()) == ("1", "1")
    assert result.outcome == ("ignored" if status in LATER else status)
    found = phone.client().installed(APP)
    assert found is not None
    assert found.may_open


def test_an_app_left_out_keeps_its_package(phone: Phone) -> None:
    """An answer that does not name an app, or names others, changes nothing."""
    assert phone.round().outcome == "invalid"
    assert phone.round({**said("withdrawn"), "app": "other"}).outcome == "invalid"
    assert phone.has() == "1"


def test_a_withdrawn_package_is_not_opened(phone: Phone) -> None:
    """It stays on the disk, closed over restarts and errors, until it is reinstated or replaced."""
    assert phone.round(said("withdrawn")).outcome == "withdrawn"
    for status in ("unknown", "invalid", "withdrawn"):
        phone.round(said(status))
        found = phone.client().installed(APP)
        assert found is not None
        assert (found.version, found.may_open) == ("1", False)
    assert phone.gateway.checks[-1]["apps"] == {APP: "1"}
    phone.round(said("latest"))
    found = phone.client().installed(APP)
    assert found is not None
    assert found.may_open
    phone.round(said("withdrawn"))
    assert phone.round(offer(phone.gateway, "2", V2)).version == "2"
    found = phone.client().installed(APP)
    assert found is not None
    assert found.may_open


@pytest.mark.parametrize("upgrade", ["silent", "prompt", "force"])
def test_a_reinstated_package_is_opened_beside_an_update(phone: Phone, upgrade: str) -> None:
    """It was reinstated, or an update would be forced; whether that waits, fails or is damaged."""
    new = offer(phone.gateway, "2", V2, download="wifi", upgrade=upgrade)
    phone.members = {**PHONE, "network": "5G"}
    failing = {**new, "download": "any", "package": {**new["package"], "size": 1 << 40}}
    for entry in (new, failing, {**new, "package": None}):
        phone.round(said("withdrawn"))
        assert phone.round(entry).outcome in ("waiting", "failed")
        found = phone.client().installed(APP)
        assert found is not None
        assert (found.version, found.may_open) == ("1", upgrade != "force")


@pytest.mark.parametrize("version", ["0.9", "0", "1-rc.1", "x", "1" * 300])
def test_only_a_rollback_goes_down(phone: Phone, version: str) -> None:
    """An update to a lower version, or to what is none, costs no byte; a rollback is taken."""
    phone.gateway.fetched.clear()
    lower = offer(phone.gateway, version, V2)
    result = phone.round(lower)
    assert (result.outcome, phone.has(), phone.gateway.fetched) == ("failed", "1", [])
    if len(version) < 256:
        assert "only a rollback" in result.detail
        assert phone.round(lower | {"status": "rollback"}).version == version
    assert phone.round(offer(phone.gateway, "1.0.1", V3)).outcome == "installed"


@pytest.mark.parametrize(
    ("network", "outcome"),
    [("WIFI", "installed"), ("wifi", "installed"), ("5G", "waiting"), (None, "waiting")],
)
def test_wifi_only_waits_for_wifi(phone: Phone, network: Any, outcome: str) -> None:
    """`download: wifi` costs no byte on another network, nor on one that is not known."""
    new = offer(phone.gateway, "2", V2, download="wifi")
    phone.members = {**PHONE, "network": network}
    phone.gateway.fetched.clear()
    assert phone.round(new).outcome == outcome
    assert bool(phone.gateway.fetched) is (outcome == "installed")


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        (None, ["gzip", "zstd", "bsdiff4", "zstd-patch"]),
        (["gzip"], ["gzip"]),
        (["brotli", "zstd"], ["zstd"]),
        ([], []),
    ],
)
def test_it_asks_for_what_it_opens(phone: Phone, accept: Any, asked: list[str]) -> None:
    """`accept` names only what the client opens, and it opens only what `accept` names."""
    phone.members = PHONE if accept is None else {**PHONE, "accept": accept}
    result = phone.round(offer(phone.gateway, "2", V2, form="gzip"))
    assert phone.gateway.checks[-1]["accept"] == asked
    assert result.outcome == ("installed" if "gzip" in asked else "failed")


KEY = Ed25519PrivateKey.generate()


def test_with_keys_nothing_unsigned_is_installed(phone: Phone) -> None:
    """Unsigned, or signed by a stranger: not a byte is fetched; signed by a trusted key: it is."""
    phone.trust = Trust({thumbprint(KEY.public_key()): KEY.public_key()})
    phone.gateway.fetched.clear()
    for signers in ([], [Ed25519PrivateKey.generate()]):
        result = phone.round(offer(phone.gateway, "2", V2, signers=signers))
        assert (result.outcome, phone.has()) == ("failed", "1")
        assert "no trusted key" in result.detail
    assert not phone.gateway.fetched
    stranger = Ed25519PrivateKey.generate()
    assert phone.round(offer(phone.gateway, "2", V2, signers=[stranger, KEY])).version == "2"


def test_too_large_a_package_is_not_begun(phone: Phone) -> None:
    """Over the limit, by either size, not a byte is fetched."""
    phone.gateway.fetched.clear()
    new = offer(phone.gateway, "2", V2, form="gzip")
    for members in ({"size": 1 << 40}, {"transfer_size": 1 << 40}):
        result = phone.round({**new, "package": new["package"] | members})
        assert result.outcome == "failed"
        assert "too large" in result.detail
    assert not phone.gateway.fetched


@pytest.mark.parametrize("form", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_download_fits_its_package(phone: Phone, form: str, encrypted: bool) -> None:
    """A patch no smaller than the package is left, a form much larger refused: unfetched."""
    identity = pyrage.x25519.Identity.generate()
    phone.trust = Trust(identities=[str(identity)])
    recipients = [identity.to_public()] * 8 if encrypted else []
    noise = random.Random(1).randbytes(200_000)
    new = offer(
        *(phone.gateway, "2", noise), form=form, base=("bsdiff4", "1", V1), recipients=recipients
    )
    assert new["patch"]["transfer_size"] >= len(noise)
    phone.gateway.fetched.clear()
    big = {"transfer_size": 300_000, "transfer_sha256": "0" * 64}
    result = phone.round({**new, "package": new["package"] | big})
    assert (result.outcome, phone.gateway.fetched) == ("failed", [])
    assert "too large" in result.detail
    assert phone.round(new).outcome == "installed"
    assert [phone.gateway.url + each.path for each in phone.gateway.fetched] == (
        new["package"]["urls"]
    )


def test_a_package_damaged_on_the_disk_is_none(phone: Phone) -> None:
    """What is no longer whole is not installed: it is asked for anew, and comes."""
    found = phone.client().installed(APP)
    assert found is not None
    found.path.write_bytes(V1[:-1] + b"x")
    assert phone.has() is None
    assert phone.round(offer(phone.gateway, "1", V1)).version == "1"
    assert phone.has() == "1"
    assert phone.gateway.checks[-1]["apps"] == {APP: None}
    for record in (b"", b"[]", b"{}", b'{"version": 1}', b"\xff", b"[" * 9999):
        (phone.root / "apps" / APP / "installed.json").write_bytes(record)
        assert phone.has() is None
    assert phone.round(offer(phone.gateway, "1", V1)).detail == "it was here already"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock stand still: how long the machine takes shortens no wait."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "raw",
    [
        (500, b"oops"),
        (503, b'{"type": "about:blank", "status": 503}'),
        (400, b"{}"),
        (404, b"not found"),
        (302, b""),
        (204, b""),
        (200, b"<html>Welcome to the hotel</html>"),
        (200, b'{"apps": ['),
        (200, b" " * (9 << 20)),
    ],
)
def test_no_answer_changes_nothing(phone: Phone, raw: tuple[int, bytes]) -> None:
    """A 5xx, a page of a hotel, or half an answer is no order: the client keeps all and waits."""
    phone.gateway.raw = raw
    result = phone.round()
    assert (result.outcome, result.version, phone.has()) == ("unanswered", "1", "1")
    assert 24 <= phone.client().seconds_left() <= 30


@pytest.mark.usefixtures("clock")
def test_the_wait_doubles_up_to_check_after(phone: Phone) -> None:
    """From 30 s, doubled with each failure over restarts, to check_after; an answer ends it."""
    phone.gateway.raw = (500, b"")
    waits = []
    for _ in range(8):
        phone.round()
        waits.append(phone.client().seconds_left())
    for wait, most in zip(waits, [30, 60, 120, 240, 480, 960, 1800, 1800], strict=True):
        assert most * 0.8 <= wait <= most
    phone.gateway.raw = None
    phone.round(said("latest"))
    assert phone.client().seconds_left() == 1800
    phone.gateway.raw = (500, b"")
    phone.round()
    assert 24 <= phone.client().seconds_left() <= 30


@pytest.mark.usefixtures("clock")
def test_the_wait_is_kept_before_the_download(phone: Phone) -> None:
    """Who is killed while it fetches, again and again, still asks no earlier than it was told."""
    waits: list[float] = []
    phone.gateway.check_after = 600
    phone.gateway.on_fetch = lambda _: waits.append(phone.client().seconds_left())
    phone.round(offer(phone.gateway, "2", V2))
    assert waits[0] == 600


def test_a_gateway_that_is_away_is_no_order(tmp_path: Path, gateway: StubGateway) -> None:
    """Nobody listening, or a name that is none: unanswered, and no exception."""
    for url in ("http://127.0.0.1:1", "http://gateway.invalid", "http://[", "http://"):
        (result,) = Client(tmp_path, url, PHONE, [APP], Trust(), LIMITS).update()
        assert (result.outcome, result.version) == ("unanswered", None)
    for url in ("nonsense", "", "file:///etc"):
        with pytest.raises(UnusableError):
            Client(tmp_path, url, PHONE, [APP], Trust())


def test_a_clock_set_back_silences_nobody(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is never longer than it was meant to be, wherever the clock jumps."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 10 * 365 * 86_400)
    assert phone.client().seconds_left() <= 1800
    monkeypatch.setattr(time, "time", lambda: now + 1801)
    assert phone.client().seconds_left() == 0


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"due": "x"}', b"\xff", b'{"due": 1e999}'])
def test_a_diary_that_cannot_be_read_is_a_new_one(phone: Phone, text: bytes) -> None:
    """A damaged diary costs an early check, nothing else."""
    (phone.root / "diary.json").write_bytes(text)
    assert phone.client().seconds_left() == 0
    assert phone.round(said("latest")).outcome == "latest"


@pytest.mark.parametrize("status", [500, 503, 404])
def test_reports_that_do_not_arrive_are_sent_later(phone: Phone, status: int) -> None:
    """They are kept over restarts, and sent once with the next round."""
    phone.gateway.report_status = status
    phone.round(offer(phone.gateway, "2", V2))
    phone.gateway.reports.clear()
    phone.gateway.report_status = 202
    phone.round(said("latest"))
    assert events(phone.gateway) == ["downloaded", "installed"]
    assert {key: phone.gateway.reports[0][key] for key in ("device", "user")} == {
        "device": "d-1",
        "user": "u-1",
    }
    phone.round(said("latest"))
    assert len(phone.gateway.reports) == 1


@pytest.mark.parametrize("status", [400, 413])
def test_reports_that_are_refused_are_not_sent_again(phone: Phone, status: int) -> None:
    """What a gateway will never take is not sent for ever."""
    phone.gateway.report_status = status
    phone.round(offer(phone.gateway, "2", V2))
    phone.round(said("latest"))
    assert len(phone.gateway.reports) == 1


def test_reports_are_bounded(phone: Phone) -> None:
    """Of many that do not arrive the newest are kept, and sent in requests of a gateway's size."""
    phone.gateway.report_status = 500
    new = offer(phone.gateway, "2", V2) | {"signatures": []}
    diary = Diary(phone.root / "diary.json")
    offered = type("Offered", (), {"version": "9", "release": "stable"})
    for number in range(500):
        diary.note(APP, "failed", str(number), offered, "\u2603" * 500)  # type: ignore[arg-type]
    diary.save()
    phone.round(new)
    phone.gateway.reports.clear()
    phone.gateway.report_status = 202
    phone.round(said("latest"))
    sent = [each for body in phone.gateway.reports for each in body["reports"]]
    assert len(sent) == MOST_REPORTS
    assert sent[-1]["event"] == "installed"
    assert all(len(json.dumps(body)) < 1 << 16 for body in phone.gateway.reports)


def test_a_dry_run_leaves_no_report(phone: Phone) -> None:
    """A client that only tries things out is not counted."""
    phone.members = {**PHONE, "dry_run": True}
    phone.round(offer(phone.gateway, "2", V2))
    phone.members = PHONE
    phone.round(said("latest"))
    assert not phone.gateway.reports


def test_two_clients_never_share_a_folder(phone: Phone) -> None:
    """While one is at work the other does nothing, and says so."""
    with (phone.root / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        checks = len(phone.gateway.checks)
        assert phone.round(offer(phone.gateway, "2", V2)).outcome == "busy"
        assert (phone.has(), len(phone.gateway.checks)) == ("1", checks)
    assert phone.round(offer(phone.gateway, "2", V2)).outcome == "installed"


def test_one_app_in_trouble_leaves_the_others(phone: Phone) -> None:
    """In one round an app fails, another is installed, a third is left alone."""
    phone.gateway.apps = [
        {**offer(phone.gateway, "1", V3, form="gzip"), "app": "good"},
        {**said("update"), "app": "bad"},
        said("latest"),
    ]
    results = phone.client("bad", APP, "good").update()
    assert [(each.app, each.outcome, each.version) for each in results] == [
        ("bad", "failed", None),
        (APP, "latest", "1"),
        ("good", "installed", "1"),
    ]


def test_a_folder_that_is_none_is_a_result(tmp_path: Path, gateway: StubGateway) -> None:
    """A root that cannot be made is told as a result, not raised."""
    (tmp_path / "file").write_text("")
    client = Client(tmp_path / "file" / "phone", gateway.url, PHONE, [APP], Trust(), LIMITS)
    (result,) = client.update()
    assert result.outcome == "failed"
    assert "disk" in result.detail


@pytest.mark.parametrize("app", ["", "..", ".", "a/b", "x" * 65, "a\x00b", "../../etc"])
def test_an_app_that_is_none_is_refused(app: str, tmp_path: Path) -> None:
    """An id that would be another folder is refused when the client is made."""
    with pytest.raises(UnusableError):
        Client(tmp_path, "http://127.0.0.1:1", PHONE, [app], Trust())


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_does_a_round(
    phone: Phone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One round by the command line: a line an app, exit code 0; 1 when something failed."""
    key = phone.gateway.url
    common = ["--gateway", key, "--root", str(phone.root), "--app", APP]
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "id").write_text(f"# x\n{identity}\n")
    phone.gateway.apps = [
        offer(phone.gateway, "2", V2, form="gzip", recipients=[identity.to_public()])
    ]
    code, out, _ = run(capsys, *common)
    assert code == 1
    assert out.startswith(f"{APP}: failed, has 1 (")
    phones = [f"--phone={pair}" for pair in ("user=u", "custom.tier=gold", "custom.age=7")]
    code, out, _ = run(
        capsys, *common, *phones, "--accept", "gzip", "--identity", str(tmp_path / "id"), "--json"
    )
    assert (code, json.loads(out)["outcome"]) == (0, "installed")
    asked = phone.gateway.checks[-1]
    assert (asked["user"], asked["accept"]) == ("u", ["gzip"])
    assert asked["custom"] == {"tier": "gold", "age": 7}


@pytest.mark.parametrize(
    "wrong",
    [
        ("--phone", "user"),
        ("--phone", "apps=x"),
        ("--key", "no-such-file.pub"),
        ("--key", "id=AAAA"),
        ("--identity", "no-such-file"),
        ("--app", ".."),
    ],
)
def test_the_command_says_what_is_wrong(
    wrong: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in the command line is one sentence and exit code 2."""
    common = ("--gateway", "http://127.0.0.1:1", "--root", str(tmp_path), "--app", APP)
    code, out, err = run(capsys, *common, *wrong)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.endswith(".\n")


def test_watching_keeps_the_wait_over_restarts(phone: Phone) -> None:
    """A process that is killed and started again asks no earlier than the first would have.

    That is in an hour; then it asks at once.
    """
    command = [sys.executable, "-m", "loadtest.client", "--watch", "--root", str(phone.root)]
    command += ["--gateway", phone.gateway.url, "--app", APP, "--json"]
    phone.gateway.check_after = 3600
    phone.round(said("latest"))
    diary = phone.root / "diary.json"
    noted = json.loads(diary.read_text())
    for last in (False, False, True):
        if last:
            diary.write_text(json.dumps(noted | {"due": noted["due"] - 3600}))
        started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            if last:
                assert started.stdout is not None
                assert json.loads(started.stdout.readline())["outcome"] == "latest"
            else:
                time.sleep(1)
        finally:
            started.kill()
            started.communicate()
        assert len(phone.gateway.checks) == (3 if last else 2)
        assert last or json.loads(diary.read_text()) == noted
