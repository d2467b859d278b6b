"""Law 10, second half: a client ends on a verified target, or stays where it was.

Whatever the answer and the CDN's bytes are damaged to, wherever the process is killed, whenever
the disk is full. Here against a small server that lies; test_phones.py has the real gateway.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.client import Client, Limits, Trust
from loadtest.client.trust import thumbprint
from stub_gateway import APP, Fault, StubGateway, offer, package, sha256, signed, stub_gateway

SOAK = bool(os.environ.get("TIDEGATE_SOAK"))
ROOT = Path(__file__).parent.parent.parent

OLD, NEW, OTHER, FORGED = package(1), package(2), package(3), package(4)
KEY, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
IDENTITY = pyrage.x25519.Identity.generate()
KEYS = {thumbprint(KEY.public_key()): KEY.public_key()}
LIMITS = Limits(silence_seconds=20, tries=4, pause_seconds=0)
PHONE = {"device": "d-1", "network": "WIFI"}
SIGNED = {("1", sha256(OLD)), ("2", sha256(NEW)), ("3", sha256(OTHER))}
"""What the developer has signed: nothing else may ever be installed."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[StubGateway]:
    with stub_gateway() as found:
        yield found


def phone(root: Path, gateway: StubGateway, *, keys: bool = True) -> Client:
    trust = Trust(KEYS if keys else {}, [str(IDENTITY)])
    return Client(root, gateway.url, PHONE, [APP], trust, LIMITS)


def has(client: Client) -> tuple[str, str] | None:
    found = client.installed(APP)
    if found is None:
        return None
    assert sha256(found.path.read_bytes()) == found.sha256
    return found.version, found.sha256


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 60) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
WAYS = [
    (form, base, encrypted)
    for form in ("identity", "gzip", "zstd")
    for base in (None, "bsdiff4", "zstd-patch")
    for encrypted in (False, True)
]
"""How packages travel."""


@dataclass
class Made:
    """One way's answer and files, made once.

    `forged`: the same of bytes that nobody signed, sound in all but that, for either signature.
    """

    entry: dict[str, Any]
    files: dict[str, bytes]
    forged: list[dict[str, Any]]
    forged_files: dict[str, bytes]


@pytest.fixture(scope="module")
def made(gateway: StubGateway) -> dict[Any, Made]:
    found = {}
    for form, base, encrypted in WAYS:
        gateway.reset()
        recipients = [IDENTITY.to_public()] if encrypted else []
        way = {"form": form, "base": base and (base, "1", OLD), "recipients": recipients}
        entry, files = offer(gateway, "2", NEW, **way, signers=[KEY]), dict(gateway.files)
        gateway.reset()
        forged = offer(gateway, "2", FORGED, **way, signers=[STRANGER])
        signatures = (forged["signatures"], entry["signatures"], [])
        both = [forged | {"signatures": each} for each in signatures]
        found[form, base, encrypted] = Made(entry, files, both, dict(gateway.files))
    return found


@st.composite
def answers(draw: st.DrawFn, entry: dict[str, Any]) -> dict[str, Any]:
    """Draw an answer: the true one, with members dropped, changed, or of other packages."""
    entry = copy.deepcopy(entry)
    for _ in range(draw(st.integers(0, 2))):
        place = entry
        while True:
            name = draw(st.sampled_from(sorted(place)))
            if isinstance(place[name], dict) and place[name] and draw(st.booleans()):
                place = place[name]
                continue
            break
        kind = draw(st.sampled_from(["drop", "any", "other"]))
        if kind == "drop":
            del place[name]
        elif kind == "any":
            place[name] = draw(JSON)
        else:
            place[name] = draw(st.sampled_from(TRUE_ELSEWHERE.get(name, [None])))
        if not place or not entry:
            break
    return entry


TRUE_ELSEWHERE: dict[str, list[Any]] = {
    "sha256": [sha256(OLD), sha256(OTHER), "0" * 64],
    "size": [len(NEW) + 1, len(NEW) - 1, 0],
    "version": ["1", "3", "2.0", "../2"],
    "status": ["rollback", "withdrawn", "latest", "none"],
    "compression": ["gzip", "zstd", "identity", "bsdiff4", "br"],
    "format": ["bsdiff4", "zstd-patch", "age", "gzip"],
    "from": ["1", "2", "1.0"],
    "encryption": [{"format": "age"}, None],
    "signatures": [
        [],
        [signed(STRANGER, "2", NEW)],
        [signed(KEY, "1", OLD)],
        [signed(KEY, "3", OTHER)],
        [signed(KEY, "3", OTHER), signed(KEY, "2", NEW)],
    ],
}


@st.composite
def damage(draw: st.DrawFn, files: dict[str, bytes]) -> dict[str, bytes]:
    """Draw what a CDN has instead: a flipped byte, a cut, a tail, or another file."""
    found = dict(files)
    for path in files:
        data = found[path]
        kind = draw(st.sampled_from(["whole", "flip", "cut", "longer", "other", "gone"]))
        if kind == "flip":
            at = draw(st.integers(0, len(data) - 1))
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "cut":
            data = data[: draw(st.integers(0, len(data)))]
        elif kind == "longer":
            data += bytes(draw(st.integers(1, 99)))
        elif kind == "other":
            data = draw(st.sampled_from([OLD, OTHER, *files.values()]))
        if kind == "gone":
            del found[path]
        else:
            found[path] = data
    return found


FAULTS = st.builds(
    Fault,
    status=st.sampled_from([200, 200, 200, 404, 500]),
    cut_after=st.none() | st.integers(0, 12_000),
    no_ranges=st.booleans(),
    wrong_range=st.booleans(),
    chunked=st.booleans(),
    times=st.integers(0, 3),
)


def test_sound_bytes_that_nobody_signed(gateway: StubGateway, made: dict[Any, Made]) -> None:
    """On each way, encrypted to the phone or not: they are not installed, and not fetched."""
    with tempfile.TemporaryDirectory() as folder:
        gateway.reset()
        gateway.apps = [offer(gateway, "1", OLD, signers=[KEY])]
        phone(Path(folder), gateway).update()
        gateway.fetched.clear()
        for way in WAYS:
            gateway.files = made[way].forged_files
            for entry in made[way].forged:
                gateway.apps = [entry]
                (result,) = phone(Path(folder), gateway).update()
                assert (result.outcome, gateway.fetched) == ("failed", []), way
                assert has(phone(Path(folder), gateway)) == ("1", sha256(OLD))
        gateway.apps = [entry]
        (result,) = phone(Path(folder), gateway, keys=False).update()
        assert result.outcome == "installed", "but for the signature, they are sound"


@settings(max_examples=1000 if SOAK else 80, deadline=None)
@given(data=st.data())
def test_any_damage_ends_verified_or_unchanged(
    gateway: StubGateway, made: dict[Any, Made], data: st.DataObject
) -> None:
    """Any answer, any bytes, any fault: what is installed was signed, and is whole.

    And when all is well again, the next round brings the target.
    """
    true = made[data.draw(st.sampled_from(WAYS))]
    with tempfile.TemporaryDirectory() as folder:
        gateway.reset()
        gateway.apps = [offer(gateway, "1", OLD, signers=[KEY])]
        phone(Path(folder), gateway).update()
        gateway.files = data.draw(damage(true.files))
        gateway.faults = {path: data.draw(FAULTS) for path in true.files}
        gateway.apps = [data.draw(answers(true.entry))]
        (result,) = phone(Path(folder), gateway).update()
        found = has(phone(Path(folder), gateway))
        assert found is not None
        assert (found[0].removesuffix(".0"), found[1]) in SIGNED
        assert result.version == found[0]
        if result.outcome not in ("installed", "rolled_back"):
            assert found == ("1", sha256(OLD))
        gateway.files, gateway.faults, gateway.apps = true.files, {}, [true.entry]
        phone(Path(folder), gateway).update()
        assert has(phone(Path(folder), gateway)) == ("2", sha256(NEW))


ZYGOTE = """
import json, os, resource, shutil, sys
from pathlib import Path
from loadtest.client import Client, Limits, Trust

APP, PHONE = "2021000000000001", {"device": "d-1", "network": "WIFI"}
url, template, identity, mode = sys.argv[1:5]
WATCHED = ("open", "os.", "fcntl.", "shutil.")
hook = {"left": -1}

CALLED = ("write", "truncate", "fsync", "close")

def step_taken():
    if hook["left"] == 0:
        os._exit(9)
    hook["left"] -= 1

def watch(event, arguments):
    if hook["left"] >= 0 and event.startswith(WATCHED):
        step_taken()

def called(frame, event, function):
    # What no audit tells of: between opening a file and having written it there are deaths, too.
    if hook["left"] >= 0 and event == "c_call" and function.__name__ in CALLED:
        step_taken()

sys.addaudithook(watch)

def client(root):
    return Client(root, url, PHONE, [APP], Trust({}, [identity]), Limits(pause_seconds=0))

def has(root):
    found = client(root).installed(APP)
    return found and [found.version, found.sha256]

def child(root, step):
    try:
        phone = client(root)
        if mode == "kill":
            hook["left"] = step
            sys.setprofile(called)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (step, resource.RLIM_INFINITY))
        (result,) = phone.update()
        hook["left"] = -1
        os._exit({"installed": 0, "rolled_back": 0, "failed": 1}[result.outcome])
    except BaseException:
        os._exit(70)

steps = iter(range(10_000)) if mode == "kill" else map(int, sys.argv[5].split(","))
for step in steps:
    root = Path(template).with_name("root")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    pid = os.fork()
    if pid == 0:
        child(root, step)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    after = has(root)
    client(root).update()
    client(root).update()  # the old file goes a round later
    left = sorted(path.name for path in root.rglob("*") if path.is_file())
    print(json.dumps([step, code, after, has(root), left]), flush=True)
    if mode == "kill" and code == 0:
        break
"""


def rounds(gateway: StubGateway, folder: Path, mode: str, *more: str) -> list[Any]:
    """Let a phone with the old version meet each step's end; give what it had then, and later."""
    shutil.rmtree(folder, ignore_errors=True)
    (entry,) = gateway.apps
    gateway.apps = [offer(gateway, "1", OLD)]
    phone(folder, gateway, keys=False).update()
    gateway.apps = [entry]
    out = subprocess.run(
        [sys.executable, "-c", ZYGOTE, gateway.url, str(folder), str(IDENTITY), mode, *more],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    return [json.loads(line) for line in out.splitlines()]


SOME = WAYS if SOAK else [("identity", None, False), ("gzip", "bsdiff4", True)]


@pytest.mark.parametrize("way", SOME, ids=str)
def test_a_kill_at_any_step_leaves_the_old_or_the_new(
    gateway: StubGateway, made: dict[Any, Made], way: Any, tmp_path: Path
) -> None:
    """Killed before any operation on files, it has one of both; the next round ends well."""
    gateway.reset()
    gateway.files, gateway.apps = dict(made[way].files), [made[way].entry]
    old, new = ["1", sha256(OLD)], ["2", sha256(NEW)]
    found = rounds(gateway, tmp_path / "template", "kill")
    killed, (*_, last) = found[:-1], found
    assert len(killed) > 20
    assert last[1:3] == [0, new]
    whole = sorted([sha256(NEW), "installed.json", "diary.json", "lock"])
    for step, code, after, end, left in killed:
        assert code == 9, step
        assert after in (old, new), step
        assert (end, left) == (new, whole), step
    assert {json.dumps(each[2]) for each in killed} == {json.dumps(old), json.dumps(new)}


@pytest.mark.parametrize("way", SOME, ids=str)
def test_a_full_disk_leaves_the_old(
    gateway: StubGateway, made: dict[Any, Made], way: Any, tmp_path: Path
) -> None:
    """Where no file can grow over a limit, whichever, the client says so and has the old or new."""
    gateway.reset()
    gateway.files, gateway.apps = dict(made[way].files), [made[way].entry]
    old, new = ["1", sha256(OLD)], ["2", sha256(NEW)]
    sizes = [0, 1, 100, 200, 300, 400, *range(500, len(NEW) + 1500, 500 if SOAK else 1500)]
    found = rounds(gateway, tmp_path / "template", "limit", ",".join(map(str, sizes)))
    assert len(found) == len(sizes)
    for size, code, after, end, _ in found:
        assert (code, after) in ((0, new), (1, old)), size
        assert end == new, size
    assert {code for _, code, *_ in found} == {0, 1}
