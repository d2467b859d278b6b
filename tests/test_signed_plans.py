"""A plan that names keys offers what they signed, and upload writes down nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compiler.diagnostic import render
from compiler.language.faults import Faults
from compiler.language.package_record import RECORD, written_record
from compiler.language.reading import Reading, read_files, read_folder
from compiler.language.tree import parse
from compiler.packaging.claims import SignatureError
from compiler.packaging.package_file import read_package
from compiler.packaging.package_key import SigningKey, generate
from compiler.packaging.package_signature import MOST_SIGNATURES, read_signature
from compiler.packaging.signature_file import beside, read_texts
from compiler.packaging.signing import Signed, sign_package
from compiler.packaging.upload import Uploaded, upload_all
from compiler.packaging.upload_fault import UploadRefusedError
from compiler.storage.store import open_store

NOW = 1_790_000_000
ANN, BEN, EVE = (generate("EdDSA", name) for name in ("ann", "ben", "eve"))
CLIENTS = {"android": ">=10.2.0"}
APP = (
    "app: tea\npackages: [{{version: 1.0{clients}}}, {{version: 0.9}}]\nreleases:\n"
    "  - {{id: stable, package: 1.0, audience: everyone, state: {state}}}\n"
    "  - {{id: old, package: 0.9, audience: everyone, state: ended}}\n"
)


class Desk:
    """A developer's desk: a plan, a store, and one file, which is version 1.0 of tea."""

    def __init__(self, folder: Path) -> None:
        self.plan = folder / "plan"
        (self.plan / "apps").mkdir(parents=True)
        self.store = open_store(str(folder / "store"))
        self.file = folder / "tea.js"
        self.file.write_bytes(b"tea")
        self.trust()
        self.app()

    def trust(self, *keys: SigningKey) -> None:
        """Name the keys of the plan."""
        self.keys = [key.public for key in keys]
        lines = "".join(f"  {key.line}\n" for key in self.keys)
        (self.plan / "workspace.yaml").write_text(
            "workspace: demo\n" + (f"keys:\n{lines}" if keys else "")
        )

    def app(self, clients: str = "", state: str = "live") -> None:
        """Write the app's file."""
        text = APP.format(clients=clients, state=state)
        (self.plan / "apps" / "tea.yaml").write_text(text)

    def sign(self, key: SigningKey, clients: dict[str, str] | None = None, at: int = 7) -> Signed:
        """Sign the file as it is now."""
        package = read_package(self.file, "tea", "1.0")
        return sign_package(package, key, created=at, clients=clients)

    def upload(self, **changed: Any) -> Uploaded:
        """Upload the file with what signatures lie beside it."""
        usual = {"app": "tea", "version": "1.0", "plan": self.plan, "store": self.store}
        return upload_all([self.file], keys=self.keys, **(usual | changed))[0]

    @property
    def record(self) -> Path:
        """The file's record."""
        return self.plan / "packages" / "tea" / "1.0.json"

    def signers(self) -> list[str]:
        """Give the key ids of the record's signatures."""
        found = json.loads(self.record.read_text())["signatures"]
        return [read_signature(text).key_id for text in found]

    def change(self, **members: Any) -> None:
        """Change the record by hand."""
        value = json.loads(self.record.read_text()) | members
        text = json.dumps({k: v for k, v in value.items() if v is not None}, indent=2)
        self.record.write_text(text)

    def validate(self) -> Reading:
        """Read the plan."""
        return read_folder(self.plan, now=NOW)

    def errors(self) -> list[str]:
        """Give what stops a push."""
        return [one.message for one in self.validate().diagnostics if one.severity == "error"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Set up a desk."""
    return Desk(tmp_path)


def test_a_signed_package_is_offered(desk: Desk) -> None:
    """Signed, uploaded and valid: the plan carries keys, signatures and the signed range."""
    desk.trust(ANN)
    desk.sign(ANN, CLIENTS)
    done = desk.upload()
    assert done.recorded and "signed by 1 key) is uploaded" in done.message
    plan = desk.validate().plan
    assert plan is not None
    assert [key.name for key in plan.workspace.keys] == ["ann"]
    package = plan.apps[0].packages[0]
    assert package.record is not None
    assert [read_signature(text).key_id for text in package.record.signatures] == [ANN.public.id]
    assert package.clients is not None and list(package.clients) == ["android"]


def test_a_signed_record_reads_the_same_both_ways(desk: Desk) -> None:
    """The short way to read what upload wrote says what the long way says, and takes no less."""
    desk.sign(ANN, {"android": ">=10.2.0 <11", "iOS": ">=1"})
    desk.sign(BEN, {"android": ">=10.2.0 <11", "iOS": ">=1"})
    desk.upload()
    text = desk.record.read_text()
    quick = written_record(text)
    assert quick is not None and quick.clients is not None
    faults = Faults()
    node = parse("record.json", text, faults)
    assert node is not None
    assert RECORD.read(node, faults) == quick
    assert not faults.found
    for wrong in (
        text.replace(">=1", "any"),
        text.replace(">=10.2.0 <11", ">=11 <11"),  # of which validate warns
        text.replace('"iOS"', '"ANDROID"'),
        text.replace('"format": 1', '"format": 2'),
        text.replace('"identity"', '"lzma"'),
        text.replace('"size": 3', '"size": 3.0'),
        text.replace('"size": 3', '"size": true'),
        text.replace("eyJ", "eyJ ", 1),
        text.replace("files/", "../", 1),
        text.replace("\n", "\r\n"),
        text + "\n",
    ):
        assert wrong != text
        assert written_record(wrong) is None


def change_digest(desk: Desk) -> None:
    """Give the record another SHA-256, in every place."""
    value = json.loads(desk.record.read_text())
    desk.record.write_text(desk.record.read_text().replace(value["sha256"], "ab" * 32))


def change_size(desk: Desk) -> None:
    """Give the record another size, in every place."""
    desk.record.write_text(desk.record.read_text().replace('"size": 3', '"size": 4'))


def signed_as(desk: Desk, version: str) -> str:
    """Sign the file as another version."""
    beside(desk.file).unlink()
    package = read_package(desk.file, "tea", version)
    return sign_package(package, ANN, created=7, clients=CLIENTS).signature.text


REFUSED: dict[str, tuple[Callable[[Desk], object], str]] = {
    "unsigned": (lambda desk: desk.change(signatures=[]), "it is not signed. Sign the package's"),
    "another file": (change_size, "it is for a file of 3 bytes, and this one has 4"),
    "another digest": (change_digest, "it is for other bytes"),
    "wider for all": (lambda desk: desk.change(clients=None), "its clients are not those that"),
    "wider range": (
        lambda desk: desk.change(clients={"android": ">=1"}),
        "its clients are not those that were signed. Take the record from Git again; or sign",
    ),
    "other platform": (
        lambda desk: desk.change(clients=CLIENTS | {"ios": ">=1"}),
        "its clients are not those",
    ),
    "other key": (lambda desk: desk.trust(EVE), "no trusted key has signed it, only"),
    "junk beside": (
        lambda desk: desk.change(signatures=[desk.sign(ANN, CLIENTS).signature.text, "a.b.c"]),
        "signature 2, by nobody known, cannot be used: it is not written in base64url",
    ),
    "another version": (
        lambda desk: desk.change(signatures=[signed_as(desk, "1.0.1")]),
        "by ann, cannot be used: it is for version 1.0.1, not 1.0.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_signed_as_recorded_is_refused(desk: Desk, kind: str) -> None:
    """An error at the package's line names the record, what is wrong, and the mend."""
    desk.trust(ANN)
    desk.sign(ANN, CLIENTS)
    desk.upload()
    assert desk.errors() == []
    change, message = REFUSED[kind]
    change(desk)
    reading = desk.validate()
    assert reading.plan is None
    assert any(message in error for error in desk.errors()), desk.errors()
    shown = render(reading.diagnostics, reading.sources)
    assert "apps/tea.yaml:2:22: error: 1.0 is on offer, and its record, packages/tea/1.0" in shown


def test_only_what_is_on_offer_is_asked_for(desk: Desk) -> None:
    """An ended release and a withdrawn package need no signature; a paused release does."""
    desk.upload()
    desk.trust(ANN)
    for state, errors in (("live", 1), ("paused", 1), ("ended", 0)):
        desk.app(state=state)
        assert len(desk.errors()) == errors, state
    desk.app(clients=", withdrawn: true")
    assert desk.errors() == []
    desk.app()
    desk.trust()
    assert desk.errors() == []


def test_a_published_plan_is_not_asked_again(desk: Desk) -> None:
    """An epoch's own text is read without verifying: it was, when it was pushed."""
    desk.upload()
    desk.trust(ANN)
    assert desk.validate().plan is None
    files = {str(p.relative_to(desk.plan)): p.read_text() for p in desk.plan.rglob("*.*")}
    assert read_files(files, now=NOW).plan is not None


def test_an_app_narrows_what_was_signed_and_never_widens_it(desk: Desk) -> None:
    """The app file may narrow the signed range; wider is an error."""
    desk.trust(ANN)
    desk.sign(ANN, CLIENTS)
    desk.upload()
    desk.app(clients=', clients: {android: ">=10.3"}')
    assert desk.errors() == []
    desk.app(clients=', clients: {android: ">=10.1"}')
    assert ["wider than the one that was signed" in error for error in desk.errors()] == [True]
    desk.app(clients=', clients: {ios: ">=10.3"}')
    assert ["not among the platforms that were signed" in e for e in desk.errors()] == [True]


def test_keys_rotate(desk: Desk) -> None:
    """Another key signs the same bytes, the first one leaves the plan, and all stays valid."""
    desk.trust(ANN)
    desk.sign(ANN)
    desk.upload()
    before = json.loads(desk.record.read_text())
    desk.sign(BEN)
    done = desk.upload()
    assert done.recorded and not done.stored
    assert desk.signers() == sorted([ANN.public.id, BEN.public.id])
    after = json.loads(desk.record.read_text())
    assert after | {"signatures": None} == before | {"signatures": None}
    desk.trust(ANN, BEN)
    assert desk.errors() == []
    desk.trust(BEN)
    assert desk.errors() == []
    assert not desk.upload().recorded
    beside(desk.file).unlink()
    assert not desk.upload().recorded  # what the record has is enough
    desk.sign(BEN, at=8)
    assert desk.upload().recorded
    assert desk.signers() == sorted([ANN.public.id, BEN.public.id])


def test_two_uploads_at_once_keep_both_signatures(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another upload has recorded meanwhile is merged, not written over."""
    put, others = desk.store.put_file, [BEN]

    def meanwhile(*arguments: Any, **named: Any) -> None:
        if others:
            beside(desk.file).unlink()
            desk.sign(others.pop())
            desk.upload()
        put(*arguments, **named)

    desk.sign(ANN)
    monkeypatch.setattr(desk.store, "put_file", meanwhile)
    desk.upload()
    assert desk.signers() == sorted([ANN.public.id, BEN.public.id])


def test_upload_refuses_what_is_not_signed_as_it_must_be(desk: Desk) -> None:
    """Unsigned, signed by a stranger, as another file or for other hosts: nothing is written."""
    desk.trust(ANN)
    with pytest.raises(UploadRefusedError, match=r"tea 1\.0 is refused: it is not signed"):
        desk.upload()
    desk.sign(EVE)
    with pytest.raises(UploadRefusedError, match=f"no trusted key .* only {EVE.public.id}"):
        desk.upload()
    desk.sign(ANN)
    with pytest.raises(UploadRefusedError, match=r"it is for version 1\.0, not 1\.1"):
        desk.upload(version="1.1")
    with pytest.raises(UploadRefusedError, match="it is for app tea, not coffee"):
        desk.upload(app="coffee")
    desk.file.write_bytes(b"TEA")
    with pytest.raises(UploadRefusedError, match="it is for other bytes"):
        desk.upload()
    beside(desk.file).write_text("a.b\n")
    with pytest.raises(UploadRefusedError, match="to be uploaded cannot be used: it has 2 parts"):
        desk.upload()
    assert not desk.record.exists()
    assert desk.store.list_named() == []


def test_without_keys_claims_must_still_be_so(desk: Desk) -> None:
    """A plan without keys takes unsigned files, and signed ones whose claims are true."""
    assert desk.upload().recorded
    desk.sign(EVE, CLIENTS)
    assert desk.upload().recorded
    assert json.loads(desk.record.read_text())["clients"] == CLIENTS
    beside(desk.file).unlink()
    desk.sign(ANN)
    with pytest.raises(UploadRefusedError, match="differ about the host apps"):
        desk.upload()
    assert desk.signers() == [EVE.public.id]


def test_signing_again_replaces_a_key_s_own_line(desk: Desk) -> None:
    """FILE.jws has one line a key, in the order in which keys came, and all of one mind."""
    desk.sign(ANN)
    desk.sign(BEN)
    again = desk.sign(ANN, at=8)
    assert (again.keys, again.replaced) == (2, True)
    texts = read_texts(again.path)
    assert texts is not None
    assert [read_signature(text).claims.created for text in texts] == [8, 7]
    with pytest.raises(SignatureError, match=r"do not go together: .* differ about the host apps"):
        desk.sign(ANN, CLIENTS)
    desk.file.write_bytes(b"other")
    with pytest.raises(SignatureError, match=r"it is for a file of 3 bytes.*delete that file"):
        desk.sign(ANN)
    assert read_texts(again.path) == texts
    again.path.write_text("junk\n")
    with pytest.raises(SignatureError, match=r"Signature 1 in .*tea\.js\.jws cannot be used"):
        desk.sign(ANN)
    again.path.write_text("a.b.c\n" * (MOST_SIGNATURES + 1))
    with pytest.raises(SignatureError, match="is no file of signatures"):
        desk.sign(ANN)
    with pytest.raises(SignatureError, match="cannot be read"):
        read_texts(desk.plan)


def test_a_package_has_a_few_signatures(desk: Desk) -> None:
    """Every answer carries all of them, so their number is bounded: in file, upload and record."""
    for number in range(MOST_SIGNATURES):
        desk.sign(generate("EdDSA", f"key-{number}"))
    desk.upload()
    assert desk.errors() == []
    with pytest.raises(SignatureError, match="would have over 32 signatures"):
        desk.sign(ANN)
    beside(desk.file).unlink()
    more = desk.sign(ANN).signature.text
    with pytest.raises(UploadRefusedError, match="would have 33 signatures, and 32 may be"):
        desk.upload()
    desk.change(signatures=[more, *json.loads(desk.record.read_text())["signatures"]])
    assert any("at most 32 may stand here" in error for error in desk.errors())


@pytest.mark.parametrize("clients", [{}, {"ios": "any"}, {"ios": ">=1", "IOS": ">=2"}, {"": ">=1"}])
def test_no_nonsense_is_signed(desk: Desk, clients: dict[str, str]) -> None:
    """A range that a plan could not read is refused before it is signed."""
    with pytest.raises(SignatureError, match=r"tea\.js cannot be signed so: its clients"):
        desk.sign(ANN, clients)
    assert not beside(desk.file).exists()
