"""From a key to a phone's answer: keygen, pack, sign, verify, upload, validate, push, check."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compiler.cli import main
from compiler.language.key_source import read_keys
from compiler.packaging.package_signature import read_signature, verify
from processes import RedisServer
from workplace import APP, Workplace, workplace

NAMES = ("--app", APP, "--version", "1.0.0.1")
CLIENTS = ("--clients", "android=>=10.2.0")
PLAN = (
    f"app: {APP}\npackages: [{{version: 1.0.0.1}}]\n"
    "releases: [{id: stable, package: 1.0.0.1, audience: everyone}]\n"
)


@pytest.fixture
def place(tmp_path: Path, server: RedisServer) -> Iterator[Workplace]:
    """Set up a workplace with a packed bundle and no key for packages."""
    with workplace(tmp_path, server.url) as found:
        found.write("workspace.yaml", "workspace: demo\n")
        found.write("apps/coffee.yaml", PLAN)
        source = found.make_bundle("1.0.0.1")
        found.run("pack", str(source), "--out", str(tmp_path / "one.zip"), "--kind", "bundle")
        yield found


def keygen(place: Workplace, name: str, *arguments: str, **environment: str) -> Path:
    """Make a key for packages; give its private file."""
    folder = place.folder / "keys"
    place.run("keygen", name, "--for", "packages", "--dir", str(folder), *arguments, **environment)
    return folder / f"{name}.pem"


def trust(place: Workplace, *keys: Path) -> None:
    """Put the lines of .pub files under `keys:`."""
    lines = "".join(f"  {key.with_suffix('.pub').read_text()}" for key in keys)
    place.write("workspace.yaml", f"workspace: demo\nkeys:\n{lines}")


def test_from_a_key_to_a_phone(place: Workplace) -> None:
    """Where keys are named nothing unsigned goes out, and what a developer signs reaches phones."""
    package = str(place.folder / "one.zip")
    uploading = ("upload", package, *NAMES, "--plan", str(place.plan))
    place.run(*uploading)
    ann = keygen(place, "dev-ann", TIDEGATE_KEY_PASSPHRASE="open sesame")
    trust(place, ann)
    place.commit("unsigned")
    said = place.push(code=1).err
    assert "apps/coffee.yaml:2:22: error: 1.0.0.1 is on offer" in said
    assert "it is not signed. Sign the package's file (`tidegate sign`)" in said

    signing = ("sign", package, "--key", str(ann), *NAMES, *CLIENTS)
    place.run(*signing, TIDEGATE_KEY_PASSPHRASE="open sesame")
    said = place.run(*uploading).out
    assert "signed by 1 key" in said
    assert "; clients: every host app → android >=10.2.0; is uploaded" in said
    assert "clients:" not in place.run(*uploading).out
    assert "The plan is valid" in place.run("validate", str(place.plan)).out
    place.commit("signed")
    place.push()

    answer = place.app(platform="android", client_version="10.2.0")
    (text,) = answer["signatures"]
    signature = read_signature(text)
    (key,) = read_keys(place.plan)
    verify(signature, key)
    assert signature.claims.sha256 == answer["package"]["sha256"]
    assert signature.claims.size == answer["package"]["size"]
    assert place.app(platform="ios", client_version="10.2.0")["status"] == "none"

    rsa = keygen(place, "dev-ben", "--algorithm", "RS256", "--bits", "2048", "--no-passphrase")
    place.run("sign", package, "--key", str(rsa), *NAMES, *CLIENTS)
    trust(place, rsa)
    assert "signed by 2 keys" in place.run(*uploading).out
    place.commit("ben signs too, and ann's key leaves")
    told = place.run("diff", str(place.plan)).out
    assert "dev-ben" in told
    assert re.search(r"~ package 1\.0\.0\.1: signatures \w{8} → \w{8}, \w{8}", told), told
    place.push()
    assert len(place.app(platform="android", client_version="10.2.0")["signatures"]) == 2

    said = place.run("revert", "1", "--yes").out
    assert re.match(r"warning: trusted keys: dev-ben \(\S{8}\) → dev-ann \(\S{8}\)\n", said)


@dataclass(frozen=True, slots=True)
class Developer:
    """A developer without Redis or gateway: a folder, and the command line in this process."""

    folder: Path
    patch: pytest.MonkeyPatch
    said: pytest.CaptureFixture[str]

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `tidegate`; give what it printed, without the frames of usage errors."""
        self.patch.setattr(sys, "argv", ["tidegate", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = self.said.readouterr()
        assert left.value.code == code, said
        return said.out or " ".join(said.err.replace("│", " ").split())

    def keygen(self, name: str, *arguments: str) -> Path:
        """Make a key for packages; give its private file."""
        folder = self.folder / "keys"
        self.run("keygen", name, "--for", "packages", "--dir", str(folder), *arguments)
        return folder / f"{name}.pem"


@pytest.fixture
def developer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Developer:
    """Give a developer one file, and a plan without keys."""
    (tmp_path / "one.js").write_text("module.exports = 1")
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "workspace.yaml").write_text("workspace: demo\n")
    monkeypatch.delenv("TIDEGATE_KEY_PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)
    return Developer(tmp_path, monkeypatch, capsys)


def test_verify_says_who_signed(developer: Developer) -> None:
    """0 only if a trusted key signed just this file; every signature is told, also as JSON."""
    run = developer.run
    ann = developer.keygen("ann", "--no-passphrase")
    eve = developer.keygen("eve", "--no-passphrase", "--algorithm", "ES256")
    line = ann.with_suffix(".pub").read_text()
    (developer.folder / "plan" / "workspace.yaml").write_text(f"workspace: demo\nkeys:\n  {line}")
    verifying = ("verify", "one.js", "--keys", "plan")
    assert "Not trusted: it is not signed." in run(*verifying, *NAMES, code=3)
    assert "names no app" in run(*verifying, code=2)
    run("sign", "one.js", "--key", str(eve), *NAMES, "--created", "1790000000")
    said = run(*verifying, code=3)
    assert "(ES256), not a trusted key: fits the file; signed 2026-09-21 14:13:20 UTC" in said
    assert "ann signed" in run("sign", "one.js", "--key", str(ann), *NAMES)
    said = run(*verifying)
    assert "ann (EdDSA), trusted: holds;" in said and said.endswith("Trusted.\n")
    developer.patch.chdir(developer.folder / "plan")
    assert run("verify", "../one.js").endswith("Trusted.\n")
    developer.patch.chdir(developer.folder)
    found = json.loads(run("verify", "one.js", "--keys", str(eve.with_suffix(".pub")), "--json"))
    assert found["trusted"] is True and found["version"] == "1.0.0.1"
    assert [(row["key"], row["holds"]) for row in found["signatures"]] == [
        ("eve", True),
        (None, False),
    ]
    (developer.folder / "one.js").write_text("module.exports = 2")
    assert run(*verifying, code=3).count("cannot be used: it is for other bytes") == 3
    (developer.folder / "one.js.jws").write_text("junk\n")
    assert "Name the package's app and version" in run(*verifying, code=3)
    assert "1. cannot be used: it has 1 parts" in run(*verifying, *NAMES, code=3)


def test_a_passphrase_opens_the_key(developer: Developer) -> None:
    """The passphrase of a key comes from the environment, and without it nothing is signed."""
    developer.patch.setenv("TIDEGATE_KEY_PASSPHRASE", "open sesame")
    ann = developer.keygen("ann")
    assert ann.stat().st_mode & 0o777 == 0o600 and "ENCRYPTED" in ann.read_text()
    developer.patch.delenv("TIDEGATE_KEY_PASSPHRASE")
    signing = ("sign", "one.js", "--key", str(ann), *NAMES)
    assert "is encrypted" in developer.run(*signing, code=2)
    developer.patch.setenv("TIDEGATE_KEY_PASSPHRASE", "open sesame")
    assert "signed by 1 key" in developer.run(*signing)


def test_a_miniapp_names_itself(developer: Developer) -> None:
    """App and version come from the manifest, others are refused; JSON tells what was signed."""
    shop = developer.folder / "shop"
    developer.run("init", str(shop))
    developer.run("pack", str(shop / "bundles" / "1.0.0.1"), "--out", "one.zip")
    signing = ("sign", "one.zip", "--key", str(developer.keygen("ann", "--no-passphrase")))
    found = json.loads(developer.run(*signing, "--created", "2026-09-21T14:13:20Z", "--json"))
    claims = found["claims"]
    assert (claims["app"], claims["version"], claims["created"]) == (APP, "1.0.0.1", 1790000000)
    assert "is a package of" in developer.run(*signing, "--app", "tea", code=2)
    assert "says in its manifest" in developer.run(*signing, "--version", "2", code=2)


def test_a_publisher_s_key_signs_no_packages(developer: Developer) -> None:
    """The key of an epoch's author is refused by the line beside it."""
    developer.run("keygen", "bob", "--dir", "keys", "--no-passphrase")
    said = developer.run("sign", "one.js", "--key", "keys/bob.pem", *NAMES, code=2)
    assert "is a publisher's key, which signs epochs" in said


PACKAGES = ("keygen", "x", "--for", "packages", "--dir", "made")
SIGN = ("sign", "one.js", "--key", "keys/ann.pem", *NAMES)
WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("keygen", "x", "--for", "phones", "--dir", "made"), 2, "epochs, packages or devices"),
    (("keygen", "x", "--algorithm", "RS256", "--dir", "made"), 2, "say --for packages"),
    ((*PACKAGES, "--bits", "4096"), 2, "--bits is for --algorithm RS256"),
    ((*PACKAGES, "--algorithm", "RS256", "--bits", "1024", "--no-passphrase"), 2, "2048 to 8192"),
    ((*PACKAGES, "--algorithm", "HS256", "--no-passphrase"), 2, "'HS256' is not one of"),
    (PACKAGES, 2, "Nobody can type a passphrase"),
    ((*SIGN, "--clients", "android"), 2, "is no host app"),
    ((*SIGN, *CLIENTS, *CLIENTS), 2, "is no host app"),
    ((*SIGN, "--created", "yesterday"), 2, "is no time"),
    ((*SIGN, "--clients", "ios=any"), 3, "cannot be signed so: its clients give"),
    (("sign", "one.js", "--key", "keys/ann.pem"), 2, "names no app"),
    (("sign", "plan", "--key", "keys/ann.pem", *NAMES), 2, "is a folder"),
    (("sign", "one.js", "--key", "keys/none.pem", *NAMES), 2, "There is no key at keys/none.pem"),
    (
        ("sign", "one.js", "--key", "keys/ann.pub", *NAMES),
        2,
        "one that was made with it: keys/ann.pem",
    ),
    (("verify", "one.js", *NAMES), 2, "Whom do you trust?"),
    (("verify", "one.js", "--keys", "plan", *NAMES), 2, "No key is named"),
    (("verify", "one.js", "--keys", "none.pub", *NAMES), 1, "There is no such file. Name a plan"),
    (("verify", "one.js", "--keys", "keys/ann.pem", *NAMES), 1, "made with it: keys/ann.pub"),
    (("verify", "one.js", "--keys", "keys/ann.pub", "--signatures", "x.jws"), 2, "no file x.jws"),
    (
        ("upload", "one.js", *NAMES, "--plan", "plan", "--store", "st", "--signatures", "x.jws"),
        2,
        "There is no file x.jws",
    ),
]


def test_wrong_usage_is_told(developer: Developer) -> None:
    """Each slip on the command line gets a sentence, and nothing is made."""
    developer.keygen("ann", "--no-passphrase")
    for arguments, code, message in WRONG:
        said = developer.run(*arguments, code=code)
        assert message in said, (arguments, said)
    assert sorted(each.name for each in developer.folder.iterdir()) == ["keys", "one.js", "plan"]
