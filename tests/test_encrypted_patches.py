"""Patches of encrypted packages, and the commands on encryption, as processes end to end."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from compiler.cli import main
from compiler.packaging.encryption import EncryptionError, decrypted, encrypted
from compiler.packaging.identity_file import create_identity, load_identities, recipient_line
from compiler.patching import formats
from compiler.patching.job import Failure, Job
from compiler.patching.patch_index import Patch, read_index
from compiler.patching.selection import Pair, Source
from compiler.patching.worker import patch_pair
from compiler.plan import Encryption, Recipient
from gateway.errors import FormatError
from patch_shop import APP, Shop, edited, versions
from processes import RedisServer, wait_until
from workplace import Workplace, workplace

VERSIONS = versions(3)


class Vault:
    """A shop whose app is encrypted, and the identities of its phones."""

    def __init__(self, folder: Path, packages: Mapping[str, bytes] = VERSIONS) -> None:
        self.shop = Shop(folder)
        self.packages = packages
        self.keys = folder / "keys"
        self.recipients: dict[str, Recipient] = {}

    def make(self, name: str) -> Path:
        """Make an identity."""
        path, self.recipients[name] = create_identity(self.keys, name, None)
        return path

    def fill(self, *names: str, only: tuple[str, ...] = tuple(VERSIONS)) -> None:
        """Write a plan encrypted to these, with encrypted files and records of all versions."""
        self.shop.fill(self.packages, offered="1.3")
        for name in self.shop.store.list_named("files"):
            if name.endswith(".zip"):  # patches of before stay
                self.shop.store.delete_named(name)
        file = self.shop.plan / f"apps/{APP}.yaml"
        lines = "".join(f"  {recipient_line(self.recipients[name])}\n" for name in names)
        file.write_text(f"{file.read_text()}encryption:\n{lines}")
        for version in self.packages:
            if version in only:
                self.seal(version, *names)
            else:
                self.shop.record(APP, version, self.packages[version])

    def seal(self, version: str, *names: str) -> None:
        """Encrypt one version, as an upload does."""
        recipients = [self.recipients[name].recipient for name in names]
        plain = json.loads((self.shop.plan / f"packages/{APP}/{version}.json").read_bytes())
        self.shop.record(APP, version, encrypted(self.packages[version], recipients))
        file = self.shop.plan / f"packages/{APP}/{version}.json"
        secret = {"format": "age", "key_id": names[0], "recipients": recipients}
        kept = {name: plain[name] for name in ("size", "sha256", "signatures", "format")}
        value = json.loads(file.read_bytes()) | kept | {"encryption": secret}
        file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")

    def check(self, *paths: Path) -> int:
        """Apply every served patch as a phone with these identities; give how many there are."""
        identities = [each for path in paths for each in load_identities(path, None)]
        served = self.shop.index("1.3")["patches"]
        for entry in served:
            data = self.shop.store.get_named(entry["path"])
            assert data is not None
            assert entry["path"].endswith(f".{entry['format']}.age")
            assert entry["size"] == len(data)
            opened = decrypted(data, identities)
            old, new = self.packages[entry["from"]], self.packages["1.3"]
            sha256 = entry["to_sha256"]
            made = formats.apply_checked(entry["format"], old, opened, len(new), sha256)
            assert made == new
        return len(served)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Give a vault whose three versions are encrypted to `new` and `old`."""
    found = Vault(tmp_path)
    found.make("new")
    found.make("old")
    found.fill("new", "old")
    return found


def test_patches_are_encrypted_as_their_target_is(vault: Vault) -> None:
    """Any identity makes them, every one opens them, and the store has no plain byte of any."""
    new, old = vault.keys / "new.age-key", vault.keys / "old.age-key"
    said = vault.shop.patch("--identity", str(old))
    assert len(said["made"]) == 4
    assert vault.check(new) == vault.check(old) == 4
    recipients = [vault.recipients[name].recipient for name in ("new", "old")]
    entries = vault.shop.index("1.3")["patches"]
    secret = {"format": "age", "key_id": "new", "recipients": recipients}
    assert [entry["encryption"] for entry in entries] == [secret] * 4
    for path in vault.shop.where.rglob("*"):
        if path.is_file() and path.suffix != ".json":
            data = path.read_bytes()
            assert data.startswith(b"age-encryption.org/v1\n"), path
            assert VERSIONS["1.1"][100:120] not in data
    stranger = vault.make("stranger")
    with pytest.raises(EncryptionError, match="none of the identities"):
        vault.check(stranger)


def test_known_patches_are_not_made_again(vault: Vault) -> None:
    """The index says what is there: without work no identity is asked for."""
    vault.shop.patch("--identity", str(vault.keys / "new.age-key"))
    before = vault.shop.made()
    assert vault.shop.patch()["known_before"] == 4
    assert vault.shop.made() == before


@pytest.mark.parametrize("names", [("newest", "new"), ("new",)])
def test_other_recipients_are_patched_for_anew(vault: Vault, names: tuple[str, ...]) -> None:
    """When the package was encrypted to others, its patches are made again for just those."""
    new = vault.keys / "new.age-key"
    vault.shop.patch("--identity", str(new))
    before = {entry["path"] for entry in vault.shop.index("1.3")["patches"]}
    vault.make("newest")
    vault.fill(*names)
    said = vault.shop.patch("--identity", str(new))
    assert len(said["made"]) == 4
    assert before.isdisjoint(entry["path"] for entry in vault.shop.index("1.3")["patches"])
    for name in names:
        assert vault.check(vault.keys / f"{name}.age-key") == 4
    with pytest.raises(EncryptionError, match="none of the identities"):
        vault.check(vault.keys / "old.age-key")


def test_plain_versions_of_before_are_patched_from(vault: Vault) -> None:
    """An app that is encrypted from now on is patched from plain versions, by encrypted patches."""
    vault.fill("new", only=("1.3",))
    assert len(vault.shop.patch("--identity", str(vault.keys / "new.age-key"))["made"]) == 4
    assert vault.check(vault.keys / "new.age-key") == 4


def test_a_plain_target_has_plain_patches(vault: Vault) -> None:
    """An app that is no longer encrypted needs an identity for its old versions alone."""
    vault.shop.fill(VERSIONS, offered="1.3")
    for version in ("1.1", "1.2"):
        vault.seal(version, "new")
    said = vault.shop.patch("--identity", str(vault.keys / "new.age-key"))
    assert [each["path"].rsplit(".", 1)[1] for each in said["made"]].count("age") == 0
    assert all("encryption" not in each for each in vault.shop.index("1.3")["patches"])


def test_without_an_identity_nothing_is_begun(vault: Vault) -> None:
    """The refusal names the app, the key and the option; a dry run needs none."""
    said = " ".join(vault.shop.patch(code=2).replace("│", " ").split())
    assert "coffee 1.2 is encrypted (the newest key is new), and no identity was named" in said
    assert "Say --identity FILE" in said
    stranger = vault.make("stranger")
    said = " ".join(vault.shop.patch("--identity", str(stranger), code=2).split())
    assert "none of these identities opens it" in said
    assert len(vault.shop.patch("--dry-run")) == 2
    assert vault.shop.index("1.3") is None


def test_workers_are_told_no_secret_in_public(vault: Vault) -> None:
    """No command line and no environment of command or worker has a secret in it."""
    large = Vault(vault.shop.folder / "large", versions(3, 3_000_000))
    key = large.make("new")
    large.fill("new")
    (identity,) = load_identities(key, None)
    started = large.shop.start("--identity", str(key), "--jobs", "1")
    try:
        worker = halted_worker(started.pid)
        try:
            for pid in (started.pid, worker):
                for name in ("cmdline", "environ"):
                    shown = Path(f"/proc/{pid}/{name}").read_bytes()
                    assert shown
                    assert identity.secret.encode() not in shown
                    assert b"AGE-SECRET-KEY" not in shown
        finally:
            os.kill(worker, signal.SIGCONT)
    finally:
        started.terminate()
        started.communicate(timeout=120)


def halted_worker(pid: int) -> int:
    """Wait for a process that another one has started and executed; it stands still from then."""

    def halted() -> int | None:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it has ended by now
                for child in map(int, (task / "children").read_text().split()):
                    os.kill(child, signal.SIGSTOP)
                    shown = Path(f"/proc/{child}/cmdline").read_bytes()
                    if shown not in (b"", Path(f"/proc/{pid}/cmdline").read_bytes()):
                        return child
                    os.kill(child, signal.SIGCONT)
        return None

    found: int = wait_until(halted, "a worker is at work")
    return found


def pair_of(vault: Vault, **changed: Any) -> Job:
    """Make a job on versions 1.1 and 1.3 as they are recorded, or with another old source."""
    found = []
    for version in ("1.1", "1.3"):
        value = json.loads((vault.shop.plan / f"packages/{APP}/{version}.json").read_bytes())
        (form,) = value["forms"]
        said = value["encryption"]
        secret = Encryption("age", said["key_id"], tuple(said["recipients"]))
        where = {"path": form["path"], "encryption": secret, "stored": form["size"]}
        found.append({"size": value["size"], "sha256": value["sha256"]} | where)
    found[0] |= changed
    old, new = (Source(name, **each) for name, each in zip(("1.1", "1.3"), found, strict=True))
    return Job(Pair(APP, old, new, 99_999, None), ("zstd-patch",))


def test_a_worker_tells_why_it_cannot_decrypt(vault: Vault) -> None:
    """Wrong identities, a damaged, cut or lost file, and other bytes inside: each is a sentence."""
    held = load_identities(vault.keys / "new.age-key", None)
    job = pair_of(vault)
    (made,) = patch_pair(vault.shop.store, job, held)
    assert isinstance(made, Patch)
    path, data = job.pair.old.path, vault.shop.store.get_named(job.pair.old.path)
    assert data is not None
    stranger = load_identities(vault.make("stranger"), None)
    other = encrypted(edited(VERSIONS["1.1"], 9), [held[0].recipient])
    cases: list[tuple[bytes | None, Any, str]] = [
        (data, (), "none of the identities opens it"),
        (data, stranger, "none of the identities opens it"),
        (data[:-1], held, "no whole age file"),
        (data[:9000] + bytes([data[9000] ^ 1]) + data[9001:], held, "no whole age file"),
        (bytes(len(data)), held, "no whole age file"),
        (None, held, "is missing"),
        (other, held, "other bytes than its record says"),
    ]
    for stored, identities, said in cases:
        vault.shop.store.delete_named(path)
        if stored is not None:
            vault.shop.store.put_named(path, stored)
        (failure,) = patch_pair(
            vault.shop.store, pair_of(vault, stored=len(stored or b"")), identities
        )
        assert isinstance(failure, Failure)
        assert said in failure.sentence, failure.sentence
        assert held[0].secret not in failure.sentence


def test_a_damaged_index_is_refused(vault: Vault) -> None:
    """An index that says wrong things of encryption is none; a plain path is no encrypted one."""
    vault.shop.patch("--identity", str(vault.keys / "new.age-key"))
    index = vault.shop.index("1.3")
    store = vault.shop.store
    assert len(read_index(store, APP, "1.3").patches) == 4
    secret = index["patches"][0]["encryption"]
    for changed in (
        {"encryption": secret | {"recipients": ["age1abc"]}},
        {"encryption": {"format": "age", "key_id": "new"}},
        {"encryption": None},
        {"path": index["patches"][0]["path"].removesuffix(".age")},
    ):
        value = json.loads(json.dumps(index))
        value["patches"][0] |= changed
        store.put_named(f"patches/{APP}/1.3.json", json.dumps(value).encode())
        with pytest.raises(FormatError, match="is no index of patches"):
            read_index(store, APP, "1.3")


# The commands


@pytest.fixture
def place(tmp_path: Path, server: RedisServer) -> Iterator[Workplace]:
    """Set up a workplace with a plan of one MiniApp."""
    with workplace(tmp_path, server.url) as found:
        found.write("workspace.yaml", "workspace: demo\n")
        yield found


def test_from_keygen_to_a_file_that_the_phone_opens(place: Workplace, tmp_path: Path) -> None:
    """The line that keygen prints is what upload and encrypt go by."""
    keys, page = tmp_path / "keys", tmp_path / "page.html"
    page.write_bytes(b"tide " * 900)
    said = place.run("keygen", "k1", "--for", "devices", "--dir", str(keys), "--no-passphrase").out
    line = said.strip().splitlines()[-1].strip()
    assert line == (keys / "k1.recipient").read_text().strip()
    app = "app: coffee\npackages: [{version: 1.0}]\n"
    releases = "releases: [{id: r, package: 1.0, audience: everyone}]\n"
    place.write("apps/latte.yaml", f"{app}{releases}encryption:\n  {line}\n")
    plan = ("--plan", str(place.plan))
    place.run("upload", str(page), "--app", "latte", "--version", "1.0", *plan)
    assert "The plan is valid" in place.run("validate", str(place.plan)).out
    (identity,) = load_identities(keys / "k1.age-key", None)

    out = json.loads(place.run("encrypt", str(page), "--app", "latte", *plan, "--json").out)
    (made,) = out
    assert made["file"] == f"{page}.zst.age"
    assert made["recipients"] == [identity.recipient]
    place.run("encrypt", str(page), "--to", identity.recipient, "--compression", "identity")
    assert decrypted(Path(f"{page}.age").read_bytes(), [identity]) == page.read_bytes()

    for path in (tmp_path / "store").rglob("*"):
        assert not path.is_file() or b"tide tide" not in path.read_bytes(), path


def test_slips_end_with_a_sentence_and_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with what is asked of encrypt and keygen, nothing is written."""
    path, recipient = create_identity(tmp_path / "keys", "k1", None)
    (identity,) = load_identities(path, None)
    page, plan = tmp_path / "page.html", tmp_path / "plan"
    page.write_bytes(b"tide")
    (plan / "apps").mkdir(parents=True)
    (plan / "workspace.yaml").write_text("workspace: demo\n")
    named = ("--plan", str(plan))
    to = ("--to", recipient.recipient)
    devices = ("--for", "devices", "--dir", str(tmp_path / "keys"))
    for command, arguments, code, told in (
        ("encrypt", ("--app", "tea", *named), 2, "The plan encrypts no app 'tea'"),
        ("encrypt", named, 2, "names no app"),
        ("encrypt", ("--to", "age1abc"), 2, "is no recipient"),
        ("encrypt", ("--to", identity.secret), 2, "is an identity"),
        ("encrypt", (*to, "--compression", "lzma"), 2, "--compression is"),
        ("encrypt", (*to, "--app", "latte"), 2, "not both"),
        ("encrypt", (*to, "--out", str(page)), 3, "is the file itself"),
        ("encrypt", (*to, "--out", str(tmp_path)), 3, "cannot be encrypted"),
        ("encrypt", ("--app", "tea", "--plan", str(tmp_path)), 2, "is no plan's folder"),
        ("keygen", ("k1", *devices, "--no-passphrase"), 2, "exists already"),
        ("keygen", ("k2", *devices, "--algorithm", "ES256"), 2, "Identities are X25519"),
        ("keygen", ("k2", "--for", "phones"), 2, "--for is epochs, packages or devices"),
    ):
        subject = (str(page),) if command == "encrypt" else ()
        monkeypatch.setattr(sys, "argv", ["tidegate", command, *subject, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = " ".join(capsys.readouterr().err.split())
        assert ended.value.code == code, said
        assert told in said, said
        assert identity.secret not in said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keys", "page.html", "plan"]
    assert page.read_bytes() == b"tide"
