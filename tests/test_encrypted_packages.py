"""Encrypted packages: from the plan's `encryption:` to a store in which no plain byte is found."""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
import zstandard

from compiler.commands.naming import app_of_file
from compiler.diagnostic import PlanError
from compiler.language.encryption_source import read_encryption
from compiler.language.faults import Faults
from compiler.language.package_record import RECORD, written_record
from compiler.language.reading import Reading, read_files, read_folder
from compiler.language.tree import parse
from compiler.packaging import forms
from compiler.packaging.encryption import Identity, decrypted, new_identity
from compiler.packaging.upload import Uploaded, upload_all
from compiler.packaging.upload_fault import UploadError
from compiler.plan import Encryption, Recipient
from compiler.storage.store import Store, open_store
from gateway.errors import StoreError

APP = "coffee"
MARK = b"a secret that no CDN shall see "
DATA = MARK * 400 + os.urandom(3000)
KEYS = {name: new_identity() for name in ("k1", "k2", "k3")}
UPPER = KEYS["k1"].recipient.upper()
ENTRY = "{{key: {}, recipient: {}}}"


class Desk:
    """A plan of one app, a store, and the file of its version 1.0."""

    def __init__(self, folder: Path) -> None:
        self.plan, self.place = folder / "plan", folder / "store"
        self.store: Store = open_store(str(self.place))
        (self.plan / "apps").mkdir(parents=True)
        (self.plan / "workspace.yaml").write_text("workspace: demo\n")
        self.file = folder / "coffee.js"
        self.file.write_bytes(DATA)
        self.record = self.plan / "packages" / APP / "1.0.json"

    def name(self, *keys: str, state: str = "live", extra: str = "") -> None:
        """Write the app's file, encrypted to these keys."""
        lines = [f"  - {{key: {key}, recipient: {KEYS[key].recipient}}}" for key in keys]
        encryption = "\n".join(["encryption:", *lines]) if keys else ""
        (self.plan / "apps/coffee.yaml").write_text(
            f"app: {APP}\npackages: [{{version: 1.0}}]\n"
            f"releases: [{{id: r, package: 1.0, audience: everyone, state: {state}}}]\n"
            f"{encryption}\n{extra}"
        )

    def upload(self) -> Uploaded:
        """Upload the file as the plan says."""
        return upload_all(
            [self.file],
            app=APP,
            version="1.0",
            plan=self.plan,
            store=self.store,
            encryption=read_encryption(self.plan),
        )[0]

    def recorded(self) -> Any:
        """Read the record."""
        return json.loads(self.record.read_bytes())

    def opened(self, *keys: str) -> dict[str, bytes]:
        """Open every form of the record with these identities."""
        found = {}
        for form in self.recorded()["forms"]:
            data = self.store.get_named(form["path"])
            assert data is not None
            assert len(data) == form["size"]
            found[form["compression"]] = decrypted(data, [KEYS[key] for key in keys])
        return found

    def read(self) -> Reading:
        """Validate the plan."""
        return read_folder(self.plan, now=1_800_000_000)

    def said(self) -> list[str]:
        """Give what validate says, without the doubt about the CDN."""
        found = (str(each.message) for each in self.read().diagnostics)
        return [each for each in found if "cdn" not in each]

    def objects(self) -> dict[str, bytes]:
        """Give every file in the store's folder, whatever its name."""
        files = [path for path in self.place.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.place)): path.read_bytes() for path in files}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give a desk whose app is encrypted to k1."""
    found = Desk(tmp_path)
    found.name("k1")
    return found


def plain_forms() -> list[bytes]:
    """Give the beginnings of every plain form: none of these may be in the store."""
    compressed = gzip.compress(DATA, 9, mtime=0)
    return [MARK, DATA[-200:], compressed[20:220], zstandard.compress(DATA, 19)[:4]]


# Upload


def test_an_encrypted_app_s_store_holds_no_plain_byte(desk: Desk) -> None:
    """Every form is an age file that the identity opens; nothing plain is found by any name."""
    done = desk.upload()
    assert done.recorded and done.stored
    assert done.message.startswith(f"coffee 1.0 ({len(DATA):,} bytes, ")
    assert "encrypted to k1)" in done.message
    opened = desk.opened("k1")
    assert opened["identity"] == DATA
    assert gzip.decompress(opened["gzip"]) == DATA
    assert zstandard.decompress(opened["zstd"]) == DATA
    objects = desk.objects()
    assert sorted(name.split(".", 1)[1] for name in objects) == [
        "js.age",
        "js.gz.age",
        "js.zst.age",
    ]
    for data in objects.values():
        assert data.startswith(b"age-encryption.org/v1\n-> X25519 ")
        assert not any(plain in data for plain in plain_forms())


def test_the_record_keeps_the_installed_file_s_digest(desk: Desk) -> None:
    """Size and SHA-256 of the record are those without encryption, and so is what is signed."""
    desk.upload()
    secret = desk.recorded()
    assert secret["encryption"] == {
        "format": "age",
        "key_id": "k1",
        "recipients": [KEYS["k1"].recipient],
    }
    plan = desk.read().plan
    assert plan is not None
    (app,) = plan.apps
    assert app.encryption == (Recipient("k1", KEYS["k1"].recipient),)
    record = app.packages[0].record
    assert record is not None
    assert record.encryption == Encryption("age", "k1", (KEYS["k1"].recipient,))
    desk.record.unlink()
    desk.name()
    desk.upload()
    plain = desk.recorded()
    assert {name: plain[name] for name in ("size", "sha256", "signatures")} == {
        name: secret[name] for name in ("size", "sha256", "signatures")
    }


def test_an_encrypted_record_reads_the_same_both_ways(desk: Desk) -> None:
    """The short way to read records and the tree agree on an encrypted one."""
    desk.upload()
    text = desk.record.read_text()
    short = written_record(text)
    faults = Faults()
    node = parse("record", text, faults)
    assert node is not None
    assert short is not None
    assert RECORD.read(node, faults) == short
    assert short.record.encryption is not None


def test_the_same_again_changes_nothing(desk: Desk) -> None:
    """What age writes is random, and yet a second upload leaves record and store as they are."""
    desk.upload()
    before, record = desk.objects(), desk.record.read_bytes()
    again = desk.upload()
    assert (again.recorded, again.stored) == (False, False)
    assert (desk.objects(), desk.record.read_bytes()) == (before, record)


def test_a_lost_or_damaged_form_is_encrypted_anew(desk: Desk) -> None:
    """What the store lacks, or holds with other bytes, is made again; the others are kept."""
    desk.upload()
    before = {form["compression"]: form for form in desk.recorded()["forms"]}
    desk.store.delete_named(before["gzip"]["path"])
    desk.store.put_named(before["zstd"]["path"], b"damaged")
    done = desk.upload()
    assert (done.recorded, done.stored) == (True, True)
    after = {form["compression"]: form for form in desk.recorded()["forms"]}
    assert after["identity"] == before["identity"]
    assert after["gzip"] != before["gzip"]
    assert after["zstd"] != before["zstd"]
    assert gzip.decompress(desk.opened("k1")["gzip"]) == DATA
    assert desk.upload().recorded is False


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("k1",), ("k2", "k1")),  # a new key
        (("k2", "k1"), ("k2",)),  # the old one leaves, the first stays
        (("k1",), ("k1", "k3")),  # one more, behind
        (("k1", "k2"), ("k2", "k1")),  # another is the newest
        ((), ("k1",)),  # from now on
        (("k1",), ()),  # no longer
    ],
)
def test_other_recipients_are_encrypted_to_anew(
    desk: Desk, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """Whoever joins or leaves, the next upload of the same file is for just those named then."""
    desk.name(*before)
    first = desk.upload()
    desk.name(*after)
    done = desk.upload()
    assert (done.recorded, done.stored) == (True, True)
    assert (done.size, done.sha256) == (first.size, first.sha256)
    assert {form.path for form in done.forms}.isdisjoint(form.path for form in first.forms)
    if after:
        assert done.encryption is not None
        assert done.encryption.key_id == after[0]
        for key in after:
            assert desk.opened(key)["identity"] == DATA
        for key in {*KEYS} - {*after}:
            with pytest.raises(Exception, match="none of the identities"):
                desk.opened(key)
    else:
        assert "encryption" not in desk.recorded()
    assert desk.upload().recorded is False


def test_the_order_behind_the_first_changes_nothing(desk: Desk) -> None:
    """The first is the newest; who stands behind it, in which order, makes no other file."""
    desk.name("k1", "k2", "k3")
    desk.upload()
    record = desk.record.read_bytes()
    desk.name("k1", "k3", "k2")
    assert desk.upload().recorded is False
    assert desk.record.read_bytes() == record
    assert desk.said() == []


def test_a_key_that_another_took_over_is_noticed(desk: Desk) -> None:
    """The same name with another recipient is another key."""
    desk.upload()
    text = (desk.plan / "apps/coffee.yaml").read_text()
    changed = text.replace(KEYS["k1"].recipient, KEYS["k2"].recipient)
    (desk.plan / "apps/coffee.yaml").write_text(changed)
    assert desk.upload().recorded
    assert desk.opened("k2")["identity"] == DATA


def test_what_is_between_is_nobody_else_s(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a form is made, no plain byte of it is in a file that others could open."""
    seen: list[Path] = []
    temporary = desk.file.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    whole = forms.encryption.encrypt

    def look(source: Any, target: Any, recipients: Any) -> None:
        whole(source, target, recipients)
        for path in temporary.rglob("*"):
            with suppress(FileNotFoundError):  # sent and removed by another thread
                if path.is_dir():
                    assert path.stat().st_mode & 0o077 == 0
                else:
                    assert not any(plain in path.read_bytes() for plain in plain_forms()), path
                seen.append(path)

    monkeypatch.setattr(forms.encryption, "encrypt", look)
    desk.upload()
    assert any(path.suffix == ".age" for path in seen)
    assert list(temporary.iterdir()) == []


def test_a_store_that_fails_gets_nothing_plain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off after the first form, the upload leaves only age files, and is then repeated."""
    put, puts = Store.put_file, []

    def failing(self: Store, path: str, source: Path, **named: Any) -> None:
        puts.append(path)
        if len(puts) > 1:
            raise StoreError("The store is away.")
        put(self, path, source, **named)

    monkeypatch.setattr(Store, "put_file", failing)
    with pytest.raises(StoreError):
        desk.upload()
    assert not desk.record.exists()
    assert all(data.startswith(b"age-encryption.org/v1") for data in desk.objects().values())
    monkeypatch.undo()
    assert desk.upload().recorded
    assert desk.opened("k1")["identity"] == DATA


def test_a_file_that_changes_meanwhile_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that were not looked at before are not uploaded, encrypted or not."""
    whole = forms.write_form

    def change(*arguments: Any) -> Any:
        desk.file.write_bytes(DATA[:-1] + b"!")
        return whole(*arguments)

    monkeypatch.setattr(forms, "write_form", change)
    with pytest.raises(UploadError, match="changed while it was read"):
        desk.upload()
    assert desk.objects() == {}


# The plan


def test_a_plain_package_on_offer_is_an_error(desk: Desk) -> None:
    """Where the app names encryption, what is on offer must be encrypted; withdrawn or not."""
    desk.name()
    desk.upload()
    assert desk.said() == []
    desk.name("k1")
    (said,) = desk.said()
    assert "is of plain files, though this app names encryption. Run `tidegate upload`" in said
    assert desk.read().plan is None
    desk.name("k1", state="ended")
    assert not any("plain files" in each for each in desk.said())
    desk.name("k1", state="paused")
    assert any("plain files" in each for each in desk.said())
    desk.upload()
    desk.name("k1")
    assert desk.said() == []


def test_what_is_encrypted_to_others_is_doubted(desk: Desk) -> None:
    """Until the next upload validate names who could not open it; no longer encrypting is fine."""
    desk.upload()
    desk.name("k2", "k1")
    (said,) = desk.said()
    assert f"not encrypted to {KEYS['k2'].recipient}" in said
    assert desk.read().plan is not None
    desk.name("k2")
    desk.upload()
    desk.name("k1", "k2")
    assert any("Run `tidegate upload` again" in each for each in desk.said())
    desk.name()
    assert desk.said() == []


def test_a_live_epoch_s_text_is_not_asked_again(desk: Desk) -> None:
    """What was pushed is read as it was, whatever it names."""
    desk.name()
    desk.upload()
    desk.name("k1")
    names = ("workspace.yaml", "apps/coffee.yaml", "packages/coffee/1.0.json")
    files = {name: (desk.plan / name).read_text() for name in names}
    assert read_files(files, now=0).plan is not None


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("[]", "This list is empty"),
        ("age1abc", "This is one value"),
        ("[{key: k1}]", 'needs the key "recipient"'),
        (f"[{{recipient: {KEYS['k1'].recipient}}}]", 'needs the key "key"'),
        ("[{key: k1, recipient: age1abc}]", "is no recipient of age's kind X25519"),
        (f"[{{key: a/b, recipient: {KEYS['k1'].recipient}}}]", "is no name here"),
        (f"[{{key: k1, recipient: {KEYS['k1'].secret}}}]", "This is an identity"),
        (f"[{{key: k1, recipient: {KEYS['k1'].recipient}, days: 3}}]", 'no key "days"'),
        (
            f"[{', '.join([ENTRY.format('k1', KEYS['k1'].recipient)] * 2)}]",
            'A key of the name "k1" stands on line 1 already',
        ),
        (
            f"[{ENTRY.format('a', KEYS['k1'].recipient)}, {ENTRY.format('b', UPPER)}]",
            'This is the key of line 1, "a"',
        ),
        (
            f"[{', '.join(ENTRY.format(at, new_identity().recipient) for at in range(9))}]",
            "at most 8 may stand here",
        ),
    ],
)
def test_a_fault_in_encryption_is_told_and_nothing_sent(
    desk: Desk, entries: str, said: str
) -> None:
    """Each slip has its sentence, and an upload goes nowhere: the app might be a secret one."""
    text = f"encryption: {entries}\napp: {APP}\npackages: []\nreleases: []\n"
    (desk.plan / "apps/coffee.yaml").write_text(text)
    assert any(said in each for each in desk.said()), desk.said()
    with pytest.raises(PlanError):
        desk.upload()
    assert desk.objects() == {}


@pytest.mark.parametrize("key", ["encryption", '"encryption"', r'"encry\x70tion"'])
def test_however_it_is_spelled_it_is_read(desk: Desk, key: str) -> None:
    """The key may be quoted or escaped; a file that cannot be read lets nothing through."""
    entry = f"[{{key: k1, recipient: {KEYS['k1'].recipient}}}]"
    (desk.plan / "apps/coffee.yaml").write_text(f"app: {APP}\n{key}: {entry}\n")
    assert list(read_encryption(desk.plan)) == [APP]
    (desk.plan / "apps/coffee.yaml").write_text(f"app: {APP}\n{key}: {entry}\n  wrong: [\n")
    with pytest.raises(PlanError):
        read_encryption(desk.plan)


def test_other_apps_are_not_read(desk: Desk) -> None:
    """A file that cannot speak of encryption is not parsed, so that ten thousand cost little."""
    (desk.plan / "apps/tea.yaml").write_text("app: [broken\n")
    (desk.plan / "apps/.coffee.yaml").write_text("encryption: [an editor's copy\n")
    assert list(read_encryption(desk.plan)) == [APP]


@pytest.mark.parametrize("name", ["coffee.yml", "coffee.YAML", "Coffee.Yml", "drinks/coffee.yaml"])
def test_a_file_s_wrong_name_lets_nothing_through(desk: Desk, name: str) -> None:
    """An app file that validate refuses for its name still says that the app is secret."""
    (desk.plan / "apps/drinks").mkdir()
    (desk.plan / "apps/coffee.yaml").rename(desk.plan / "apps" / name)
    assert any("An app's file is apps/<name>.yaml" in each for each in desk.said())
    assert list(read_encryption(desk.plan)) == [APP]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_file_that_is_no_utf_8_lets_nothing_through(desk: Desk, coding: str) -> None:
    """What an editor saved in another encoding is refused, not taken for an app without secrets."""
    path = desk.plan / "apps/coffee.yaml"
    path.write_bytes(f"{path.read_text()}name: Café\n".encode(coding))
    with pytest.raises(PlanError):
        desk.upload()
    assert desk.objects() == {}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("coffee.YAML", "app: 2021000000000001\n"),
        ("Coffee.yaml", "app: 2021000000000001\n"),
        ("coffee.yaml", '"app": 2021000000000001\n'),
        ("coffee.yaml", "{app: 2021000000000001}\n"),
    ],
)
def test_a_file_s_name_is_never_taken_for_an_id(desk: Desk, file: str, text: str) -> None:
    """Uploaded as the app "coffee", a package of the app in that file would go out plain."""
    (desk.plan / "apps/coffee.yaml").unlink()
    (desk.plan / "apps" / file).write_text(text)
    with pytest.raises(typer.BadParameter):
        app_of_file(desk.plan, "coffee")
    assert app_of_file(desk.plan, "2021000000000001") == "2021000000000001"


# Hostile records


def damaged(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give records of which each is wrong in one way."""
    secret = value["encryption"]
    plain = {"compression": "identity", "size": value["size"], "sha256": value["sha256"]}
    plain["path"] = f"files/{value['sha256'][:2]}/{value['sha256']}.js"
    yield "another format", value | {"encryption": secret | {"format": "gpg"}}
    yield "no key", value | {"encryption": secret | {"key_id": "a b"}}
    yield "nobody", value | {"encryption": secret | {"recipients": []}}
    yield "too many", value | {"encryption": secret | {"recipients": secret["recipients"] * 9}}
    yield "no recipient", value | {"encryption": secret | {"recipients": ["age1abc"]}}
    yield "a member more", value | {"encryption": secret | {"more": 1}}
    yield "a list", value | {"encryption": [secret]}
    yield "a plain form", value | {"forms": [plain]}
    yield "no whole form", value | {"forms": value["forms"][1:]}
    yield "not said", {name: each for name, each in value.items() if name != "encryption"}


def test_a_damaged_record_is_refused(desk: Desk) -> None:
    """A record that says wrong things of encryption is a fault of the plan, and stops an upload."""
    desk.upload()
    record = desk.record.read_text()
    for what, value in damaged(json.loads(record)):
        text = json.dumps(value, indent=2, sort_keys=True) + "\n"
        desk.record.write_text(text)
        assert written_record(text) is None, what
        assert desk.read().plan is None, what
        with pytest.raises(UploadError, match="Take it from Git again"):
            desk.upload()
    desk.record.write_text(record)
    assert desk.upload().recorded is False


def test_no_secret_is_shown_in_the_plan_s_faults(desk: Desk) -> None:
    """The sentence about an identity in the plan does not repeat it."""
    secret: Identity = KEYS["k1"]
    text = f"app: {APP}\nencryption: [{{key: k1, recipient: {secret.secret}}}]\n"
    (desk.plan / "apps/coffee.yaml").write_text(text)
    assert not any(secret.secret in each for each in desk.said())
